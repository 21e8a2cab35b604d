"""Processes that outlive the command which started them: detach, record, recognise, end. Linux only.

A process is known by pid, start time and boot id, never by pid alone, so nothing here can ever end a stranger that was
given a recycled pid (proc(5), pidfd_open(2)).
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_START_TIME = 19
"""Field 22 of /proc/PID/stat, counted from the state field, which is the first after the last ``)``."""

_TAIL_LINES = 40
"""A worker's traceback is about 20 lines, and as many that of the master which gives up after it."""


@dataclass(frozen=True)
class Process:
    """One process of one boot. ``started`` is in clock ticks since that boot."""

    pid: int
    started: int
    boot: str

    def is_running(self) -> bool:
        """True while exactly this process exists; a zombie has ended."""
        return identify(self.pid) == self


def identify(pid: int) -> Process | None:
    """Name the process that has ``pid`` now. None where there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else Process(pid, int(fields[_START_TIME]), boot)


def record(path: Path, processes: Iterable[Process | None]) -> None:
    """Write the processes to ``path``, all or nothing. Those that have ended already (None) are left out."""
    text = json.dumps({"format": 1, "processes": [asdict(one) for one in processes if one]}) + "\n"
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="ascii")
    temporary.replace(path)


def recorded(path: Path) -> list[Process]:
    """Read the processes in ``path`` that still run. An absent or torn record holds none."""
    try:
        entries = json.loads(path.read_text(encoding="ascii"))["processes"]
        found = [Process(int(one["pid"]), int(one["started"]), str(one["boot"])) for one in entries]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
    return [one for one in found if one.is_running()]


def end(process: Process, *, grace_s: float) -> bool:
    """Ask the process to end (SIGTERM), then end its whole session (SIGKILL). True once it is gone.

    The descriptor is opened before the start time is compared, so the signal reaches that very process or nobody.
    Raises PermissionError where it belongs to another user.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.is_running():
            return True
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if _has_ended(handle, grace_s):
            return True
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return _has_ended(handle, grace_s)
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)


def detach(log: Path, pid_file: Path) -> int:
    """Go on as a daemon: own session, no terminal, output in ``log``, pid in ``pid_file``.

    Returns, in the daemon, the descriptor to hand to ``ready``. The process that called stays until then: it exits 0
    when the daemon is ready and 1, with the end of the log on stderr, when the daemon ends instead.
    """
    waiting, ready_fd = os.pipe()
    if os.fork():
        os.close(ready_fd)
        is_ready = os.read(waiting, 1) == b"."
        if not is_ready:
            sys.stderr.write(tail(log))
        sys.stderr.flush()
        os._exit(0 if is_ready else 1)
    os.close(waiting)
    os.setsid()
    with log.open("ab", buffering=0) as output, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    record(pid_file, [identify(os.getpid())])
    return ready_fd


def ready(ready_fd: int) -> None:
    """Let the process that started this daemon go."""
    os.write(ready_fd, b".")
    os.close(ready_fd)


def tail(log: Path, *, since: int = 0) -> str:
    """Read the last lines of a log, of those that stand behind its first ``since`` bytes; '' where there is none.

    Enough of them for a cause told in mid-output: a worker's traceback, then the one with which its master gives up.
    """
    try:
        with log.open("rb") as lines:
            lines.seek(since)
            text = lines.read().decode("utf-8", errors="backslashreplace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _has_ended(handle: int, timeout_s: float) -> bool:
    return bool(select.select([handle], [], [], timeout_s)[0])
