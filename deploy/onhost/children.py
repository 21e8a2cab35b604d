"""The only place that starts a process on a host: journalled before it may run, capped, with a deadline, ended whole.

A child writes into memory (memfd), so its output needs no disk, and onhost waits for its exit, never for end of file.
Its pid and start time are in the journal before it may run, since killing onhost does not kill its children: what an
earlier run left behind is found again (``processes.survivors``).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from . import seal
from .journal import Journal, Record
from .processes import Process, boot_id, children_of, describe, identify, kill, session_of
from .secret import revealed
from .watch import Watch

OUTPUT_CAP_BYTES = 4 * 1024 * 1024
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 16 * 1024
CUT = "\n[...]\n"
"""Stands in an output for what was left out between head and tail."""
_TICK_S = 0.02
ENDING_S = 5.0
"""How long the end of what was killed may take; timeout(1) ends by itself what another user's rights protect."""
_PUNCH_HOLE = 3
"""FALLOC_FL_PUNCH_HOLE with FALLOC_FL_KEEP_SIZE (fallocate(2))."""


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
    confine: Optional[Mapping[str, Sequence[str]]] = None
    """Folders, for a sealed command where the kernel has Landlock: what ``landlock.confine`` takes."""
    uid: Optional[int] = None
    gid: Optional[int] = None


