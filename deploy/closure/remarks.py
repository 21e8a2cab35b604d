"""What a closed closure should tell the person who keeps it: host requirements, yanked pins, pre-releases. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from deploy.wire.names import Sha256

from . import native
from .chains import reasons
from .model import Archive
from .proof import Closed


def remarks(closed: Closed) -> tuple[str, ...]:
    """One line for each host requirement with the archives that have it, and for each yanked or pre-release pin."""
    return (*map(str, host_needs(closed)), *_withdrawn(closed, _archives(closed)))


@dataclass(frozen=True)
class HostNeed:
    """Something that hosts need to build source archives. ``users`` are those that fail without it, by digest.

    ``programs``: of each group one must be on the host's PATH; ``headers``: Python's own must be there.
    """

    text: str
    programs: tuple[tuple[str, ...], ...]
    headers: bool
    users: Mapping[Sha256, str]
    optional: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = [*self.users.values(), *(f"{label} (optional)" for label in self.optional)]
        return f"hosts need {self.text} for: {', '.join(sorted(set(named)))}"

    def to_json(self) -> dict[str, Any]:
        """As a host is asked about it."""
        return {
            "text": self.text,
            "programs": [list(group) for group in self.programs],
            "headers": self.headers,
            "users": dict(self.users),
        }


def host_needs(closed: Closed) -> list[HostNeed]:
    """List what hosts need to build source archives: compilers, then libraries."""
    users: defaultdict[str, dict[Sha256, str]] = defaultdict(dict)
    optional: defaultdict[str, list[str]] = defaultdict(list)
    for archive in _archives(closed):
        if archive.kind != "sdist":
            continue
        read = native.of(archive.name, closed.known[archive.file].native)
        for need in (native.COMPILERS[language] for language in read.languages):
            if read.optional:
                optional[need].append(archive.label)
            else:
                users[need][archive.sha256] = archive.label
        if archive.name in native.LIBRARIES:
            users[native.LIBRARIES[archive.name]][archive.sha256] = archive.label
    compilers = list(native.COMPILERS.values())
    order = sorted({*users, *optional}, key=lambda need: (need not in compilers, need))
    return [
        HostNeed(need, native.programs(need), "Python's headers" in need, users[need], tuple(optional[need]))
        for need in order
    ]


def _archives(closed: Closed) -> list[Archive]:
    return [closed.lock.archives[file] for file in sorted(closed.lock.archives)]


def _withdrawn(closed: Closed, archives: Iterable[Archive]) -> list[str]:
    """Name pins that the index had yanked when they were locked (PEP 592), and pre-releases, each with who asks."""
    found: list[str] = []
    for archive in archives:
        if archive.yanked:
            found.append(f"yanked: {archive.label}: {archive.yanked}{_asked_by(closed, archive)}")
        if Version(archive.version).is_prerelease:
            found.append(f"pre-release: {archive.label}{_asked_by(closed, archive)}")
    return found


def _asked_by(closed: Closed, archive: Archive) -> str:
    for target in closed.lock.targets:
        for chain in reasons(closed.lock, target, closed.roots, closed.known).get(archive.name, ()):
            if chain.endswith(f": {archive.version}"):
                return f"; {chain.rpartition(': ')[0]}"
    return ""
