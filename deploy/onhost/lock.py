"""One mutating run at a time: flock(2) on ``.deploy/lock``, held by the onhost process and gone with it.

The file is never deleted. Its text names the holder for people and decides nothing; the kernel's lock decides.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, Optional, cast

from .processes import boot_id, identify, up_s

HOLDER_BYTES = 1024


class Busy(Exception):
    """Another process holds the lock; ``holder`` is what it wrote about itself."""

    def __init__(self, holder: Optional[Dict[str, Any]]) -> None:
        super().__init__("locked")
        self.holder = holder

    def to_json(self) -> Dict[str, Any]:
        """As it crosses the line."""
        return {"kind": "locked", "holder": self.holder}


class Lock:
    """The lock of one ROOT."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: Optional[int] = None

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def take(self, holder: Dict[str, Any]) -> None:
        """Take it at once or not at all. Raises Busy with the holder, OSError where locks keep nobody out."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._try_it()
        except BlockingIOError:
            os.close(fd)
            raise Busy(_for_people(_written_soon(self._path))) from None
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
        text = _fitting(holder)
        try:
            os.pwrite(self._fd or 0, text.ljust(HOLDER_BYTES - 1) + b"\n", 0)
        except OSError:
            pass  # the text is for people; the flock is what counts


def _fitting(holder: Dict[str, Any]) -> bytes:
    """The holder as JSON that fits its room: what is long is cut, never the whole made unreadable."""
    while True:
        text = json.dumps(holder, ensure_ascii=True).encode("ascii")
        if len(text) < HOLDER_BYTES:
            return text
        longest = max(holder, key=lambda name: len(json.dumps(holder[name])))
        holder = dict(holder, **{longest: str(holder[longest])[: len(str(holder[longest])) // 2]})


def holder_of(path: Path) -> Optional[Dict[str, Any]]:
    """What the present holder wrote, or None where nobody holds the lock. Never touches the lock itself.

    Trying it, even shared and for a moment, could refuse somebody who takes it at that moment: proc(5) is asked whether
    the process that wrote itself down still runs, and which locks there are.
    """
    written = _written(path)
    return _for_people(written) if _still_runs(written) or _is_locked(path) else None


def address() -> Dict[str, str]:
    """Where the operator comes from as sshd saw it (ssh(1), SSH_CONNECTION); nothing on a host that is a folder."""
    word = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    return {"from": word} if re.fullmatch(r"[0-9A-Za-z.:%-]{2,64}", word) else {}


def _me() -> Dict[str, Any]:
    process = identify(os.getpid())
    return {"process": [process.pid, process.start, boot_id()] if process else None, "up_s": round(up_s(), 2)}


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
    """What a holder wrote, and for how many seconds it holds the lock, by a clock that nobody sets."""
    holder = {name: value for name, value in written.items() if name not in ("process", "up_s")} or {"by": "unknown"}
    if _still_runs(written) and isinstance(written.get("up_s"), float):
        holder["held_s"] = round(max(0.0, up_s() - written["up_s"]), 1)
    return holder


def _written_soon(path: Path) -> Dict[str, Any]:
    """What the holder wrote; whoever took the lock this very moment is given another to write who it is."""
    for _ in range(20):
        written = _written(path)
        if written:
            return written
        time.sleep(0.01)
    return {}


def _written(path: Path) -> Dict[str, Any]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            value = json.loads(file.read(HOLDER_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError):
        value = None
    return cast("Dict[str, Any]", value) if isinstance(value, dict) else {}
