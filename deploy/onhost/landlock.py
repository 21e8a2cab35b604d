"""Confine this process and all it starts to folders it may read and write, irrevocably, where the kernel has Landlock.

landlock(7) by ctypes, without privilege; from ABI 2 (Linux 5.19), since without its REFER right no build could rename a
file into another folder. Only ever grants; so what may not be read is left out by granting all that stands beside the
way to it. Looking up names, stat(2) and readlink(2) are not controlled.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from pathlib import PurePath
from typing import Iterable, Iterator, Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PR_SET_NO_NEW_PRIVS = 38
_OLDEST, _TRUNCATE_SINCE, _SCOPES_SINCE = 2, 3, 6
_PATH_BENEATH, _VERSION_FLAG = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_MAKE_AND_REMOVE = 0x3FF0
"""Removing and making entries of every kind (bits 4 to 12), and renaming between folders (13)."""
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_SCOPES = 1 << 0 | 1 << 1
"""No abstract unix socket of, and no signal to, a process outside."""
_EVERYBODYS = tuple("/dev/" + name for name in ("null", "zero", "full", "tty", "ptmx", "pts", "shm"))
"""What any program may write to; semaphores (sem_open(3)) lie in the last one."""


def abi() -> int:
    """The version of Landlock that this kernel offers; 0 for none, or where it is switched off."""
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def confine(hide: Sequence[str], read: Sequence[str], write: Sequence[str]) -> bool:
    """Allow reading everything but what lies below ``hide``, there only below ``read``; writing only below ``write``.

    Nothing may be signalled outside either (ABI 6). False where the kernel offers no Landlock: then nothing changed.
    Raises OSError. Sets no_new_privs.
    """
    version = abi()
    if version < _OLDEST:
        return False
    writing = _WRITE_FILE | _MAKE_AND_REMOVE | (_TRUNCATE if version >= _TRUNCATE_SINCE else 0)
    attributes = struct.pack("QQQ", _READ | writing, 0, _SCOPES)
    size = len(attributes) if version >= _SCOPES_SINCE else 8
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    try:
        hidden = [os.path.realpath(path) for path in hide]
        for path in _beside("/", hidden):
            _grant(ruleset, path, _READ)
        for path in map(os.path.realpath, read):
            _grant(ruleset, path, _READ)
        for path in map(os.path.realpath, (*write, *_EVERYBODYS)):
            _grant(ruleset, path, _READ | writing)
        if _libc().prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
            _fail()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _beside(folder: str, hidden: Iterable[str]) -> Iterator[str]:
    """The largest trees below ``folder`` with nothing hidden in them."""
    ways = [path for path in hidden if PurePath(folder) in (PurePath(path), *PurePath(path).parents)]
    if not ways:
        yield folder
    elif folder not in ways:
        try:
            names = os.listdir(folder)
        except OSError:
            return  # who may not list it has no business with what else is there
        for name in names:
            yield from _beside(os.path.join(folder, name), ways)


def _grant(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # it is not there, or not ours to open: nothing to grant
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            return  # what it leads to has a grant of its own, or is hidden
        if not stat.S_ISDIR(mode):
            rights &= _OF_A_FILE
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        _fail()
    return result


def _fail() -> None:
    code = ctypes.get_errno()
    raise OSError(code, "landlock: %s" % os.strerror(code))
