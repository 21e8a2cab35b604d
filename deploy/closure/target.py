"""One target as packaging rules see it: marker environment (PEP 508), wheel tags (PEP 425, 600, 656), Python version.

Judges for the target, never for the machine it runs on.
"""

from __future__ import annotations

import platform as machine_here
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from deploy.errors import Refused

DEFAULT_LIBC = "glibc 2.28"
"""Assumed where nothing is declared: manylinux_2_28 is Debian 10, RHEL 8, Ubuntu 20.04 and newer."""
_FIRST_GLIBC = {"x86_64": 5, "i686": 5}
_LEGACY = {"manylinux2014": (17, None), "manylinux2010": (12, "x86_64"), "manylinux1": (5, "x86_64")}
_EXTRA = re.compile(r'extra\s*==\s*"([^"]+)"')
_DECLARED = re.compile(
    r"(?P<python>3\.[0-9]+)(?P<micro>\.[0-9]+)?"
    r"(-(?P<libc>linux|manylinux_2_[0-9]+|musllinux_1_[0-9]+)_(?P<machine>[a-z0-9_]+))?"
)


@dataclass(frozen=True)
class Declared:
    """One target as settings declare it; what is left out is empty, and any answer to it will do."""

    python: str
    python_full: str = ""
    platform: str = ""
    libc: str = ""

    def admits(self, python: str, python_full: str, platform: str, libc: str) -> bool:
        """Tell whether a locked target is the declared one."""
        asked = (self.python, self.python_full, self.platform, self.libc)
        return all(
            not want or want == have for want, have in zip(asked, (python, python_full, platform, libc), strict=True)
        )

    def __str__(self) -> str:
        return "-".join(word for word in (self.python_full or self.python, self.platform, self.libc) if word)


def declared(texts: Iterable[str]) -> tuple[Declared, ...]:
    """Read targets as settings write them: ``3.11.2``, ``3.12-linux_aarch64``, ``3.12-manylinux_2_34_x86_64``.

    The platform is a wheel's platform tag: it names the newest glibc (PEP 600) or musl (PEP 656) that a wheel may ask
    for. Raises Refused for what is none, and for two that a host could not tell apart. Sorted: oldest Python first.
    """
    if isinstance(texts, str):
        raise TypeError("several targets were expected, not one text")  # whose letters would be taken for targets
    found: dict[tuple[str, str], Declared] = {}
    for text in texts:
        match = _DECLARED.fullmatch(text)
        if match is None:
            raise _refused(
                f"{text!r} is no target", "targets read 3.11, 3.12-linux_aarch64, 3.12-manylinux_2_34_x86_64"
            )
        platform = f"linux_{match['machine']}" if match["machine"] else ""
        full = f"{match['python']}{match['micro']}" if match["micro"] else ""
        one = Declared(match["python"], full, platform, _libc(match["libc"] or ""))
        twin = next((d for d in found.values() if d.python == one.python and _overlap(d.platform, platform)), None)
        if twin:
            raise _refused(f"{twin} and {one} are one target to a host", "name each Python and processor once")
        found[one.python, one.platform] = one
    return tuple(found[key] for key in sorted(found, key=lambda key: (Version(key[0]), key[1])))


def platform_here() -> str:
    """Give the platform of a target that names none: this machine's processor."""
    return f"linux_{machine_here.machine()}"


