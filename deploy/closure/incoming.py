"""The work folder of a fetch, ``vendor/.incoming/``: what is not proven yet, by sha256, kept until the next run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from deploy.errors import Failed

from . import files
from .index import Unwritable, sha256_of
from .model import Archive

_NAME = ".incoming"


class Incoming:
    """Begun and whole files on their way into ``vendor/``."""

    def __init__(self, vendor: Path) -> None:
        self._vendor = vendor
        self.published: set[str] = set()

    def place(self, archive: Archive) -> Path:
        """Where to write an archive; whatever lies there is its beginning, unless a checkout brought a link along."""
        place = self._vendor / _NAME / archive.sha256
        if place.is_symlink():
            place.unlink()
        return place

    def publish(self, archive: Archive) -> bool:
        """Move what lies at the archive's place into ``vendor/``, if it is the archive, and tell. Raises Unwritable."""
        try:
            if is_there(self.place(archive), archive):
                files.publish(self.place(archive), self._vendor / archive.file)
                self.published.add(archive.file)
        except OSError as error:
            raise Unwritable(error.strerror) from None
        return archive.file in self.published

    def clear(self) -> None:
        """Remove beginnings that nothing will go on from: every archive is there."""
        shutil.rmtree(self._vendor / _NAME, ignore_errors=True)


@contextlib.contextmanager
def incoming(vendor: Path) -> Generator[Incoming]:
    """Give the work folder, and remove it at the end unless it holds the beginning of a file.

    Its name starts with a dot, so that ``check`` does not see it, and it ignores itself for git. Raises Unwritable, and
    Failed where another fetch is at work.
    """
    folder = vendor / _NAME
    try:
        vendor.mkdir(exist_ok=True)
        lock = os.open(vendor, os.O_RDONLY)
    except OSError as error:
        raise Unwritable(error.strerror) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(
                "Nothing was fetched.", "another fetch is at work in vendor/", "fab vendor.fetch once it is done"
            ) from None
        try:
            if folder.is_symlink():
                folder.unlink()
            folder.mkdir(exist_ok=True)
            if not (folder / ".gitignore").exists():
                (folder / ".gitignore").write_text("*\n", encoding="ascii")
        except OSError as error:
            raise Unwritable(error.strerror) from None
        try:
            yield Incoming(vendor)
        finally:
            with contextlib.suppress(OSError):
                if [path.name for path in folder.iterdir()] == [".gitignore"]:
                    shutil.rmtree(folder)
    finally:
        os.close(lock)


def is_there(path: Path, archive: Archive) -> bool:
    """Tell whether ``path`` is a regular file with an archive's bytes."""
    whole = path.is_file() and not path.is_symlink() and path.stat().st_size == archive.size
    return whole and sha256_of(path) == archive.sha256
