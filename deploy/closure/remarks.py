"""What a closed closure should tell the person who keeps it: host requirements, yanked pins, pre-releases. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from packaging.version import Version

from . import native
from .chains import reasons
from .model import Archive
from .proof import Closed


def remarks(closed: Closed) -> tuple[str, ...]:
    """One line for each host requirement with the archives that have it, and for each yanked or pre-release pin."""
    archives = [closed.lock.archives[file] for file in sorted(closed.lock.archives)]
    return (*_host_needs(closed, archives), *_withdrawn(closed, archives))


def _host_needs(closed: Closed, archives: Iterable[Archive]) -> list[str]:
    """List what hosts need to build source archives, most common first: compilers, then libraries."""
    users: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for archive in archives:
        if archive.kind != "sdist":
            continue
        needs = native.of(archive.name, closed.known[archive.file].native)
        for language in needs.languages:
            users[native.COMPILERS[language]][archive.label + (" (optional)" if needs.optional else "")] = None
        if archive.name in native.LIBRARIES:
            users[native.LIBRARIES[archive.name]][archive.label] = None
    order = sorted(users, key=lambda need: (need not in native.COMPILERS.values(), need))
    return [f"hosts need {need} for: {', '.join(users[need])}" for need in order]


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
