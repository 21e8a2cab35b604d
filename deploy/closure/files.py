"""Writes files of ``requirements/`` and ``vendor/``: whole and durable under their final name, or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path


def write(path: Path, text: str) -> bool:
    """Give ``path`` this text; leave a file that has it already untouched. Tell whether anything was written."""
    data = text.encode("utf-8")
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged(path.parent) as work:
        fresh = work / path.name
        fresh.write_bytes(data)
        publish(fresh, path)
    return True


def publish(fresh: Path, path: Path) -> None:
    """Move a finished file to its final name: fsync, rename(2), fsync of the folder."""
    fresh.chmod(0o644)
    _sync(fresh)
    fresh.replace(path)
    _sync(path.parent)


@contextlib.contextmanager
def staged(folder: Path) -> Generator[Path]:
    """Give a work folder on the same filesystem, with a name that starts with a dot, and remove it at the end.

    One that a killed run left is ignored by ``check`` and by git's ``vendor/*`` alike; the next fetch removes it.
    """
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as work:
        yield Path(work)


class Before:
    """The bytes of some files at one moment."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._bytes = {path: path.read_bytes() if path.is_file() else None for path in paths}

    def put_back(self) -> None:
        """Give every file its bytes of then, and remove those that were not there."""
        for path, data in self._bytes.items():
            if data is None:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.read_bytes() != data:
                with staged(path.parent) as work:
                    (work / path.name).write_bytes(data)
                    publish(work / path.name, path)


@contextlib.contextmanager
def kept_on_failure(paths: Iterable[Path]) -> Generator[Before]:
    """Put files back as they were where what is done to them meanwhile fails, or is interrupted."""
    before = Before(paths)
    try:
        yield before
    except BaseException:  # Ctrl-C too: nobody shall find half of it
        before.put_back()
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
