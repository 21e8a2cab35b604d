"""Which run-time packages have newer versions on the configured index, and how far the locked bounds let them go.

Asks the index for lists of files alone: nothing is downloaded, built or resolved. What an upgrade really brings is
pip's to find, since another version of one package may bring other bounds for the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from . import proof
from .index import Index, IndexFile
from .model import Lock, LockTarget
from .source import WorkTree
from .target import TargetRules, extras_of


@dataclass(frozen=True)
class Standing:
    """One run-time package: the version locked, the newest that fits every target that installs it, and the newest
    that what is written and locked allows besides (requirements/NAME.in, and the packages that need it).
    """

    name: str
    locked: str
    within: str
    newest: str

    @property
    def behind(self) -> bool:
        return self.newest != self.locked


def outdated(root: Path, requirements: str) -> tuple[Standing, ...]:
    """Compare every run-time package of ``requirements/NAME`` with the index, sorted by name.

    Yanked versions (PEP 592) are passed over; pre-releases too, but for a package that is locked at one. Raises
    Refused without a lock, Failed where the index does not answer or knows nothing of a package.
    """
    lock = proof.read(WorkTree(root), requirements)
    locked: dict[str, Version] = {}
    for archive in lock.run_time():  # another target may hold another version: the oldest one tells
        version = Version(archive.version)
        locked[archive.name] = min(locked.get(archive.name, version), version)
    fitting: dict[str, frozenset[Version]] = {}
    bounds: defaultdict[str, SpecifierSet] = defaultdict(SpecifierSet)
    with Index(*(target.rules for target in lock.targets)) as index:
        offered = index.files(locked)
    for target in lock.targets:
        rules = target.rules
        for name in (lock.archives[file].name for file in target.install):
            versions = frozenset(_fitting(offered[name], rules))
            fitting[name] = fitting.get(name, versions) & versions
        for asked in _asked(lock, target, rules):
            bounds[canonicalize_name(asked.name)] &= asked.specifier
    return tuple(_standing(name, locked[name], fitting[name], bounds[name]) for name in sorted(locked))


def _standing(name: str, locked: Version, offered: Iterable[Version], bounds: SpecifierSet) -> Standing:
    newer = [one for one in offered if one > locked and (locked.is_prerelease or not one.is_prerelease)]
    allowed = [one for one in newer if bounds.contains(one, prereleases=True)]
    within, newest = max(allowed, default=locked), max(newer, default=locked)
    return Standing(name, str(locked), str(within), str(newest))


def _fitting(files: Iterable[IndexFile], rules: TargetRules) -> Iterable[Version]:
    """The versions of a package that one target could take."""
    for file in files:
        fits = not file.file.endswith(".whl") or rules.wheel_rank(file.file) is not None
        if fits and not file.yanked and (not file.requires_python or rules.fits_python(file.requires_python)):
            yield Version(file.version)


def _asked(lock: Lock, target: LockTarget, rules: TargetRules) -> Iterable[Requirement]:
    """Every run-time requirement that counts on one target: those that people wrote, and those of what is locked.

    A lock records of an archive's requirements what the extras in use want, so each extra it names is one in use.
    """
    texts = [*lock.roots, *(text for file in target.install for text in lock.archives[file].requires)]
    for text in texts:
        asked = Requirement(text)
        if rules.applies(asked, extras_of(asked)):
            yield asked
