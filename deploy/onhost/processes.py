"""Processes as proc(5) shows them: who is whose child, what earlier runs left running, and ending it whole."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from .journal import Record


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same pid: pid and start time (proc(5), field 22)."""

    pid: int
    start: int


def boot_id() -> str:
    """Give this boot's id: a pid of an earlier boot means nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identify(pid: int) -> Optional[Process]:
    """The process that has this pid now, or None."""
    fields = _stat(pid)
    return Process(pid, int(fields[19])) if fields and fields[0] != "Z" else None


def children_of(pid: int) -> List[Process]:
    """Direct children, zombies included."""
    found: List[Process] = []
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields and int(fields[1]) == pid:
            found.append(Process(int(name), int(fields[19])))
    return found


def session_of(sid: int) -> List[Process]:
    """All processes of a session (setsid(2)), its leader and zombies included."""
    found: List[Process] = []
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields and int(fields[3]) == sid:
            found.append(Process(int(name), int(fields[19])))
    return found


def up_s() -> float:
    """Seconds since this boot, by a clock that nobody sets (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def started_s(process: Process) -> float:
    """When it started, by that clock (proc(5), field 22)."""
    return process.start / os.sysconf("SC_CLK_TCK")


def describe(process: Process) -> str:
    """Name a process to a person: pid, program, user."""
    program, user = "?", "?"
    with contextlib.suppress(OSError, KeyError):
        program = Path("/proc/%d/comm" % process.pid).read_text("utf-8", "replace").strip()
        user = str(effective_uid(process.pid))
        user = pwd.getpwuid(int(user)).pw_name
    return "pid %d (%s) of user %s" % (process.pid, program, user)


def effective_uid(pid: int) -> int:
    """Whose rights a process has. Raises OSError where it is gone, KeyError where proc(5) is not as documented."""
    return _status(pid)["Uid"][1]


def groups_of(pid: int) -> Set[int]:
    """All groups whose rights a process has; anybody may read it. Raises OSError where it is gone, KeyError."""
    status = _status(pid)
    return set(status["Gid"] + status["Groups"])


def _status(pid: int) -> Dict[str, List[int]]:
    lines = Path("/proc/%d/status" % pid).read_text("utf-8", "replace").splitlines()
    pairs = (line.split(":", 1) for line in lines if line.startswith(("Uid:", "Gid:", "Groups:")))
    return {name: [int(word) for word in rest.split()] for name, rest in pairs}


def open_files(pid: int) -> List[str]:
    """What a process has open, as /proc/PID/fd names it. Raises OSError where this user may not look.

    A descriptor that is closed while this looks is left out: a busy process must not look like one that is hidden.
    """
    found: List[str] = []
    for fd in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
    return found


def mapped_files(pid: int) -> List[str]:
    """The files that a process has mapped (proc(5), maps). Raises OSError where this user may not look."""
    with open("/proc/%d/maps" % pid, "rb") as file:
        return [os.fsdecode(line.split(None, 5)[-1].rstrip(b"\n")) for line in file if b"/" in line]


def hides_processes() -> bool:
    """Whether ``/proc`` is mounted so that this user does not see other users' processes (proc(5), hidepid).

    Members of the group that the mount exempts do, but where only what may be traced is shown.
    """
    if os.geteuid() == 0:
        return False
    options: Dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            mount, _, kind = line.partition(" - ")
            if mount.split()[4] == "/proc" and kind.startswith("proc "):  # the last one mounted is seen
                pairs = [option.partition("=") for option in kind.split()[2].split(",")]
                options = {name: value for name, _, value in pairs}
    how, exempt = options.get("hidepid", "0"), options.get("gid", "0")
    is_exempt = exempt != "0" and int(exempt) in {os.getegid(), *os.getgroups()} and how not in ("4", "ptraceable")
    return how not in ("0", "off") and not is_exempt


def _stat(pid: int) -> Optional[List[str]]:
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except (OSError, ValueError):
        return None


BUILD_MARK = "SEALED_DEPLOY_BUILD"
"""Every sealed child carries this variable, so that one that left its session is still found after a crash."""


def unfinished(records: Sequence[Record]) -> List[Record]:
    """Children of this boot whose end nobody wrote down: the run was killed while they ran."""
    boot = boot_id()
    done = {record["child"] for record in records if record["what"] == "child-done"}
    return [r for r in records if r["what"] == "child" and r.get("boot") == boot and r["seq"] not in done]


def left_running(records: Sequence[Record]) -> List[Tuple[Record, Process]]:
    """What runs in the sessions of children that earlier runs left unfinished, each with its child's record.

    A child's descendants keep its session, and a session's id is not given to another process while one of them
    lives (setsid(2)); later it may be, to anybody: so children that ended are not looked for, and a leader that
    started at another time is somebody else.
    """
    found: List[Tuple[Record, Process]] = []
    for record in unfinished(records):
        if _leads(record):
            for process in session_of(record["pid"]):
                if process.start >= record["start"] and identify(process.pid) == process:
                    found.append((record, process))
    return found


def survivors(records: Sequence[Record], root: str) -> Dict[str, List[Process]]:
    """What earlier runs on this ROOT left running, by kind (``build``, ``hook``).

    Builds that left their session still carry BUILD_MARK.
    """
    found: Dict[str, List[Process]] = {"build": [], "hook": []}
    for record, process in left_running(records):
        found[record["kind"]].append(process)
    known = {process for processes in found.values() for process in processes}
    mark = ("%s=%s" % (BUILD_MARK, root)).encode("utf-8", "surrogateescape")
    for name in os.listdir("/proc"):
        process = identify(int(name)) if name.isdigit() else None
        if process is not None and process not in known and mark in _environ(process.pid):
            found["build"].append(process)
    return found


def _leads(record: Record) -> bool:
    leader = identify(record["pid"])
    return leader is None or leader.start == record["start"]


def _environ(pid: int) -> List[bytes]:
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def end_tree(top: Process) -> List[int]:
    """Kill a process, its session and all its descendants; returns the pids. Stops each before it can fork on."""
    ended: List[int] = []
    waiting = [top]
    while waiting:
        process = waiting.pop()
        if identify(process.pid) != process:
            continue
        try:
            os.kill(process.pid, signal.SIGSTOP)
        except (ProcessLookupError, PermissionError):
            continue
        waiting += list(children_of(process.pid))
        waiting += [other for other in session_of(process.pid) if other != process]
        kill(process.pid)
        ended.append(process.pid)
        _wait_gone(process)
    return ended


def _wait_gone(process: Process) -> None:
    for _ in range(500):
        if identify(process.pid) != process:
            return
        time.sleep(0.002)


def is_foreign(process: Process) -> bool:
    """Whether this user may not end it (kill(2))."""
    try:
        os.kill(process.pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def kill(pid: int) -> None:
    """Kill one process; one that is gone, or somebody else's, is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
