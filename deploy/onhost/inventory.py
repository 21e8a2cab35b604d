"""Everything below a folder, by path, kind and sha256: what is written into a marker and compared before a switch."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, Collection, Dict, Iterator, List, Tuple

from . import plain
from .store import hash_file

Entry = List[Any]
"""``[path, "f" | "x" | "l" | "d", sha256 | link target | ""]``; "x" is an executable file. Paths are relative."""


def take(folder: Path, *, leave_out: Collection[str] = ()) -> List[Entry]:
    """List and hash all below ``folder``, sorted by path. Raises OSError, also for devices, pipes and sockets."""
    return [_entry(folder, path) for path in sorted(_walk(folder, "")) if path not in leave_out]


def differences(folder: Path, expected: List[Entry], *, leave_out: Collection[str] = ()) -> List[str]:
    """How ``folder`` differs from an inventory: at most 20 lines, empty where it does not."""
    try:
        found = {entry[0]: entry[1:] for entry in take(folder, leave_out=leave_out)}
    except OSError as error:
        return [str(error)]
    wanted: Dict[str, List[Any]] = {entry[0]: list(entry[1:]) for entry in expected}
    lines = ["missing: %s" % path for path in sorted(set(wanted) - set(found))]
    lines += ["not ours: %s" % path for path in sorted(set(found) - set(wanted))]
    lines += ["altered: %s" % path for path in sorted(wanted) if path in found and found[path] != wanted[path]]
    return lines[:20]


def take_write_bits(folder: Path) -> None:
    """Make every file and folder below read-only, modes normalised; only then is it listed in a marker."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o555 if os.stat(path).st_mode & 0o100 else 0o444)
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o555)
    os.chmod(folder, 0o555)


def _walk(folder: Path, below: str) -> Iterator[str]:
    with os.scandir(os.path.join(folder, below)) as entries:
        for entry in entries:
            path = below + "/" + entry.name if below else entry.name
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, path)


def _entry(folder: Path, path: str) -> Entry:
    full = os.path.join(folder, path)
    about = os.lstat(full)
    if stat.S_ISLNK(about.st_mode):
        return [path, "l", os.readlink(full)]
    if stat.S_ISDIR(about.st_mode):
        return [path, "d", ""]
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "neither a file, a folder nor a link", full)
    kind, digest = _hash(full)
    return [path, kind, digest]


def _hash(full: str) -> Tuple[str, str]:
    with open(plain.open_file(full), "rb") as file:
        executable = os.fstat(file.fileno()).st_mode & 0o100
        return ("x" if executable else "f"), hash_file(file)
