"""The line of one host in a run: opened, greeted, asked, opened again where it is lost. Knows no outcomes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.events import Emit, HostStep, StepState
from deploy.fleet import shape
from deploy.link.line import Counters, Line, Packing
from deploy.link.pipe import LinkLost, Pipe
from deploy.settings import HostSettings

STEP_CHARS, DETAIL_CHARS = 300, 10_000
"""Of one event, in memory and in the log of a run; a host cuts details to 2,000 by itself."""

Opener = Callable[[HostSettings, str], Pipe]
"""Makes the pipe that starts the given exec line on a host, once it is opened."""


@dataclass(frozen=True)
class Run:
    """What every host of one run is told: who asks, under which id, for what."""

    id: str
    operator: str
    verb: str
    stage: str
    where: str
    """The options that name this stage and, where it was narrowed, these hosts, for a next command."""
    program: bytes
    program_sha256: str
    packing: Packing = field(default_factory=Packing)
    tag: str = ""
    job: str = ""
    """The CI job that asks, as an address to look at."""


class Contact:
    """One host as this run speaks with it. Used by one thread at a time, but for ``close``."""

    def __init__(self, settings: HostSettings, run: Run, emit: Emit) -> None:
        self._settings = settings
        self._run = run
        self._emit = emit
        self._line: Line | None = None
        self._make: Callable[[], Pipe] | None = None
        self._spent = Counters(0, 0)
        self._closed = threading.Event()
        self.seq: int | None = None
        """The fencing number that the lock was granted under; every request carries it."""

    @property
    def line(self) -> Line:
        if self._line is None:
            raise RuntimeError(f"{self._settings.name} is not connected")
        return self._line

    @property
    def counters(self) -> Counters:
        return self._spent + self._line.counters if self._line else self._spent

    def call(self, opener: Opener, exec_line: str) -> None:
        """Reach the host for the first time. Raises LinkLost."""
        self._make = lambda: opener(self._settings, exec_line)
        self._open()

    def hello(self, means: Mapping[str, Any] | None) -> dict[str, Any]:
        """Say who asks, for what, and what the settings allow. Raises LinkLost."""
        settings, run = self._settings, self._run
        context = {"stage": run.stage, "host": settings.name, "groups": list(settings.groups), "verb": run.verb}
        policy = {
            "allow_root": settings.allow_root or settings.local or run.stage == "sandbox",
            "build_user": settings.build_user,
            "accept_seal": settings.accept_seal,
            "step_s": settings.deadlines.step_s,
        }
        return self.ask("hello", run=run.id, operator=run.operator, context=context, policy=policy, means=means)

    def ask(self, op: str, /, **fields: Any) -> dict[str, Any]:
        """Put one request. Raises LinkLost."""
        granted = {} if self.seq is None or op in ("hello", "resume") else {"seq": self.seq}
        return _believed(op, self.line.ask(op, self._on_event, **granted, **fields))

    def blobs(self, contents: list[tuple[str, Callable[[], bytes]]], on_sent: Callable[[int], None]) -> dict[str, Any]:
        """Send blobs. Raises LinkLost."""
        return _believed("blobs", self.line.blobs(contents, on_sent, self._run.packing))

    def holder(self) -> dict[str, Any]:
        """What the lock says of its holder."""
        run = self._run
        holder = {"by": run.operator, "run": run.id, "verb": run.verb, "since": round(time.time())}
        return holder | {name: value for name, value in (("tag", run.tag), ("job", run.job)) if value}

    def come_back(self, lost: LinkLost) -> dict[str, Any]:
        """Reach the host again and give its answer to ``resume``, or the error that it answered. Raises LinkLost.

        The host decides by itself once the line is silent; this waits until it has, and asks. ``lost`` is raised where
        the host stays away for ``reconnect_s``, and at once where this side let go of it.
        """
        began = time.monotonic()
        seconds = self._settings.deadlines.reconnect_s
        if not self._closed.is_set():
            self._tell("started", f"line lost: {lost.why}; asking for {seconds:g} s", began)
        while True:
            if self._closed.is_set() or time.monotonic() - began > seconds:
                raise lost
            try:
                self._open()
                answer = self.hello(None)
                if answer.get("ok"):
                    answer = self.ask("resume", holder=self.holder(), seq=self.seq)
                break
            except LinkLost:
                self._closed.wait(0.5 + random.random())  # noqa: S311 - jitter, not a secret
        if answer.get("ok"):
            self.seq = answer["seq"]
            self._tell("done", str(answer["ending"]["outcome"] or "nothing was switched"), began)
        return answer

    def close(self) -> None:
        """Let go; the host settles what is open and frees its lock."""
        self._closed.set()
        if self._line:
            self._line.close()

    def _open(self) -> None:
        if self._make is None:
            raise RuntimeError(f"{self._settings.name} was never called")
        if self._line:
            self._spent = self.counters
            self._line.close()
        self._line = Line(self._make(), silence_s=self._settings.deadlines.silence_s)
        if self._closed.is_set():
            raise LinkLost("closed", reached=False)
        self._line.greet(self._run.program)

    def _tell(self, state: StepState, detail: str, began: float) -> None:
        self._emit(HostStep(self._settings.name, "reconnect", state, detail, time.monotonic() - began))

    def _on_event(self, value: Mapping[str, Any]) -> None:
        data = shape.flat(value.get("data"))
        said = str(value.get("state"))
        state: StepState = said if said in ("started", "failed", "warned") else "done"
        step, detail = str(value.get("step"))[:STEP_CHARS], str(value.get("detail") or "")[:DETAIL_CHARS]
        self._emit(HostStep(self._settings.name, step, state, detail, shape.seconds(data.get("elapsed_s")), data))


def _believed(op: str, answer: dict[str, Any]) -> dict[str, Any]:
    try:
        shape.checked(op, answer)
    except shape.Misshapen as error:
        raise LinkLost(f"{error}: it does not speak as the host program does") from error
    return answer
