"""One mutating run at a time: flock(2) on ``.deploy/lock``, held by the onhost process and gone with it.

The file is never deleted. Its text names the holder for people and decides nothing; the kernel's lock decides.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Dict, Optional, cast

from .processes import boot_id, identify

HOLDER_BYTES = 1024
_OURS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Neither a planted link nor a FIFO may lead elsewhere, or keep whoever opens it waiting (open(2))."""
_NAMED_WITHIN_S = 0.2
"""How long who was refused waits for the holder, who has just taken the lock, to write down who it is."""


class Busy(Exception):
    """Another process holds the lock; ``holder`` is what it wrote about itself."""

    def __init__(self, holder: Optional[Dict[str, Any]]) -> None:
        super().__init__("locked")
        self.holder = holder


class Lock:
    """The lock of one ROOT."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: Optional[int] = None

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def take(self, holder: Dict[str, Any]) -> None:
        """Take it at once or not at all. Raises Busy with the holder.

        Raises OSError where no file of ours lies there, or where locks keep nobody out.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | _OURS, 0o600)
        try:
            _refuse_foreign(fd, self._path)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._try_it()
        except BlockingIOError:
            os.close(fd)
            raise Busy(_for_people(_named(self._path))) from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._write(dict(_me(), **holder))

    def _try_it(self) -> None:
        """Ask for the lock that is held once more: some filesystems grant it to anybody. Raises OSError (ENOLCK)."""
        second = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        finally:
            os.close(second)
        raise OSError(errno.ENOLCK, "locks keep nobody out on this filesystem: put ROOT on another", str(self._path))

    def release(self) -> None:
        """Give it back and clear the holder's text."""
        if self._fd is not None:
            self._write({})
            os.close(self._fd)
            self._fd = None

    def _write(self, holder: Dict[str, Any]) -> None:
        # Always the same length, overwritten in place: works on a full disk once it has been written once.
        text = json.dumps(holder, ensure_ascii=True).encode("ascii")[: HOLDER_BYTES - 1]
        try:
            os.pwrite(self._fd or 0, text.ljust(HOLDER_BYTES - 1) + b"\n", 0)
        except OSError:
            pass  # the text is for people; the flock is what counts


def _refuse_foreign(fd: int, path: Path) -> None:
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    if about.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "belongs to somebody else", str(path))


def _named(path: Path) -> Dict[str, Any]:
    """What a living holder wrote. Text of a dead one names the wrong person: then nobody is named."""
    deadline = time.monotonic() + _NAMED_WITHIN_S
    while True:
        written = _written(path)
        if _still_runs(written):
            return written
        if time.monotonic() > deadline:
            return {} if written.get("process") else written
        time.sleep(0.001)


def holder_of(path: Path) -> Optional[Dict[str, Any]]:
    """What the present holder wrote, or None where nobody holds the lock. Never touches the lock itself.

    Trying it, even shared and for a moment, could refuse somebody who takes it at that moment: proc(5) is asked whether
    the process that wrote itself down still runs, and which locks there are.
    """
    written = _written(path)
    if _still_runs(written):
        return _for_people(written)
    return _for_people(_named(path)) if _is_locked(path) else None


def _me() -> Dict[str, Any]:
    process = identify(os.getpid())
    return {"process": [process.pid, process.start, boot_id()] if process else None}


def _still_runs(written: Dict[str, Any]) -> bool:
    try:
        pid, start, boot = written["process"]
        return boot == boot_id() and identify(int(pid)) == (pid, start)
    except (KeyError, TypeError, ValueError):
        return False


def _is_locked(path: Path) -> bool:
    """Whether the kernel lists the lock; some filesystems (overlayfs, btrfs) go by other numbers there than stat(2)."""
    try:
        about = os.stat(path)
        with open("/proc/locks", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    where = "%02x:%02x:%d" % (os.major(about.st_dev), os.minor(about.st_dev), about.st_ino)
    return any(" FLOCK " in line and where in line.split() for line in lines)


def _for_people(written: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in written.items() if name != "process"} or {"by": "unknown"}


def _written(path: Path) -> Dict[str, Any]:
    try:
        fd = os.open(path, os.O_RDONLY | _OURS)
        with open(fd, "rb") as file:
            _refuse_foreign(fd, path)
            value = json.loads(file.read(HOLDER_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError):
        value = None
    return cast("Dict[str, Any]", value) if isinstance(value, dict) else {}
