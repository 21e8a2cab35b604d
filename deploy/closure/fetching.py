"""Fills ``vendor/`` from the locks, by hash. Besides ``lock``, the only step that uses a network.

Nothing unverified is ever seen under its final name; what is there with the right bytes is not fetched again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import Failed, Refused
from deploy.events import Emit, Notice

from . import files, proof
from .index import Index, Wanted, configuration, sha256_of
from .lockfile import BadLock
from .model import Archive, Lock
from .source import WorkTree
from .target import TargetRules


@dataclass(frozen=True)
class Fetched:
    """What fetching did, by file name.

    ``replaced`` are those of ``fetched`` that were there with other bytes; ``strays`` files that no lock names;
    ``pruned`` those removed.
    """

    fetched: tuple[str, ...]
    replaced: tuple[str, ...]
    present: tuple[str, ...]
    strays: tuple[str, ...]
    pruned: tuple[str, ...]


def fetch(
    root: Path, requirements: str, emit: Emit, *, prune: bool = False, superseded: Collection[str] = ()
) -> Fetched:
    """Bring every archive that ``requirements/NAME`` locks into ``vendor/``.

    Raises Refused without a lock, and Failed with every file that could not be had; files that could are kept, so
    the next run only fetches the rest. Strays are removed with ``prune``, or where they are ``superseded``; files of
    the other locks never.
    """
    lock = proof.read(WorkTree(root), requirements)
    others = _named_by_others(root, requirements)
    vendor = root / proof.VENDOR
    vendor.mkdir(exist_ok=True)
    for left in vendor.glob(".incoming-*"):
        shutil.rmtree(left, ignore_errors=True)
    missing = [archive for file, archive in sorted(lock.archives.items()) if not _is_there(vendor / file, archive)]
    altered = tuple(archive.file for archive in missing if (vendor / archive.file).exists())
    if missing:
        for line in configuration():
            emit(Notice(f"pip's configuration in force: {line}"))
        _bring(lock, missing, vendor)
    strays = _strays(vendor, set(lock.archives) | others)
    gone = [name for name in strays if prune or name in superseded]
    for name in gone:
        (vendor / name).unlink()
    new = {archive.file for archive in missing}
    return Fetched(
        fetched=tuple(sorted(new)),
        replaced=altered,
        present=tuple(file for file in sorted(lock.archives) if file not in new),
        strays=tuple(name for name in strays if name not in gone),
        pruned=tuple(gone),
    )


def prune(root: Path, requirements: str) -> tuple[str, ...]:
    """Remove the files of ``vendor/`` that no lock names, and tell which. Uses no network. Raises Refused."""
    lock = proof.read(WorkTree(root), requirements)
    vendor = root / proof.VENDOR
    strays = _strays(vendor, set(lock.archives) | _named_by_others(root, requirements)) if vendor.is_dir() else []
    for name in strays:
        (vendor / name).unlink()
    return tuple(strays)


def _strays(vendor: Path, named: Collection[str]) -> list[str]:
    return sorted(path.name for path in vendor.iterdir() if path.name not in named and not path.name.startswith("."))


def _named_by_others(root: Path, requirements: str) -> set[str]:
    try:
        return proof.other_files(WorkTree(root), requirements)
    except BadLock as error:
        why = f"whose files are strays cannot be told: {error}"
        raise Refused("Nothing was fetched.", why, "fab vendor.lock for that one, or remove its lock") from None


def _bring(lock: Lock, missing: Sequence[Archive], vendor: Path) -> None:
    errors: dict[str, str] = {}
    left = {archive.file: archive for archive in missing}
    with files.staged(vendor) as work:
        for target in lock.targets:
            mine = [left.pop(file) for file in sorted(target.files & set(left))]
            if not mine:
                continue
            rules = TargetRules(target.python, target.python_full, target.platform, target.libc)
            wanted = [Wanted(archive.name, archive.file, archive.sha256, work / archive.file) for archive in mine]
            with Index(rules) as index:
                errors.update(index.download(wanted))
            for archive in mine:
                if _is_there(work / archive.file, archive):
                    files.publish(work / archive.file, vendor / archive.file)
    if errors:
        raise Failed(
            f"vendor/ lacks {len(errors)} of {len(lock.archives)} locked archives; what was fetched is kept.",
            "the index did not give them",
            "fab vendor.fetch again once the index answers, or fab vendor.lock where a file is gone from it",
            problems=[f"{file}: {why}" for file, why in sorted(errors.items())],
        )


def _is_there(path: Path, archive: Archive) -> bool:
    whole = path.is_file() and not path.is_symlink() and path.stat().st_size == archive.size
    return whole and sha256_of(path) == archive.sha256
