"""Writes the pins: ``requirements/NAME.in`` to ``NAME.txt`` and ``pylock.NAME.toml``. Uses the configured index.

Locking again without a change touches nothing and asks nobody. After a change the versions locked before are kept
wherever they still fit; ``upgrade`` lets go of them.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.errors import Refused
from deploy.events import Emit, Notice

from . import files, lines, lockfile, proof
from .archives import Chosen, Shelf
from .backends import Backends
from .builds import BuildClosure
from .index import Index, configuration
from .interpreter import FoundPython, find
from .model import Archive, Build, Lock, LockTarget, dependency_order
from .solve import Interpreter, Pin, Reached, Unsolvable, reach, solve_keeping
from .source import WorkTree
from .target import DEFAULT_GLIBC, TargetRules
from .toolchain import toolchain

_EXTRA = re.compile(r'extra\s*==\s*"([^"]+)"')


@dataclass(frozen=True)
class Locked:
    """What locking did. ``changed`` is False where nothing was written; ``changes`` reads ``django 5.1 -> 5.2``.

    ``new`` names the run-time packages that were not locked before; ``superseded`` the archives that no longer are.
    """

    lock: Lock
    changed: bool
    changes: tuple[str, ...]
    new: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()


def lock(
    root: Path,
    requirements: str,
    python: str,
    emit: Emit,
    *,
    upgrade: bool = False,
    let_go: Collection[str] = (),
    preferred: Sequence[str] = (),
) -> Locked:
    """Resolve ``requirements/NAME.in`` for one Python (``3.11``) and write the pins and the lock.

    ``upgrade`` lets go of every version locked before, ``let_go`` of those of some packages alone; ``preferred``
    (``django==5.2``) are kept like those locked before, and rather than those.
    Raises Refused for what a person must change (a bad line, a conflict, a build loop, no such Python here) and
    Failed where the index does not answer; then nothing was written.
    """
    asked = _asked(root, requirements)
    _require_ours(root, requirements)
    earlier = _earlier(root, requirements)
    if earlier and not upgrade and not let_go and not preferred and _still_holds(root, earlier, asked, python):
        return Locked(earlier, changed=False, changes=())
    found = find(python)
    for line in configuration():
        emit(Notice(f"pip's configuration in force: {line}"))
    with tempfile.TemporaryDirectory(prefix="sealed-deploy-lock-") as work:
        rules = TargetRules(python, found.full, found.platform, DEFAULT_GLIBC)
        with Index(rules) as index:
            making = _Making(asked, found, rules, Path(work), index=index, emit=emit)
            before = () if upgrade or earlier is None else _versions(earlier, let_go)
            fresh = making.lock(requirements, _preferring(preferred, before))
    folder = root / "requirements"
    wrote = files.write(folder / Path(lockfile.pins_path(requirements)).name, lockfile.write_pins(fresh))
    wrote |= files.write(folder / Path(lockfile.lock_path(requirements)).name, lockfile.write_lock(fresh))
    before = {archive.name for archive in earlier.run_time()} if earlier else set[str]()
    new = tuple(sorted({archive.name for archive in fresh.run_time()} - before))
    superseded = tuple(sorted(set(earlier.archives) - set(fresh.archives))) if earlier else ()
    return Locked(fresh, changed=wrote, changes=_changes(earlier, fresh), new=new, superseded=superseded)


class _Making:
    """One lock in the making, in a work folder of its own."""

    def __init__(
        self, asked: lines.Asked, found: FoundPython, rules: TargetRules, work: Path, *, index: Index, emit: Emit
    ) -> None:
        self._asked = asked
        self._found = found
        self._emit = emit
        self._work = work
        self._rules = rules
        archives = work / "archives"
        archives.mkdir()
        self._shelf = Shelf(index, rules, asked.policies, archives)

    def lock(self, requirements: str, preferred: Sequence[str]) -> Lock:
        """Resolve, choose archives, close the builds, and put it together."""
        tools = self._shelf.toolchain(toolchain(self._rules.python))
        interpreter = Interpreter(self._found.path, self._pip(tools), self._found.folders)
        pins = self._resolve(interpreter, preferred)
        by_name = {pin.name: pin for pin in pins}
        reached = reach([root.requirement for root in self._asked.roots], by_name, self._rules)
        run_time = dict(zip(pins, self._shelf.choose(pins), strict=True))
        self._emit(Notice(f"{len(pins)} run-time packages; closing their build environments"))
        backends = Backends(interpreter, self._shelf, self._work)
        closure = BuildClosure(interpreter, self._rules, self._shelf, backends, self._work)
        builds = closure.close(run_time, preferred)
        entries = [_archive(chosen, None, frozenset()) for chosen in tools]
        entries += [_archive(chosen, pin, frozenset()) for pin, chosen in closure.chosen().items()]
        entries += [_archive(chosen, pin, reached[pin.name].extras) for pin, chosen in run_time.items()]
        return Lock(
            requirements=requirements,
            roots=self._asked.spelled,
            overrides=self._asked.overrides,
            archives={entry.file: entry for entry in entries},
            targets=(self._target(run_time, reached, builds, tools),),
        )

    def _pip(self, tools: Iterable[Chosen]) -> Path:
        """Unpack the pinned pip: run from its wheel, it could not start the nested pips of build isolation."""
        wheel = next(chosen for chosen in tools if chosen.metadata.name == "pip")
        folder = self._work / "pip"
        with zipfile.ZipFile(wheel.path) as packed:
            packed.extractall(folder)
        return folder / "pip"

    def _resolve(self, interpreter: Interpreter, preferred: Sequence[str]) -> tuple[Pin, ...]:
        roots = [str(root.requirement) for root in self._asked.roots]
        try:
            pins, dropped = solve_keeping(interpreter, roots, self._work, preferred)
        except Unsolvable as error:
            raise Refused(
                "Nothing was locked.",
                "pip found no versions that answer the .in file (or no index that answers)",
                "change the requirements that pip names, then fab vendor.lock",
                problems=str(error).splitlines(),
            ) from None
        if dropped:
            self._emit(Notice(f"not kept, because they do not fit (any more): {', '.join(dropped)}"))
        return pins

    def _target(
        self,
        run_time: Mapping[Pin, Chosen],
        reached: Mapping[str, Reached],
        builds: Mapping[str, Build],
        tools: Iterable[Chosen],
    ) -> LockTarget:
        by_name = {pin.name: chosen.file for pin, chosen in run_time.items()}
        needs = {by_name[name]: tuple(sorted(by_name[need] for need in found.needs)) for name, found in reached.items()}
        return LockTarget(
            python=self._rules.python,
            python_full=self._found.full,
            platform=self._found.platform,
            glibc=self._rules.glibc,
            install=tuple(dependency_order(by_name.values(), needs, loops_allowed=True)),
            toolchain=tuple(sorted(chosen.file for chosen in tools)),
            needs={file: found for file, found in needs.items() if found},
            builds=builds,
        )


def _archive(chosen: Chosen, pin: Pin | None, extras: frozenset[str]) -> Archive:
    """Describe one archive for the lock; of its requirements, those that only unused extras want are left out."""
    found = chosen.metadata
    requires = pin.requires if pin else found.requires or ()
    return Archive(
        file=chosen.file,
        sha256=chosen.sha256,
        size=chosen.path.stat().st_size,
        name=found.name,
        version=found.version,
        requires=tuple(sorted(text for text in requires if _counts(Requirement(text), extras))),
        requires_python=found.requires_python or (pin.requires_python if pin else ""),
        reason=chosen.reason,
    )


def _counts(requirement: Requirement, extras: frozenset[str]) -> bool:
    named = _EXTRA.findall(str(requirement.marker or ""))
    return not named or any(canonicalize_name(extra) in extras for extra in named)


def _asked(root: Path, requirements: str) -> lines.Asked:
    path = lockfile.asked_path(requirements)
    file = root / path
    if not file.is_file():
        raise Refused("Nothing was locked.", f"{path} is missing", f"write what the project needs into {path}")
    asked = lines.read_asked(file.read_text(encoding="utf-8"), path)
    if asked.problems:
        raise Refused("Nothing was locked.", f"{path} cannot be locked", f"edit {path}", problems=asked.problems)
    return asked


def _require_ours(root: Path, requirements: str) -> None:
    """Refuse to write over what a person, or another tool, wrote."""
    for path in (lockfile.pins_path(requirements), lockfile.lock_path(requirements)):
        file = root / path
        text = file.read_bytes().strip() if file.is_file() else b""
        if text and not text.startswith(lockfile.GENERATED.encode()):
            raise Refused(
                "Nothing was locked.",
                f"{path} is in the way: the pins would be written there, and vendor.lock did not write what it holds",
                f"move {path} away, or set `requirements:` in fabric.yaml to another name than {requirements}",
            )


def _earlier(root: Path, requirements: str) -> Lock | None:
    try:
        return proof.read(WorkTree(root), requirements)
    except Refused:
        return None  # none yet, or one that this run replaces


def _still_holds(root: Path, earlier: Lock, asked: lines.Asked, python: str) -> bool:
    """Tell whether the lock on disk already answers the .in file, this Python and this library's toolchain."""
    target = earlier.targets[0]
    tools = {earlier.archives[file].name: earlier.archives[file].version for file in target.toolchain}
    pins = root / lockfile.pins_path(earlier.requirements)
    return (
        asked.spelled == earlier.roots
        and asked.overrides == earlier.overrides
        and [found.python for found in earlier.targets] == [python]
        and tools == toolchain(python)
        and pins.is_file()
        and pins.read_text(encoding="utf-8") == lockfile.write_pins(earlier)
    )


def _versions(lock: Lock, let_go: Collection[str]) -> tuple[str, ...]:
    """The versions to keep. Raises Refused for a package to let go of that is not locked."""
    known = {archive.name: archive.version for archive in lock.run_time()}
    names = {canonicalize_name(name) for name in let_go}
    for name in sorted(names - set(known)):
        from deploy.settings.section import did_you_mean  # ./bootstrap checks before there is a YAML reader

        why = f"{name} is no run-time package of requirements/{lock.requirements}{did_you_mean(name, known)}"
        raise Refused("Nothing was locked.", why, "fab vendor.upgrade NAME with a name that is pinned")
    return tuple(f"{name}=={version}" for name, version in known.items() if name not in names)


def _preferring(preferred: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
    named = {canonicalize_name(Requirement(text).name) for text in preferred}
    return (*preferred, *(text for text in before if text.partition("==")[0] not in named))


def _changes(earlier: Lock | None, fresh: Lock) -> tuple[str, ...]:
    before = {archive.name: archive.version for archive in earlier.run_time()} if earlier else {}
    after = {archive.name: archive.version for archive in fresh.run_time()}
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return tuple(f"{name} {before.get(name, '(new)')} -> {after.get(name, '(gone)')}" for name in names)
