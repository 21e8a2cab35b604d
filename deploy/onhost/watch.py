"""Answers the internet sockets that a sealed child asks for, each with a refusal, and remembers who asked.

seccomp_unotify(2), Linux 5.0: the filter stops the call until this side answers it. A build that swallows the error is
told of all the same. Must not let anything through: there is no answer here but ENETUNREACH, and when nobody answers
any more the kernel itself refuses (and the filter denies listeners of one's own, which could answer instead).
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import socket
import struct
import threading
from typing import Dict, List, Optional, Tuple

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
"""SECCOMP_IOCTL_NOTIF_RECV and _SEND: _IOWR('!', 0, 80 bytes) and _IOWR('!', 1, 24 bytes)."""
_NOTIFICATION_BYTES, _ONE_FD = 80, struct.calcsize("i")
_LOOK_S = 0.2
"""Before Linux 5.9 the end of the watched processes is not signalled: it is looked for."""
_LONGEST_S = 5.0
"""proc(5) may keep whoever reads it waiting for a process that waits for a disk."""
MOST_KINDS = 20


class Watch:
    """Refuses for one child, from a thread of its own, from ``start`` until ``stop``."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._seen: Dict[Tuple[int, str], int] = {}

    def start(self) -> None:
        """Once the child has its end: keep only ours, so that a child which cannot be watched is noticed."""
        self.theirs.close()
        self._thread.start()

    def stop(self) -> None:
        """Let go. What is asked for from here on is refused by the kernel, uncounted."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LONGEST_S)
        self.theirs.close()
        self._ours.close()

    def attempts(self, *, but_by: int) -> Tuple[str, ...]:
        """What asked for an internet socket, in its own words, leaving out the process ``but_by``."""
        counted: Dict[str, int] = {}
        for (pid, words), count in list(self._seen.items()):
            if pid != but_by:
                counted[words] = counted.get(words, 0) + count
        return tuple("%s (%d times)" % one if one[1] > 1 else one[0] for one in sorted(counted.items()))

    def _run(self) -> None:
        listener = self._received()
        if listener is None:
            return
        try:
            poll = select.poll()
            poll.register(listener, select.POLLIN)
            while not self._stopping.is_set():
                for _, happened in poll.poll(_LOOK_S * 1000):
                    if happened & select.POLLIN:
                        self._refuse(listener)
                    elif happened & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                        return
        finally:
            os.close(listener)

    def _received(self) -> Optional[int]:
        """The filter's listener (SCM_RIGHTS, unix(7)), or None: the child could not make one, or is gone."""
        self._ours.settimeout(_LOOK_S)
        while not self._stopping.is_set():
            try:
                data, extra, _, _ = self._ours.recvmsg(1, socket.CMSG_SPACE(_ONE_FD), socket.MSG_CMSG_CLOEXEC)
            except socket.timeout:
                continue
            except OSError:
                return None
            for level, kind, payload in extra:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    return int(array.array("i", payload[:_ONE_FD])[0])
            if not data:
                return None
        return None

    def _refuse(self, listener: int) -> None:
        notification = bytearray(_NOTIFICATION_BYTES)
        try:
            fcntl.ioctl(listener, _RECEIVE, notification)
            number, pid = struct.unpack_from("=QI", notification)
            asked = (_process_of(pid), _words_of(pid))  # before it is answered it cannot be gone
            if asked in self._seen or len(self._seen) < MOST_KINDS:
                self._seen[asked] = self._seen.get(asked, 0) + 1
            fcntl.ioctl(listener, _SEND, struct.pack("=QqiI", number, 0, -errno.ENETUNREACH, 0))
        except OSError:
            pass  # killed while it waited


def hand_over(fd: int, listener: int) -> None:
    """In the child: give the listener to the side that watches, and keep neither (unix(7), SCM_RIGHTS)."""
    with socket.socket(fileno=fd) as line:
        line.sendmsg([b"w"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
    os.close(listener)


def _process_of(thread: int) -> int:
    try:
        with open("/proc/%d/status" % thread, encoding="utf-8", errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except (OSError, StopIteration, ValueError):
        return thread


def _words_of(pid: int) -> str:
    """The command line, each word cut to its last part: enough to know it by, and no paths of this host."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words: List[str] = file.read(4096).decode("utf-8", "replace").split("\0")
    except OSError:
        words = []
    shown = " ".join(" ".join(os.path.basename(word) for word in words).split())
    return shown[:120] or "a process that was gone"
