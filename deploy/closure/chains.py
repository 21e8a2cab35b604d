"""Finds the holes in one locked target: every requirement, run-time or build-time, that no archive meets. No I/O.

Each hole is one line, a chain from what a person asked for to what is not there::

    celery 5.7.0 -> python-dateutil 2.9.0 [build] -> setuptools-scm <8: not in vendor/ (have 10.3.4)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from packaging.markers import UndefinedComparison
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .lines import Root
from .metadata import BuildSystem, Metadata
from .model import Archive, Lock, LockTarget, Loop, dependency_order
from .target import is_pure

TOOLCHAIN_ROOTS = ("pip", "virtualenv")
Chain = tuple[str, ...]


def holes(lock: Lock, target: LockTarget, roots: Sequence[Root], known: Mapping[str, Metadata]) -> list[str]:
    """List every break of one target's closure. ``known`` is what the readable archives say of themselves.

    An archive that ``known`` lacks is one already reported as missing or damaged; the lock's record stands in
    for it, so that what lies behind it is reported in the same run.
    """
    search = _Search(lock, target, known)
    search.installed(roots)
    search.toolchain()
    search.builds()
    search.archives()
    return search.found()


def reasons(
    lock: Lock, target: LockTarget, roots: Sequence[Root], known: Mapping[str, Metadata]
) -> Mapping[str, list[str]]:
    """By package, every requirement of one target that asks for it, each behind the shortest chain to who states it::

    requirements/app.in:3 -> celery >=5: 5.7.0
    requirements/app.in:3 -> celery 5.7.0 -> python-dateutil 2.9.0 [build] -> setuptools-scm <8: 7.1.0
    """
    search = _Search(lock, target, known)
    search.installed(roots)
    search.toolchain()
    search.builds()
    return search.met()


@dataclass(frozen=True)
class _Want:
    """One requirement and the chain that leads to it; ``where`` places the line of a person that it starts at."""

    chain: Chain
    requirement: Requirement
    where: str = ""


class _Search:
    """One walk over one target; collects lines, decides nothing else."""

    def __init__(self, lock: Lock, target: LockTarget, known: Mapping[str, Metadata]) -> None:
        self._lock = lock
        self._target = target
        self._known = known
        self._rules = target.rules
        self._lines: dict[str, None] = {}
        self._reached: dict[str, tuple[Chain, str]] = {}
        self._met: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._versions: defaultdict[str, list[str]] = defaultdict(list)
        for archive in lock.archives.values():
            if archive.version not in self._versions[archive.name]:
                self._versions[archive.name].append(archive.version)

    def found(self) -> list[str]:
        several = len(self._lock.targets) > 1
        return [f"{self._target.name}: {line}" if several else line for line in self._lines]

    def met(self) -> dict[str, list[str]]:
        return {name: list(lines) for name, lines in self._met.items()}

    def installed(self, roots: Sequence[Root]) -> None:
        """Walk the run-time closure from what people wrote."""
        pins = self._by_name(self._target.install, ())
        wants = [_Want((), root.requirement, root.where) for root in roots if self._rules.applies(root.requirement)]
        self._walk(pins, wants)

    def toolchain(self) -> None:
        """Walk the toolchain: pip, virtualenv and what they need, all pure wheels run from the archive."""
        chain = ("toolchain",)
        tools = self._by_name(self._target.toolchain, chain)
        self._walk(tools, [_Want(chain, Requirement(name)) for name in TOOLCHAIN_ROOTS])
        for archive in tools.values():
            if archive.kind != "wheel" or not is_pure(archive.file):
                self._add(chain, f"{archive.file}: must be a pure wheel, it is run from the archive")

    def builds(self) -> None:
        """Walk the build environment of every sdist, and look for sdists that need each other to be built."""
        sdists = sorted(file for file in self._target.files if self._lock.archives[file].kind == "sdist")
        # Breadth first from the run-time closure, so that a chain to a nested build tool is the shortest one.
        waiting = [file for file in self._target.install if file in sdists]
        waiting += [file for file in sdists if file not in waiting]
        for file in waiting:
            self._build(file)
        builds = {file: self._target.builds[file].environment for file in sdists if file in self._target.builds}
        try:
            dependency_order(sdists, builds, loops_allowed=False)
        except Loop as loop:
            path = " -> ".join(self._lock.archives[file].label for file in loop.path)
            self._lines[f"{path}: each is needed to build the next; lock one as a wheel ('# policy: NAME wheel')"] = (
                None
            )

    def archives(self) -> None:
        """Judge every archive alone: does this target's Python and platform accept it?"""
        for file in sorted(self._target.files):
            archive = self._lock.archives[file]
            metadata = self._known.get(file)
            asked = metadata.requires_python if metadata else archive.requires_python
            if asked and not self._rules.fits_python(asked):
                self._add((), f"{file}: requires Python {asked}; the target has {self._target.python_full}")
            if archive.kind == "wheel" and self._rules.wheel_rank(file) is None:
                self._add((), f"{file}: does not fit {self._target.name} with {self._target.libc}")

    def _build(self, file: str) -> None:
        archive = self._lock.archives[file]
        above, where = self._reached.get(file, ((), ""))
        chain = (*above, f"{archive.label} [build]")
        build = self._target.builds.get(file)
        if build is None:
            self._add(chain, "its build environment is not locked")
            return
        metadata = self._known.get(file)
        system = metadata.build if metadata and metadata.build else BuildSystem(build.static)
        needs = [self._requirement(text, chain) for text in (*system.requires, *build.dynamic)]
        wants = [_Want(chain, need, where) for need in needs if need and self._rules.applies(need)]
        self._walk(self._by_name(build.environment, chain), wants)

    def _walk(self, pins: Mapping[str, Archive], wants: Sequence[_Want]) -> None:
        """Meet each requirement from ``pins``, then the requirements of what met it, extras included."""
        seen: set[tuple[str, str]] = set()
        queue = list(wants)
        for want in queue:
            archive = self._meet(pins, want)
            if archive is None:
                continue
            below = (*want.chain, archive.label)
            self._reached.setdefault(archive.file, (want.chain, want.where))
            for extra in ("", *sorted(want.requirement.extras)):
                if (archive.file, extra) not in seen:
                    seen.add((archive.file, extra))
                    queue += [_Want(below, need, want.where) for need in self._needs(archive, extra, below)]

    def _meet(self, pins: Mapping[str, Archive], want: _Want) -> Archive | None:
        requirement = want.requirement
        name = canonicalize_name(requirement.name)
        chain = want.chain or (want.where,)
        if requirement.url:
            self._add((*chain, name), f"asks for {requirement.url}; nothing but vendor/ is used")
            return pins.get(name)
        archive = pins.get(name)
        asked = f"{name} {requirement.specifier}".strip()
        if archive is not None and requirement.specifier.contains(archive.version, prereleases=True):
            whole = (want.where,) if want.where else ()
            self._met[name][" -> ".join((*whole, *want.chain, asked)) + f": {archive.version}"] = None
            return archive
        have = sorted(self._versions[name], key=Version)
        if any(requirement.specifier.contains(version, prereleases=True) for version in have):
            problem = "in vendor/, but not locked for this place"
        else:
            problem = "not in vendor/"
        self._add((*chain, asked), problem + (f" (have {', '.join(have)})" if have else ""))
        return None

    def _needs(self, archive: Archive, extra: str, chain: Chain) -> list[Requirement]:
        """List what an archive needs on this target for one extra; for none, what it always needs."""
        metadata = self._known.get(archive.file)
        texts = archive.requires if metadata is None or metadata.requires is None else metadata.requires
        needs = [need for text in texts if (need := self._requirement(text, chain))]
        plain = [need for need in needs if self._rules.applies(need)]
        if not extra:
            return plain
        return [need for need in needs if need not in plain and self._rules.applies(need, [extra])]

    def _requirement(self, text: str, chain: Chain) -> Requirement | None:
        try:
            need = _parsed(text)
            self._rules.applies(need)
        except InvalidRequirement:
            self._add(chain, f"states a requirement that cannot be read: {text!r}")
            return None
        except UndefinedComparison:
            self._add(chain, f"states a marker that cannot be judged: {text!r}")
            return None
        return need

    def _by_name(self, files: Iterable[str], chain: Chain) -> dict[str, Archive]:
        found: dict[str, Archive] = {}
        for file in files:
            archive = self._lock.archives[file]
            if archive.name in found:
                other = found[archive.name].file
                self._add(chain, f"{other} and {file} are one package ({archive.name}); only one can be installed")
            found[archive.name] = archive
        return found

    def _add(self, chain: Chain, problem: str) -> None:
        self._lines[" -> ".join(chain) + (": " if chain else "") + problem] = None


@cache
def _parsed(text: str) -> Requirement:
    """Read a requirement once: the same texts come back for every build environment of every target."""
    return Requirement(text)
