"""The only place that starts a process on a host: journalled before it may run, capped, with a deadline, ended whole.

A child writes into memory (memfd), so its output needs no disk, and onhost waits for its exit, never for end of file.
Its pid and start time are in the journal before it may run, since killing onhost does not kill its children: what an
earlier run left behind is found again by ``survivors``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from . import seal
from .journal import Journal, Record

OUTPUT_CAP_BYTES = 4 * 1024 * 1024
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 16 * 1024
_TICK_S = 0.02


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same pid: pid and start time (proc(5), field 22)."""

    pid: int
    start: int


@dataclass(frozen=True)
class Command:
    """What to run. ``kind`` is ``build`` (ended with all its descendants) or ``hook`` (may leave daemons behind)."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    deadline_s: float
    kind: str
    label: str
    sealed: bool = False
    network_namespace: bool = True
    uid: Optional[int] = None
    gid: Optional[int] = None


@dataclass(frozen=True)
class Finished:
    """How a child ended. ``output`` is its whole output where it fits, else head and tail."""

    code: int
    output: str
    timed_out: bool
    seconds: float

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out

    def cause(self) -> str:
        """One line: why this is not success."""
        if self.timed_out:
            return "no end within its deadline (%.0f s)" % self.seconds
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return "killed by %s%s" % (name, " (out of memory?)" if self.code == -signal.SIGKILL else "")
        return "exit status %d" % self.code

    def tail(self, lines: int = 20) -> List[str]:
        """The last lines of output."""
        return self.output.rstrip().splitlines()[-lines:]


class Children:
    """Starts children one at a time for one run. ``check`` is called every tick and may raise to end the child."""

    def __init__(self, program_fd: int, check: Callable[[], None], journal: Optional[Journal]) -> None:
        self._program = "/proc/self/fd/%d" % program_fd
        self._program_fd = program_fd
        self._check = check
        self._journal = journal

    def run(self, command: Command) -> Finished:
        """Run one command to its end. Raises what ``check`` raises, after the child is gone; OSError."""
        began = time.monotonic()
        log = os.memfd_create("output")
        try:
            child, go = self._start(log)
            try:
                self._note(command, child.pid)
                self._go(command, go)
                timed_out, head = self._wait(child, command, began, log)
            finally:
                _end_group(child)
                if command.kind == "build":
                    _end_strays()
            return Finished(child.returncode, _output(log, head), timed_out, time.monotonic() - began)
        finally:
            os.close(log)

    def _start(self, log: int) -> tuple[subprocess.Popen[bytes], int]:
        spec, go = os.pipe()
        try:
            os.set_inheritable(self._program_fd, True)
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", self._program, "child", str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(spec, self._program_fd),
                start_new_session=True,
                env={"LANG": "C.UTF-8"},
                cwd="/",
            )
        except BaseException:
            os.close(go)
            raise
        finally:
            os.close(spec)
        return child, go

    def _note(self, command: Command, pid: int) -> None:
        process = identify(pid)
        if self._journal is not None and process is not None:
            self._journal.append(
                "child",
                pid=process.pid,
                start=process.start,
                boot=boot_id(),
                kind=command.kind,
                label=command.label[:200],
                deadline_s=command.deadline_s,
            )

    def _go(self, command: Command, go: int) -> None:
        spec = {
            "argv": list(command.argv),
            "cwd": command.cwd,
            "env": dict(command.env),
            "sealed": command.sealed,
            "network_namespace": command.network_namespace,
            "parent": os.getpid(),
            "uid": command.uid,
            "gid": command.gid,
        }
        with open(go, "wb") as file:
            try:
                file.write(json.dumps(spec).encode("ascii"))
            except BrokenPipeError:
                pass  # the launcher died; its exit status tells

    def _wait(self, child: subprocess.Popen[bytes], command: Command, began: float, log: int) -> tuple[bool, bytes]:
        head = b""
        pause = 0.002
        while True:
            try:
                child.wait(timeout=pause)
                return False, head
            except subprocess.TimeoutExpired:
                pause = min(pause * 2, _TICK_S * 5)
            self._check()
            head = _cap(log, head)
            if time.monotonic() - began > command.deadline_s:
                return True, head


def _cap(log: int, head: bytes) -> bytes:
    """Keep a chatty child from filling memory: remember the head, drop the rest once it is over the cap."""
    if os.fstat(log).st_size <= OUTPUT_CAP_BYTES:
        return head
    head = head or os.pread(log, HEAD_BYTES, 0)
    os.ftruncate(log, 0)
    return head


def _output(log: int, head: bytes) -> str:
    size = os.fstat(log).st_size
    if not head and size <= HEAD_BYTES + TAIL_BYTES:
        data = os.pread(log, size, 0)
    else:
        data = (
            (head or os.pread(log, HEAD_BYTES, 0)) + b"\n[...]\n" + os.pread(log, TAIL_BYTES, max(0, size - TAIL_BYTES))
        )
    return data.decode("utf-8", "replace").replace("\0", "")


def _end_group(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _end_strays() -> None:
    """End every process that a build left behind: as their subreaper, onhost has become their parent."""
    for _ in range(200):
        strays = [process.pid for process in children_of(os.getpid())]
        if not strays:
            return
        for pid in strays:
            _kill(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def become_subreaper() -> None:
    """Make every orphaned descendant of this process its child, so that none can hide (prctl(2))."""
    seal.prctl(seal.PR_SET_CHILD_SUBREAPER, 1)


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


def _stat(pid: int) -> Optional[List[str]]:
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except (OSError, ValueError):
        return None


BUILD_MARK = "SEALED_DEPLOY_BUILD"
"""Every sealed child carries this variable, so that one that left its session is still found after a crash."""


def survivors(records: Sequence[Record], root: str) -> Dict[str, List[Process]]:
    """What earlier runs on this ROOT left running, by kind (``build``, ``hook``).

    A child's descendants keep its session, and a session's id is not given to another process while one of them
    lives (setsid(2)); builds that left their session still carry BUILD_MARK.
    """
    boot = boot_id()
    sessions = {r["pid"]: r for r in records if r["what"] == "child" and r.get("boot") == boot}
    found: Dict[str, List[Process]] = {"build": [], "hook": []}
    mark = ("%s=%s" % (BUILD_MARK, root)).encode("utf-8", "surrogateescape")
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if not fields or fields[0] == "Z":
            continue
        process = Process(int(name), int(fields[19]))
        record = sessions.get(int(fields[3]))
        if record is not None and process.start >= record["start"]:
            found[record["kind"]].append(process)
        elif mark in _environ(process.pid):
            found["build"].append(process)
    return found


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
        waiting += _session_of(process.pid)
        _kill(process.pid)
        ended.append(process.pid)
        _wait_gone(process)
    return ended


def _session_of(sid: int) -> List[Process]:
    found: List[Process] = []
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields and int(fields[3]) == sid and int(name) != sid:
            found.append(Process(int(name), int(fields[19])))
    return found


def _wait_gone(process: Process) -> None:
    for _ in range(500):
        if identify(process.pid) != process:
            return
        time.sleep(0.002)


def environment(**extra: str) -> Dict[str, str]:
    """The allow-list every child starts from; nothing of onhost's own environment is passed on."""
    base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    base.update(extra)
    return base
