"""What a new lock changed for a person who reviews it: versions, sizes of archives, licences. Offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import Refused

from . import proof
from .licensing import UNKNOWN
from .metadata import Metadata
from .source import WorkTree


@dataclass(frozen=True)
class Held:
    """One run-time package as locked and vendored, all its archives together. ``version`` lists several with commas."""

    version: str
    size: int
    licence: str


@dataclass(frozen=True)
class Holding:
    """The run-time packages of a lock by name, and the bytes of all files in ``vendor/``."""

    packages: Mapping[str, Held]
    vendor_bytes: int


@dataclass(frozen=True)
class Change:
    """One package before and after; None where it was not, or is no more."""

    name: str
    before: Held | None
    after: Held | None


def holding(root: Path, requirements: str) -> Holding:
    """Look at what is locked and vendored now; nothing without a lock, and no licence where vendor/ is not whole."""
    source = WorkTree(root)
    vendor = root / proof.VENDOR
    files = [path for path in vendor.iterdir() if path.is_file()] if vendor.is_dir() else []
    vendor_bytes = sum(path.stat().st_size for path in files)
    try:
        lock = proof.read(source, requirements)
    except Refused:
        return Holding({}, vendor_bytes)
    known: Mapping[str, Metadata] = {}
    try:
        known = proof.contents(source, lock)
    except Refused:
        pass  # archives that are absent or altered state nothing
    packages: dict[str, Held] = {}
    for name in sorted({archive.name for archive in lock.run_time()}):
        archives = [archive for archive in lock.run_time() if archive.name == name]
        licences = dict.fromkeys(known[one.file].license for one in archives if one.file in known)
        packages[name] = Held(
            version=", ".join(dict.fromkeys(archive.version for archive in archives)),
            size=sum(archive.size for archive in archives),
            licence=", ".join(filter(None, licences)) or UNKNOWN,
        )
    return Holding(packages, vendor_bytes)


def changes(before: Holding, after: Holding) -> tuple[Change, ...]:
    """List the packages that have another version now, that are new, or that are gone; sorted by name."""
    names = sorted({*before.packages, *after.packages})
    pairs = [Change(name, before.packages.get(name), after.packages.get(name)) for name in names]
    return tuple(one for one in pairs if (one.before and one.before.version) != (one.after and one.after.version))
