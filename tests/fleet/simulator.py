"""Fleets of model hosts under the real pipeline, phases and hosts: no thread, no process, no real second.

What is replaced is named in ``World.installed``: the line, the thread pool and the clock. Everything that is random
comes from one generator.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn
from unittest import mock

from deploy import pipeline
from deploy.errors import Refused
from deploy.events import Event, RunEnded
from deploy.fleet.run import FleetRun
from deploy.fleet.survey import survey
from deploy.link.line import Counters
from deploy.link.pipe import LinkLost
from deploy.settings import Deadlines, HostSettings, Stage, Strategy, Trust
from deploy.wire.manifest import Manifest, Target, TreeFile
from deploy.wire.names import Sha256
from tests.fleet.modelhost import Conversation, Killed, ModelHost


class ControlDied(BaseException):
    """Kill -9 of the control process: every line ends, nobody is told anything."""


class Clock:
    """Seconds that pass only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@dataclass
class Fault:
    """Something that goes wrong at the n-th time that a host is asked one thing."""

    kind: str
    op: str
    nth: int = 1


@dataclass
class World:
    """One fleet, what goes wrong in it, and what came of it."""

    rng: random.Random
    hosts: dict[str, ModelHost]
    clock: Clock = field(default_factory=Clock)
    away: set[str] = field(default_factory=set)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    dies_at: int = 0
    """The number of the message at which the control process dies; 0: it lives."""
    interrupts: list[int] = field(default_factory=list)
    """The moments (tasks begun and waits) at which Ctrl-C comes."""
    messages: int = 0
    moments: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    touched: set[str] = field(default_factory=set)
    """Hosts on which a fault fired that may leave this side in the dark."""
    events: list[Event] = field(default_factory=list)
    dead: bool = False

    def moment(self) -> None:
        """Something begins on the control side: here a signal may come."""
        self.moments += 1
        if self.moments in self.interrupts:
            self.fired["ctrl-c"] += 1
            raise KeyboardInterrupt

    def message(self) -> None:
        """One message more; here the control process may die."""
        self.messages += 1
        if self.dead:
            raise ControlDied
        if self.messages == self.dies_at:
            self.fired["control died"] += 1
            self.dead = True
            raise ControlDied

    def fault_of(self, name: str, op: str) -> str:
        """What goes wrong at this request."""
        self.asked[name, op] += 1
        for fault in self.faults.get(name, []):
            if fault.op == op and fault.nth == self.asked[name, op]:
                self.fired[fault.kind] += 1
                self.touched.add(name)
                return fault.kind
        return ""

    def emit(self, event: Event) -> None:
        """Keep what the run tells."""
        self.events.append(event)

    @contextmanager
    def installed(self) -> Generator[None]:
        """Put this world's line, pool and clock in the place of the real ones."""
        with (
            mock.patch("deploy.fleet.contact.Line", self.line),
            mock.patch("deploy.fleet.contact.threading", SimpleNamespace(Event=lambda: FakeEvent(self.clock))),
            mock.patch("deploy.fleet.contact.time", self.clock),
            mock.patch("deploy.fleet.fanout.ThreadPoolExecutor", self.pool),
            mock.patch("deploy.fleet.fanout.wait", self.run_tasks),
            mock.patch("deploy.fleet.fanout.time", self.clock),
            mock.patch("deploy.fleet.locking.time", self.clock),
            mock.patch("deploy.fleet.host.time", self.clock),
            mock.patch("deploy.fleet.run.time", self.clock),
        ):
            self.clock.on_sleep = self.moment
            yield

    def line(self, host: ModelHost, **_: Any) -> FakeLine:
        """In the place of ``deploy.link.line.Line``."""
        return FakeLine(host, self)

    def pool(self, *_: Any, **__: Any) -> FakePool:
        """In the place of a ThreadPoolExecutor."""
        return FakePool(self)

    def run_tasks(self, tasks: Sequence[FakeTask], timeout: float = 0) -> tuple[list[FakeTask], list[FakeTask]]:
        """Run what waits, in an order of its own, until Ctrl-C."""
        waiting = [task for task in tasks if not task.ended]
        self.rng.shuffle(waiting)
        for task in waiting:
            self.moment()
            task.run()
        return list(tasks), []


class FakeEvent:
    """A threading.Event whose wait costs nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True

    def wait(self, seconds: float) -> None:
        self._clock.now += seconds


class FakeTask:
    """One function that was given to the pool."""

    def __init__(self, what: Callable[..., Any], *args: Any) -> None:
        self._what, self._args = what, args
        self.ended = False
        self._result: Any = None
        self._error: Exception | None = None

    def run(self) -> None:
        self.ended = True
        try:
            self._result = self._what(*self._args)
        except Exception as error:  # noqa: BLE001 - as a future does
            self._error = error

    def result(self) -> Any:
        if self._error:
            raise self._error
        return self._result


class FakePool:
    """A thread pool without threads: what was not run when it is left is run then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: list[FakeTask] = []

    def __enter__(self) -> FakePool:  # noqa: PYI034 - Python 3.10 has no typing.Self
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for task in self._tasks:
            if not task.ended and not self._world.dead:
                task.run()

    def submit(self, what: Callable[..., Any], *args: Any) -> FakeTask:
        """Take a function; ``World.run_tasks`` runs it."""
        self._tasks.append(FakeTask(what, *args))
        return self._tasks[-1]


