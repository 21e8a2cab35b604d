"""Kill the host program at moments of a staging: where in pip's own work they fall is anybody's guess."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from deploy.events import HostStep
from deploy.link.local import LocalPipe
from deploy.link.pipe import Pipe
from tests.faults import oracle
from tests.faults.campaign import Campaign
from tests.faults.ground import Recorder, Scenario

FROM, TO = ("venv", "started"), ("link", "started")
"""Between these two the toolchain is at work."""


@dataclass
class Watch:
    """The events of one run, and a kill of its host program so long after the first of the two moments."""

    after_s: float = 1e6
    pid: int = 0
    began: float = 0.0
    length_s: float = 0.0
    at: str = ""
    struck: str = ""
    _told: list[Any] = field(default_factory=list[Any])

    def append(self, event: Any) -> None:
        """Take one event, as the list of events that a run is given."""
        self._told.append(event)
        if not isinstance(event, HostStep):
            return
        self.at = f"{event.step} {event.state}: {event.detail}"
        if (event.step, event.state) == FROM:
            self.began = time.monotonic()
            timer = threading.Timer(self.after_s, self._strike)
            timer.daemon = True
            timer.start()
        elif (event.step, event.state) == TO:
            self.length_s, self.began = time.monotonic() - self.began, 0.0

    def _strike(self) -> None:
        if self.began:
            self.struck = f"{self.after_s:.3f} s after venv started, {self.at}"
            os.kill(self.pid, signal.SIGKILL)


def length_s(runs: Campaign, scenario: Scenario) -> float:
    """How long the toolchain is at work where nothing is killed."""
    return _run(runs, scenario, 1e6)[0].length_s


def fire(runs: Campaign, scenario: Scenario, after_s: float) -> tuple[str, list[str], str]:
    """One point: where it struck (nothing where staging was over before), what was wrong, the exit code."""
    watch, gaps, ended = _run(runs, scenario, after_s)
    if not watch.struck:
        return "", [], str(ended.exit_code)
    wrong = oracle.after(runs.ground, scenario, gaps, ended)
    return watch.struck, wrong + runs.mend(scenario, 1), str(ended.exit_code)


def _run(runs: Campaign, scenario: Scenario, after_s: float) -> tuple[Watch, list[str], Any]:
    ground = runs.ground
    ground.state(scenario.state)
    ground.fleet.events.clear()
    watch, kept = Watch(after_s), ground.fleet.events

    def pipe(line: str) -> Pipe:
        opened = LocalPipe(f"exec {line}")
        watch.pid = opened._child.pid
        return Recorder(opened, ground.said)

    ground.fleet.events = watch  # type: ignore[assignment]
    try:
        with ground.watched(scenario) as gaps:
            ended = ground.run(scenario, pipe)
    finally:
        ground.fleet.events = kept
    kept += watch._told
    return watch, gaps, ended
