"""Kill the control side when it is about to send, or has just received, its nth message; then look at the host.

Run as a program it is the victim: ``python -m tests.faults.control FOLDER SCENARIO SIGNAL WHEN``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.events import RunEnded
from deploy.link.local import LocalPipe
from deploy.link.pipe import Pipe
from deploy.onhost.layout import Layout
from deploy.tasks.boundary import _signals_interrupt
from tests.faults import oracle
from tests.faults.campaign import Campaign
from tests.faults.ground import SCENARIOS, Ground, Scenario

SIGNALS = ("SIGKILL", "SIGINT", "SIGTERM", "SIGHUP")
SETTLED_WITHIN_S = 60.0


@dataclass
class Deadly:
    """A pipe that sends this very process a signal at the nth message, whichever way it goes."""

    inner: Pipe
    number: int
    when: int
    messages: int = 0

    def open(self) -> None:
        self.inner.open()

    def send(self, data: memoryview) -> int:
        self._count()
        return self.inner.send(data)

    def receive(self, size: int) -> bytes:
        data = self.inner.receive(size)
        self._count()
        return data

    def ending(self) -> tuple[int | None, str]:
        return self.inner.ending()

    def close(self) -> None:
        self.inner.close()

    def _count(self) -> None:
        self.messages += 1
        if self.messages == self.when:
            os.kill(os.getpid(), self.number)


def messages(runs: Campaign, scenario: Scenario) -> int:
    """How many messages a run without a fault has."""
    runs.ground.state(scenario.state)
    return int(_victim(runs.ground, scenario, "SIGKILL", 1_000_000)["messages"])


def fire(runs: Campaign, scenario: Scenario, name: str, when: int) -> tuple[bool, list[str], str]:
    """One point: whether it fired, what was wrong then and after the next deploy, and how the control side ended."""
    ground = runs.ground
    ground.state(scenario.state)
    with ground.watched(scenario) as gaps:
        told = _victim(ground, scenario, name, when)
        free = _comes_free(ground.layout)
    if not told["fired"]:
        return False, [], str(told["status"])
    ended = None
    if told["ended"]:
        about: dict[str, Any] = told["ended"]
        ended = RunEnded(**dict(about, problems=tuple(about["problems"])))
    wrong = [] if free else [f"O4 the lock is still held {SETTLED_WITHIN_S:g} s later"]
    wrong += oracle.after(ground, scenario, gaps, ended)
    return True, wrong + runs.mend(scenario, when), str(told["status"])


def _victim(ground: Ground, scenario: Scenario, name: str, when: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.faults.control", str(ground.folder), scenario.name, name, str(when)]
    done = subprocess.run(words, capture_output=True, text=True)
    told: dict[str, Any] = (
        json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"messages": when, "ended": None}
    )
    ended = told["ended"]
    how = f"signal {-done.returncode}" if done.returncode < 0 else str(ended["exit_code"]) if ended else "interrupted"
    return {**told, "status": how, "fired": told["messages"] >= when}


def _comes_free(layout: Layout) -> bool:
    """Wait until the host program has settled and gone."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while layout.lock.exists():
        with layout.lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
        time.sleep(0.02)
    return True


def _run_until_killed(folder: Path, scenario: Scenario, name: str, when: int) -> None:
    ground = Ground(folder)
    pipes: list[Deadly] = []

    def deadly(line: str) -> Pipe:
        pipes.append(Deadly(LocalPipe(line), signal.Signals[name], when))
        return pipes[0]

    ended = None
    with _signals_interrupt():
        try:
            ended = ground.run(scenario, deadly)
        except KeyboardInterrupt:
            pass  # between two steps: nobody was there to take it
    fields = ("verb", "stage", "exit_code", "verdict", "elapsed_s", "problems", "next_step")
    about = {field: getattr(ended, field) for field in fields} if ended else None
    print(json.dumps({"messages": pipes[0].messages, "ended": about}))


if __name__ == "__main__":
    _run_until_killed(Path(sys.argv[1]), SCENARIOS[sys.argv[2]], sys.argv[3], int(sys.argv[4]))
