"""One host that is a folder, put back to a known state before every point, and the commands that run on it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.errors import ExitCode
from deploy.events import RunEnded
from deploy.fleet.outcomes import HostOutcome, Outcome
from deploy.fleet.phases import Phases
from deploy.link.local import LocalPipe
from deploy.link.pipe import Pipe
from deploy.onhost.layout import Layout, remove_tree
from deploy.settings import Command, Stage
from tests.faults.strace import Fault
from tests.faults.stubs import CANARY, SAY_SECRET, bundle, content
from tests.fleet.conftest import RESTART, Fleet

HOST = "web-1"
APP_GROUP = 4242
"""ROOT's group where root may choose it: the app's."""


@dataclass
class Recorder:
    """A pipe that keeps what the host program said, for the hunt for secrets."""

    inner: Pipe
    said: list[bytes]

    def open(self) -> None:
        self.inner.open()

    def send(self, data: memoryview) -> int:
        return self.inner.send(data)

    def receive(self, size: int) -> bytes:
        data = self.inner.receive(size)
        self.said.append(data)
        return data

    def ending(self) -> tuple[int | None, str]:
        return self.inner.ending()

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class Scenario:
    """A state that a command starts from, and the command: ``old`` is live before it, ``new`` after it."""

    name: str
    state: str
    verb: str
    old: str | None
    new: str | None
    tag: str | None = None
    keep: int = 2
    ill: bool = False
    health: bool = True
    hooks: tuple[tuple[str, str], ...] = ()
    real: bool = False
    """With the real pip and virtualenv."""
    always: tuple[Fault, ...] = ()
    """What is wrong with the host all the while."""


NO_ROOM = Fault("symlink", 1, "error=ENOSPC", ever=True)
"""A disk so full that no link can be made: the spare ones are exchanged in."""

HOOKS = ("prepare", "before_activate", "after_activate")

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("deploy", "live", "deploy", "v1", "v2", "v2"),
        Scenario("first", "bare", "deploy", None, "v1", "v1"),
        Scenario("real-pip", "live", "deploy", "v1", "v2", "v2", real=True),
        Scenario("sick", "live", "deploy", "v1", "v2", "v2", ill=True),
        Scenario("sick-first", "bare", "deploy", None, "v1", "v1", ill=True),
        Scenario("unready", "live", "deploy", "v1", "v2", "v2", hooks=(("prepare", f"{SAY_SECRET}; exit 7"),)),
        Scenario("hooked", "live", "deploy", "v1", "v2", "v2", hooks=tuple((point, SAY_SECRET) for point in HOOKS)),
        Scenario("rollback", "live", "rollback", "v1", "v0", "v0"),
        Scenario("full", "live", "rollback", "v1", "v0", "v0", always=(NO_ROOM,)),
        Scenario("prune", "many", "prune", "v4", "v4", keep=1),
    )
}
STATES = {"bare": (), "live": ("v0", "v1"), "many": ("v0", "v1", "v2", "v3", "v4")}


@dataclass
class Ground:
    """A folder with the host in it; ``saved`` holds its states to go back to."""

    folder: Path
    fleet: Fleet = field(init=False)
    said: list[bytes] = field(default_factory=list[bytes])
    saved: dict[str, Path] = field(default_factory=dict[str, Path])

    def __post_init__(self) -> None:
        self.work = self.folder / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        (self.folder / "saved").mkdir(exist_ok=True)
        self.home = self.folder / "home"
        self.home.mkdir(exist_ok=True)
        os.environ["HOME"] = str(self.home)
        self.trace = self.folder / "trace"
        self.fleet = Fleet(self.work, (HOST,), pipe=self.plain)

    @property
    def layout(self) -> Layout:
        return self.fleet.layout(HOST)

    def plain(self, line: str) -> Pipe:
        """The host program as it is."""
        return Recorder(LocalPipe(line), self.said)

    def state(self, name: str) -> None:
        """Make one of the states that scenarios start from, or go back to it."""
        if name not in self.saved:
            root = self.layout.root
            remove_tree(self.work)
            root.mkdir(parents=True)
            root.chmod(0o755)
            if os.geteuid() == 0:
                os.chown(root, -1, APP_GROUP)
            if STATES[name]:
                (root / "shared").mkdir()
                (root / "shared/.env").write_text(f"SECRET={CANARY}\n")
            (self.work / "outside").write_text("not ours\n")
            for tag in STATES[name]:
                ended = self.run(Scenario(tag, "", "deploy", None, tag, tag, keep=9))
                assert ended.exit_code == 0, ended.problems
            self.save(name)
        self.back(name)

    def save(self, name: str) -> None:
        """Keep the host as it is now, under a name."""
        self.saved[name] = self.folder / "saved" / name
        remove_tree(self.saved[name])
        subprocess.run(["cp", "-a", str(self.work), str(self.saved[name])], check=True)

    def back(self, name: str) -> None:
        """Make the host as it was saved, at the very path it had."""
        remove_tree(self.work)
        subprocess.run(["cp", "-a", str(self.saved[name]), str(self.work)], check=True)
        self.said.clear()

    def run(self, scenario: Scenario, pipe: Callable[[str], Pipe] | None = None) -> RunEnded:
        """Run a scenario's command to its end; ``pipe`` starts the host program's first line, others are plain."""
        pipes = [pipe] if pipe else []

        def next_pipe(line: str) -> Pipe:
            return (pipes.pop() if pipes else self.plain)(line)

        self.fleet.pipe = next_pipe
        stage = self._stage(scenario)
        if scenario.ill and scenario.tag:
            self.fleet.ill(HOST, scenario.tag)
        if scenario.verb == "deploy" and scenario.tag:
            return self.fleet.deploy(bundle(scenario.tag, real=scenario.real, **dict(scenario.hooks)), stage=stage)
        if scenario.verb == "rollback":
            return self.fleet.rollback(scenario.tag, stage=stage)
        run = self.fleet.run(scenario.verb, stage)

        def locked(phases: Phases) -> RunEnded:
            run.connect(phases)
            phases.lock(0)  # and so recovers
            if scenario.verb == "prune":
                phases.everywhere("prune", lambda host: host.prune())
            return run.ended([HostOutcome(HOST, Outcome.ANSWERED)], f"{scenario.verb}: done", code=ExitCode.OK)

        return run.guard(locked)

    def _stage(self, scenario: Scenario) -> Stage:
        other: dict[str, Any] = {} if scenario.health else {"health": None}
        return self.fleet.stage(restart=Command(f"{SAY_SECRET}; {RESTART}", 30.0), keep=scenario.keep, **other)

    @contextmanager
    def watched(self, scenario: Scenario) -> Generator[list[str]]:
        """Read through ``current`` all the while; gives what was seen that is neither the old nor the new release."""
        good = {content(tag) for tag in (scenario.old, scenario.new) if tag}
        gaps: list[str] = []
        stop = threading.Event()
        path = self.layout.current / "src/app.py"

        def read() -> None:
            seen = scenario.old is not None
            while not stop.is_set():
                try:
                    data = path.read_bytes()
                    seen = True
                except OSError as error:
                    data = b""
                    if seen and scenario.old is not None:
                        gaps.append(str(error))
                if data and data not in good:
                    gaps.append(f"reads {data[:60]!r}")
                time.sleep(0.001)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield gaps
        finally:
            stop.set()
            reader.join()
