"""Writes files of ``requirements/`` and ``vendor/``: whole and durable under their final name, or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