class FakeLine:
    """A line to a model host, which may break at any message."""

    def __init__(self, host: ModelHost, world: World) -> None:
        self._host, self._world = host, world
        self._talk: Conversation | None = None
        self.counters = Counters(1, 1)

    def greet(self, program: bytes) -> None:
        """Reach the host and start its program."""
        self._world.message()
        if self._host.name in self._world.away:
            self._world.fired["unreachable"] += 1
            raise LinkLost("no route to host", "look at the host", reached=False)
        self._talk = Conversation(self._host)

    def ask(self, op: str, on_event: Any, /, **request: Any) -> dict[str, Any]:
        """Put one request, unless the line, the host or this side goes first."""
        if self._talk is None:
            raise LinkLost("closed")
        self._world.message()
        kind = self._world.fault_of(self._host.name, op)
        if kind == "slow":
            self._world.clock.now += 3000
        if kind == "line lost before":
            self._drop("connection reset")
        if kind == "host killed before":
            self._die()
        if kind.startswith("host killed at "):
            self._talk.dies_in = kind.rpartition(" ")[2]
        try:
            answer = self._talk.answer(op, request)
        except Killed:
            self._die()
        if kind == "line lost after":
            self._drop("nothing heard for 20 s")
        if kind == "line lost after, settles late":
            self._talk = None  # the old program still holds the lock when somebody asks again
            raise LinkLost("nothing heard for 20 s")
        if kind == "host killed after":
            self._die()
        if kind == "bug in the answer":
            return {"ok": True}
        if kind == "bug on the host":
            log = ["Traceback (most recent call last):"]
            error = {"kind": "bug", "step": op, "cause": "KeyError('x')", "next": "", "log": log}
            return {"ok": False, "error": {**error, "switched": self._host.past.open_switch is not None}}
        return answer

    def blobs(self, contents: Any, on_sent: Any, packing: Any) -> dict[str, Any]:
        """Send what was asked for."""
        return self.ask("blobs", None)

    def close(self) -> None:
        """Let go of the host, which settles."""
        if self._talk:
            self._talk.end()
        self._talk = None

    def _drop(self, why: str) -> NoReturn:
        self.close()
        raise LinkLost(why)

    def _die(self) -> NoReturn:
        if self._talk:
            self._talk.kill()
        self._talk = None
        raise LinkLost("the host program ended (exit status -9)")


@dataclass
class Bundle:
    """What is shipped for one tag: no byte of it matters here."""

    manifest: Manifest
    host_needs: tuple[Any, ...] = ()

    def read(self, digest: str) -> bytes:
        raise AssertionError("a model host never asks for bytes")


def bundle(tag: str, hooks: dict[str, Any] | None = None) -> Bundle:
    """One release of the app."""
    digest = Sha256(hashlib.sha256(tag.encode()).hexdigest())
    commit = hashlib.sha1(tag.encode()).hexdigest()
    settings = {
        "requirements": "app", "python": "3.11", "shared": {"dirs": [], "files": []}, "env_files": [],
        "site_packages": "link", "environment": {}, "hooks": {"app": hooks or {}},
    }  # fmt: skip
    files = (TreeFile("app.py", "100644", digest, 10),)
    return Bundle(
        Manifest("demo", tag, commit, commit, None, "", files, {}, (Target("3.11", "any", {}, (), ()),), settings)
    )


def hook(text: str, *, once: bool = False, idempotent: bool = False) -> dict[str, Any]:
    """One hook as the manifest carries it."""
    return {
        "run": text, "once": once, "on": ["deploy", "rollback"], "timeout_s": 60, "idempotent": idempotent,
        "user": None, "sealed": False,
    }  # fmt: skip


def stage_of(names: Iterable[str], strategy: Strategy) -> Stage:
    """The operator's settings."""
    hosts = tuple(
        HostSettings(
            name=name, stage="sim", address=name, port=None, user=None, identity=None, known_hosts=(), groups=(),
            root="/srv/demo", python="python3", local=False, restart=None, stop=None, health=None, service=None,
            keep=5, deadlines=Deadlines(), allow_root=False, build_user=None, accept_seal="kernel",
        )
        for name in names
    )  # fmt: skip
    return Stage("sim", hosts, Trust(), 0.0, waves=strategy)


def run_of(world: World, verb: str, stage: Stage, **other: Any) -> FleetRun:
    """One command's run on this world."""
    return FleetRun(
        verb, stage, world.emit, operator="tester", program=(b"", "0" * 64),
        open_pipe=lambda host, _: world.hosts[host.name], **other,  # type: ignore[arg-type,return-value]
    )  # fmt: skip


def deploy(world: World, stage: Stage, made: Bundle, **other: Any) -> RunEnded:
    """Deploy as the pipeline does, from the bundle on."""
    run = run_of(world, "deploy", stage, tag=made.manifest.tag, **other)
    return run.guard(lambda phases: pipeline._deploy(run, phases, made, restage=False, wait_s=0))  # type: ignore[arg-type]


def rollback(world: World, stage: Stage, tag: str | None) -> RunEnded:
    """Roll back as the pipeline does, where there is no repository."""
    run = run_of(world, "rollback", stage, tag=tag)

    def no_repository(lost: str) -> NoReturn:
        raise Refused("No host was contacted.", f"there is no tag {lost} here", "fetch it")

    return run.guard(lambda phases: pipeline._rollback(run, phases, tag, wait_s=0, pack_again=no_repository))


def status(world: World, stage: Stage) -> dict[str, Any]:
    """What ``fab status`` tells."""
    return survey(run_of(world, "status", stage), probe=True)