@dataclass(frozen=True)
class Finished:
    """How a child ended. ``output`` is its whole output where it fits, else head and tail.

    ``left`` names what could not be ended after the deadline, being another user's. ``attempts`` names what of a sealed
    command's descendants asked for an internet socket, and was refused.
    """

    code: int
    output: str
    timed_out: bool
    seconds: float
    left: Tuple[str, ...] = ()
    attempts: Tuple[str, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether something is missing between head and tail of the output."""
        return CUT in self.output

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out

    def cause(self) -> str:
        """One line: why this is not success."""
        if self.timed_out:
            still = "; cannot be ended and still runs: %s" % ", ".join(self.left) if self.left else ""
            return "no end within its deadline (%.0f s)%s" % (self.seconds, still)
        if self.code < 0:
            known = {int(number): number.name for number in signal.Signals}
            name = known.get(-self.code, "signal %d" % -self.code)
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
        """Run one command to its end. Raises what ``check`` raises, after the child is gone; OSError.

        What this user may not end (sudo(8)) is left running, and the journal does not say that it ended.
        """
        began = time.monotonic()
        log = os.memfd_create("output")
        # A service that a restart command daemonised is onhost's child by now: no build's stray.
        spared: Set[int] = {process.pid for process in children_of(os.getpid())} if command.kind == "build" else set()
        watch = Watch() if command.sealed else None
        try:
            child, go = self._start(log, watch)
            noted: Optional[Record] = None
            left: List[Process] = []
            try:
                noted = self._note(command, child.pid)
                self._go(command, go, watch)
                timed_out = self._wait(child, command, began, log)
            finally:
                left = _end_session(child)
                if command.kind == "build":
                    _end_strays(spared)
                if self._journal is not None and noted is not None and not left:
                    self._journal.note("child-done", child=noted["seq"])
            code = -signal.SIGKILL if child.returncode is None else child.returncode
            seconds = time.monotonic() - began
            attempts: Tuple[str, ...] = ()
            if watch:
                watch.stop()  # what it still holds is counted
                # The command itself is left out: pip opens an internet socket even with --no-index.
                attempts = watch.attempts(but_by=child.pid)
            return Finished(code, _output(log), timed_out, seconds, tuple(map(describe, left)), attempts)
        finally:
            if watch:
                watch.stop()
            os.close(log)

    def _start(self, log: int, watch: Optional[Watch]) -> tuple[subprocess.Popen[bytes], int]:
        spec, go = os.pipe()
        try:
            os.set_inheritable(self._program_fd, True)
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", self._program, "child", str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(spec, self._program_fd, *([watch.theirs.fileno()] if watch else [])),
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

    def _note(self, command: Command, pid: int) -> Optional[Record]:
        process = identify(pid)
        if self._journal is not None and process is not None:
            return self._journal.note(
                "child",
                pid=process.pid,
                start=process.start,
                boot=boot_id(),
                kind=command.kind,
                label=command.label[:200],
                deadline_s=command.deadline_s,
            )
        return None

    def _go(self, command: Command, go: int, watch: Optional[Watch]) -> None:
        spec = {
            "argv": list(command.argv),
            "cwd": command.cwd,
            "env": {name: revealed(value) for name, value in command.env.items()},
            "sealed": command.sealed,
            "network_namespace": command.network_namespace,
            "watch": watch.theirs.fileno() if watch else None,
            "confine": {name: list(folders) for name, folders in command.confine.items()} if command.confine else None,
            "parent": os.getpid(),
            "uid": command.uid,
            "gid": command.gid,
        }
        with open(go, "wb") as file:
            try:
                file.write(json.dumps(spec).encode("ascii"))
            except BrokenPipeError:
                pass  # the launcher died; its exit status tells
        if watch:
            watch.start()

    def _wait(self, child: subprocess.Popen[bytes], command: Command, began: float, log: int) -> bool:
        pause = 0.002
        while True:
            try:
                child.wait(timeout=pause)
                # Its own timeout(1), inside of sudo(8), may be quicker than this loop.
                return child.returncode != 0 and time.monotonic() - began >= command.deadline_s
            except subprocess.TimeoutExpired:
                pause = min(pause * 2, _TICK_S * 5)
            self._check()
            _cap(log)
            if time.monotonic() - began > command.deadline_s:
                return True


def _cap(log: int) -> None:
    """Keep a chatty child from filling memory: what lies between head and tail is given back to the kernel."""
    size = os.fstat(log).st_size
    if size > OUTPUT_CAP_BYTES:
        length = size - HEAD_BYTES - TAIL_BYTES
        ctypes.CDLL(None).fallocate(log, _PUNCH_HOLE, ctypes.c_long(HEAD_BYTES), ctypes.c_long(length))


def _output(log: int) -> str:
    size = os.fstat(log).st_size
    if size <= HEAD_BYTES + TAIL_BYTES:
        data = os.pread(log, size, 0)
    else:
        data = os.pread(log, HEAD_BYTES, 0) + CUT.encode("ascii") + os.pread(log, TAIL_BYTES, size - TAIL_BYTES)
    return data.decode("utf-8", "replace").replace("\0", "")


def _end_session(child: subprocess.Popen[bytes]) -> List[Process]:
    """End a child that still runs, with its whole session; returns what lives on because this user may not end it."""
    left: List[Process] = []
    if child.poll() is not None:
        return left
    give_up = time.monotonic() + ENDING_S
    while True:
        for process in session_of(child.pid):
            kill(process.pid)
        child.poll()
        left = [process for process in session_of(child.pid) if identify(process.pid) == process]
        if not left:
            child.wait()
            return left
        if time.monotonic() > give_up:
            _left.append(child)
            return left
        time.sleep(0.01)


_left: List[subprocess.Popen[bytes]] = []
"""Nobody waits for these; Popen complains about one that it must forget."""


def _end_strays(spared: Set[int]) -> None:
    """End every process that a build left behind: as their subreaper, onhost has become their parent."""
    for _ in range(200):
        strays = [process.pid for process in children_of(os.getpid()) if process.pid not in spared]
        if not strays:
            return
        for pid in strays:
            kill(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)


def become_subreaper() -> None:
    """Make every orphaned descendant of this process its child, so that none can hide (prctl(2))."""
    seal.prctl(seal.PR_SET_CHILD_SUBREAPER, 1)


def environment(**extra: str) -> Dict[str, str]:
    """The allow-list every child starts from; nothing of onhost's own environment is passed on."""
    base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    base.update(extra)
    return base
