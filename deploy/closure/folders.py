"""Takes archives from a folder instead of an index: a mirror on a disk, or another project's ``vendor/``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from deploy.errors import Refused
from deploy.events import Emit, Notice

from .incoming import Incoming
from .index import Unwritable
from .model import Archive


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
