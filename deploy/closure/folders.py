"""Archives in a folder instead of an index: a mirror on a disk, another project's ``vendor/``, a store for all."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from deploy.errors import Failed, Refused
from deploy.events import Emit, Notice

from . import files, proof
from .incoming import Incoming, is_there
from .index import Unwritable
from .model import Archive
from .source import WorkTree


def is_address(source: str) -> bool:
    """Tell an address (``https://...``) from a folder."""
    return "://" in source


def take(folder: Path, wanted: Iterable[Archive], work: Incoming, emit: Emit) -> None:
    """Copy those of ``wanted`` that lie in ``folder`` under their name, with their bytes, into ``vendor/``.

    A link is followed, but only to a regular file; other bytes are told and passed over. Raises Refused where there is
    no such folder, and Unwritable.
    """
    if not folder.is_dir():
        raise Refused("Nothing was fetched.", f"{folder} is no folder", "fab vendor.fetch --source FOLDER_OR_ADDRESS")
    for archive in wanted:
        found = folder / archive.file
        if not found.is_file():
            continue
        if found.stat().st_size == archive.size and _copied(found, work.place(archive)) and work.publish(archive):
            continue
        work.place(archive).unlink(missing_ok=True)
        emit(Notice(f"{found}: passed over, it has other bytes than the lock pins, or cannot be read"))


def give(root: Path, requirements: str, store: str, emit: Emit) -> tuple[str, ...]:
    """Copy the locked archives of ``vendor/`` that a store, a folder, lacks into it, and name them.

    A file that is there with other bytes may be somebody else's: it is told and left. Raises Refused where the store is
    no folder or ``vendor/`` is not whole, and Failed where it cannot be written.
    """
    lock = proof.read(WorkTree(root), requirements)
    if is_address(store) or not Path(store).is_dir():
        step = "make that folder; to an address, bring the files of vendor/ by your own means"
        raise Refused("Nothing was stored.", f"{store} is no folder", step)
    missing = [entry.file for entry in lock.archives.values() if not is_there(root / proof.VENDOR / entry.file, entry)]
    if missing:
        raise Refused("Nothing was stored.", f"vendor/ lacks {len(missing)} locked archives", "fab vendor.fetch")
    given: list[str] = []
    for file, archive in sorted(lock.archives.items()):
        to = Path(store) / file
        if is_there(to.resolve(), archive):
            continue
        if to.exists():
            emit(Notice(f"{to}: left as it is, with other bytes than the lock pins"))
            continue
        try:
            with files.staged(to.parent) as work:
                shutil.copyfile(root / proof.VENDOR / file, work / file)
                files.publish(work / file, to)
        except OSError as error:
            what, why = f"{len(given)} archives were stored.", f"{store} cannot be written: {error.strerror}"
            raise Failed(what, why, "make it writable, then fab vendor.store goes on from there") from None
        given.append(file)
    return tuple(given)


def _copied(found: Path, to: Path) -> bool:
    try:
        file = found.open("rb")
    except OSError:
        return False
    try:
        with file, to.open("wb") as out:
            shutil.copyfileobj(file, out)
    except OSError as error:
        raise Unwritable(error.strerror) from None
    return True
