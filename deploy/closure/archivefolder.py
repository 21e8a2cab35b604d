"""Reads a folder of archives (sdists and wheels) by their own metadata: what is asked for, at which versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from . import metadata, policy
from .adoptable import Adoptable, Pinned, unreadable
from .model import SDIST_SUFFIXES
from .solve import Pin, reach
from .target import TargetRules

SUFFIXES = (*SDIST_SUFFIXES, ".whl")
_FILES = ("pylock.toml", "requirements.txt", "pyproject.toml")
_TOOLCHAIN = ("pip", "virtualenv")
_OTHER_ARCHIVES = (".tgz", ".egg", ".exe", ".rpm", ".deb")


@dataclass(frozen=True)
class _Found:
    file: str
    metadata: metadata.Metadata

    @property
    def is_wheel(self) -> bool:
        return self.file.endswith(".whl")


def read(folder: Path, shown: str, rules: TargetRules) -> Adoptable:
    """Read every archive of a folder; those that no other needs, at run time or to be built, are asked for.

    Raises Refused where it holds none.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    archives, problems = _archives(folder, shown, [name for name in names if name.endswith(SUFFIXES)])
    problems += [
        f"{shown}/{name}: not an archive that pip installs" for name in names if name.endswith(_OTHER_ARCHIVES)
    ]
    if not archives and not problems:
        files = [f"fab vendor.adopt {folder / name}" for name in _FILES if (folder / name).is_file()]
        raise unreadable(
            shown, "holds no sdist and no wheel", " or ".join(files) or "name a folder that holds archives"
        )
    chosen, told = _newest(archives, shown)
    building, roots = _needed(chosen, rules)
    told.append(f"{shown}: {len(roots)} of {len(chosen)} packages are needed by no other: {', '.join(roots)}")
    if building:
        told.append(
            f"{shown}: taken for what only builds and installs need: {', '.join(building)}; fab vendor.add NAME for one"
            " that the application itself needs"
        )
    policies = [line for name, found in chosen.items() if (line := _policy(name, found, rules))]
    pins = {name: _pinned(shown, found[0]) for name, found in chosen.items()}
    return Adoptable(
        shown,
        lines=(*(pins[name].text for name in roots), *policies),
        pinned=tuple(pin for name, pin in pins.items() if name not in building),
        limits=tuple(pins[name].text for name in building),
        told=tuple(told),
        problems=tuple(problems),
    )


def _archives(folder: Path, shown: str, names: Iterable[str]) -> tuple[list[_Found], list[str]]:
    archives: list[_Found] = []
    problems: list[str] = []
    for name in names:
        try:
            metadata.named(name)
            archives.append(_Found(name, metadata.read(name, (folder / name).read_bytes())))
        except (metadata.BadArchive, OSError) as error:
            problems.append(f"{shown}/{name}: cannot be read: {error}")
    return archives, problems


def _newest(archives: Iterable[_Found], shown: str) -> tuple[dict[str, list[_Found]], list[str]]:
    """Group archives by name, the newest version of each, and tell where there are others."""
    versions: dict[str, dict[str, list[_Found]]] = {}
    for found in archives:
        versions.setdefault(found.metadata.name, {}).setdefault(found.metadata.version, []).append(found)
    newest = {name: max(versions[name], key=Version) for name in sorted(versions)}
    told = [
        f"{shown}: {name} lies there as {', '.join(sorted(found, key=Version))}; {newest[name]} is preferred"
        for name, found in sorted(versions.items())
        if len(found) > 1
    ]
    return {name: versions[name][version] for name, version in newest.items()}, told


def _pinned(shown: str, found: _Found) -> Pinned:
    return Pinned(f"{shown}/{found.file}", Requirement(f"{found.metadata.name}=={found.metadata.version}"))


def _needed(chosen: Mapping[str, Sequence[_Found]], rules: TargetRules) -> tuple[list[str], list[str]]:
    """Tell what only builds need, and what nobody needs: the roots. Of a loop that nobody needs, one is a root."""
    systems = [found.metadata.build for files in chosen.values() for found in files if found.metadata.build]
    wanted = [need for system in systems for need in _parsed(system.requires) if rules.applies(need)]
    needs = _needs(chosen, wanted, rules)
    tools = {*(canonicalize_name(need.name) for need in wanted), *_TOOLCHAIN} & set(chosen)
    building = _walk(tools, needs)
    roots = sorted(set(chosen) - {need for found in needs.values() for need in found} - tools)
    while left := sorted(set(chosen) - _walk(roots, needs) - building):
        roots = sorted([*roots, left[0]])
    return sorted(building - _walk(roots, needs)), roots


def _needs(
    chosen: Mapping[str, Sequence[_Found]], wanted: Iterable[Requirement], rules: TargetRules
) -> dict[str, set[str]]:
    """Whom each package needs directly, with the extras that others ask of it. Unknown requirements count as none."""
    texts = {name: tuple(map(str, _parsed(_stated(found)))) for name, found in chosen.items()}
    pins = {name: Pin(name, found[0].metadata.version, texts[name], "") for name, found in chosen.items()}
    reached = reach([*wanted, *map(Requirement, chosen)], pins, rules)
    return {name: set(found.needs) - {name} for name, found in reached.items()}


def _walk(start: Iterable[str], needs: Mapping[str, Iterable[str]]) -> set[str]:
    reached: dict[str, None] = dict.fromkeys(start)
    queue = list(reached)
    for name in queue:
        queue += [need for need in needs[name] if need not in reached]
        reached.update(dict.fromkeys(needs[name]))
    return set(reached)


def _stated(found: Sequence[_Found]) -> tuple[str, ...]:
    """What the archives of one version say that it needs: the first that says anything."""
    return next((one.metadata.requires for one in found if one.metadata.requires is not None), ())


def _parsed(texts: Iterable[str]) -> list[Requirement]:
    parsed: list[Requirement] = []
    for text in texts:
        try:
            parsed.append(Requirement(text))
        except InvalidRequirement:
            continue  # old metadata; the lock says so where it counts
    return parsed


def _policy(name: str, found: Sequence[_Found], rules: TargetRules) -> str:
    """Give the policy comment that makes the lock use the archives there are, where it would choose others."""
    wheels = [one for one in found if one.is_wheel and rules.wheel_rank(one.file) is not None]
    systems = [one.metadata.build for one in found if one.metadata.build]
    if wheels and not systems:
        return f"# policy: {name} wheel"
    if not wheels and systems and policy.foreign(name, systems[0].requires, rules):
        return f"# policy: {name} source"
    return ""
