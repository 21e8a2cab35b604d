"""Opens what may have been planted: plain files and real folders only, no link followed, nothing waited for.

The app's user writes below shared/, and on a machine with other users anybody may have written what lay at a path
before. open(2) with O_NOFOLLOW and O_NONBLOCK (a FIFO must hold up nobody), then fstat(2) of what was opened.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from contextlib import contextmanager, suppress
from typing import BinaryIO, Iterator, Optional, Sequence, Union

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SYSTEM_GROUPS = ("root", "wheel", "sudo", "staff")
"""Whoever is in these may do what root may, or nearly (Debian's policy manual on staff)."""

PathLike = Union[str, "os.PathLike[str]"]


def open_file(
    path: PathLike, flags: int = os.O_RDONLY, mode: int = 0o600, *, at: Optional[int] = None, ours: bool = False
) -> int:
    """Open a regular file, not through a link; with ``ours`` only one of this user's or root's. Raises OSError."""
    fd = os.open(path, flags | _SAFE, mode, dir_fd=at)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if ours and about.st_uid not in (os.geteuid(), 0):
            raise OSError(errno.EPERM, "belongs to %s" % name_of(about.st_uid), str(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(path: PathLike, most_bytes: int = 1 << 30) -> bytes:
    """All of a regular file, not through a link. Raises OSError, also for one that is larger."""
    with open(open_file(path), "rb") as file:
        return read_open(file, most_bytes)


def read_open(file: BinaryIO, most_bytes: int) -> bytes:
    """All of an open file. Raises OSError where that is more than ``most_bytes``."""
    data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, "larger than %d KiB" % (most_bytes >> 10))
    return data


@contextmanager
def folder(top: PathLike, parts: Sequence[str], *, links: bool = False) -> Iterator[int]:
    """Give a descriptor of the folder ``parts`` below ``top``, each opened from the one before. Raises OSError.

    A symbolic link on the way is an error (ELOOP), but with ``links`` where this user or root made it in a folder that
    nobody else may write to: an operator's own, to a larger disk.
    """
    at = os.open(top, _FOLDER)
    try:
        for part in parts:
            inner = step(at, part, links=links)
            os.close(at)
            at = inner
        yield at
    finally:
        os.close(at)


def step(at: int, part: str, *, links: bool = False) -> int:
    """Open one folder inside an open one, as ``folder`` does. Raises OSError."""
    if part in ("", ".", "..") or "/" in part:
        raise OSError(errno.EINVAL, "%r is no name of a folder" % part)
    about = os.stat(part, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISLNK(about.st_mode):
        return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
    if not links or others(about) or may_write(os.fstat(at)):
        raise OSError(errno.ELOOP, "%s is a symbolic link" % part)
    return os.open(part, _FOLDER, dir_fd=at)


def hand_to_group(folder: int, group: int, mode: int) -> None:
    """Give an open folder mode and group; a user who is not in that group cannot, and it stays the user's own."""
    if os.fstat(folder).st_gid != group:
        with suppress(PermissionError):
            os.fchown(folder, -1, group)
    os.fchmod(folder, mode)


def is_half_made(folder: int) -> bool:
    """Whether an open folder is as mkdir(2) left it, perhaps in a run that was killed: ours, private and empty."""
    about = os.fstat(folder)
    return about.st_uid == os.geteuid() and not about.st_mode & 0o7077 and not os.listdir(folder)


def others(about: os.stat_result) -> bool:
    """Whether something belongs to neither this user nor root."""
    return about.st_uid not in (os.geteuid(), 0)


def may_write(about: os.stat_result) -> str:
    """Who but this user and root may change a file, or exchange what lies in a folder: in words; '' for nobody.

    In a sticky folder only the owner of an entry may (chmod(1)). A group of the user's own name holds only that user.
    """
    if others(about):
        return "user %s" % name_of(about.st_uid)
    if stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX:
        return ""
    if about.st_mode & stat.S_IWOTH:
        return "everybody"
    if about.st_mode & stat.S_IWGRP and about.st_gid != 0:
        group = _group(about.st_gid)
        return "" if group in (*_SYSTEM_GROUPS, name_of(os.geteuid())) else "group %s" % group
    return ""


def name_of(uid: int) -> str:
    """A user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