class TargetRules:
    """What holds on one target."""

    def __init__(self, python: str, python_full: str, platform: str, libc: str = DEFAULT_LIBC) -> None:
        self.python = python
        self.python_full = python_full
        self.platform = platform
        self.libc = libc

    @cached_property
    def markers(self) -> dict[str, str]:
        """The marker environment of CPython on Linux there. Kernel release and version are left empty: unknown."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python_full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python_full,
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def name(self) -> str:
        return f"python{self.python}-{self.platform}"

    @property
    def machine(self) -> str:
        return self.platform.partition("_")[2]

    def platforms(self) -> list[str]:
        """List the platform tags that wheels may carry there, best first: no newer libc than the target's."""
        kind, _, version = self.libc.partition(" ")
        newest = int(version.split(".")[1])
        if kind == "musl":
            return [*(f"musllinux_1_{minor}_{self.machine}" for minor in range(newest, -1, -1)), self.platform]
        found: list[str] = []
        for minor in range(newest, _FIRST_GLIBC.get(self.machine, 17) - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            found += [
                f"{legacy}_{self.machine}"
                for legacy, (at, only) in _LEGACY.items()
                if at == minor and only in (None, self.machine)
            ]
        return [*found, self.platform]

    @cached_property
    def tags(self) -> dict[Tag, int]:
        """Every wheel tag that fits, with its rank: lower is better."""
        version = (int(self.python.split(".")[0]), int(self.python.split(".")[1]))
        interpreter = f"cp{version[0]}{version[1]}"
        platforms = self.platforms()
        fitting = [
            # Without ABIs named, packaging asks the Python it runs on whether it is a debug or free-threaded build.
            *cpython_tags(python_version=version, abis=[interpreter], platforms=platforms),
            *compatible_tags(python_version=version, interpreter=interpreter, platforms=platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(fitting)))}

    def wheel_rank(self, file: str) -> int | None:
        """Rank a wheel by its file name, lower is better; None where it does not fit."""
        _, _, _, tags = parse_wheel_filename(file)
        return min((self.tags[tag] for tag in tags if tag in self.tags), default=None)

    def fits_python(self, requires_python: str) -> bool:
        """Tell whether a Requires-Python lets this target's interpreter in. Unreadable ones let nobody in."""
        try:
            return SpecifierSet(requires_python).contains(Version(self.python_full), prereleases=True)
        except InvalidSpecifier:
            return False

    def applies(self, requirement: Requirement, extras: Iterable[str] = ()) -> bool:
        """Tell whether a requirement counts on this target, for these extras of the package that states it."""
        marker = requirement.marker
        if marker is None:
            return True
        try:
            return any(marker.evaluate({**self.markers, "extra": extra}) for extra in ("", *extras))
        except UndefinedEnvironmentName:
            return False


def extras_of(requirement: Requirement) -> list[str]:
    """Name the extras that a requirement's marker asks about (``; extra == "redis"``)."""
    return _EXTRA.findall(str(requirement.marker or ""))


def is_pure(file: str) -> bool:
    """Tell whether a wheel runs on any platform and Python build, by its file name."""
    _, _, _, tags = parse_wheel_filename(file)
    return all(tag.platform == "any" and tag.abi == "none" for tag in tags)


def marker_of(users: Sequence[tuple[str, str]], known: Sequence[tuple[str, str]]) -> str:
    """Say as a short marker (PEP 508) which of the ``known`` targets (Python, machine) are meant; empty for all.

    For installers that know no targets; it tells the known ones apart and says nothing of others.
    """
    if set(users) == set(known):
        return ""
    machines = sorted({machine for _, machine in known})
    pythons = sorted({python for python, _ in known}, key=Version)
    by_pythons: dict[tuple[str, ...], list[str]] = {}
    for machine in machines:
        mine = tuple(python for python in pythons if (python, machine) in users)
        if mine:
            by_pythons.setdefault(mine, []).append(machine)
    parts = [_product(mine, pythons, on, machines) for mine, on in by_pythons.items()]
    return " or ".join(f"({part})" if len(parts) > 1 and " or " in part else part for part in parts)


def _product(mine: Sequence[str], pythons: Sequence[str], on: Sequence[str], machines: Sequence[str]) -> str:
    parts = [_pythons(mine, pythons), "" if list(on) == list(machines) else _either("platform_machine", on)]
    parts = [part for part in parts if part]
    return " and ".join(f"({part})" if len(parts) > 1 and " or " in part else part for part in parts)


def _pythons(mine: Sequence[str], known: Sequence[str]) -> str:
    first, last = known.index(mine[0]), known.index(mine[-1])
    if last - first + 1 != len(mine):
        return _either("python_version", mine)
    if len(mine) == 1 and 0 < first < len(known) - 1:
        return f'python_version == "{mine[0]}"'
    lower = f'python_version >= "{mine[0]}"' if first > 0 else ""
    upper = f'python_version < "{known[last + 1]}"' if last < len(known) - 1 else ""
    return " and ".join(part for part in (lower, upper) if part)


def _either(name: str, values: Sequence[str]) -> str:
    return " or ".join(f'{name} == "{value}"' for value in values)


def _libc(tag: str) -> str:
    """``manylinux_2_34`` is ``glibc 2.34``; a plain ``linux`` says nothing of it."""
    kind, _, version = tag.partition("_")
    return {"manylinux": "glibc ", "musllinux": "musl "}[kind] + version.replace("_", ".") if version else ""


def _overlap(one: str, other: str) -> bool:
    return not one or not other or one == other


def _refused(why: str, step: str) -> Refused:
    return Refused("Nothing was changed.", why, f"correct `targets` in fabric.yaml: {step}")
