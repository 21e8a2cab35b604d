"""Fire faults at a scenario's calls, ask the oracle after each, count what fired, what did not and what was wrong."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.events import HostStep, Notice
from deploy.link.local import LocalPipe
from deploy.link.pipe import Pipe
from tests.faults import hook, oracle, strace
from tests.faults.ground import Ground, Recorder, Scenario
from tests.faults.strace import KILL, Call, Fault

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "ENOMEM")
EVERY_NTH_IS_NEW = 6
"""The next deploy is of the same tag, which may find a release half made; one in so many is of a new one."""


@dataclass
class Tally:
    """What became of the points of one family."""

    family: str
    fired: int = 0
    quiet: list[str] = field(default_factory=list[str])
    violations: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    torn: int = 0
    exits: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, replay: str, where: str | bool, wrong: Sequence[str], code: str) -> None:
        """Count one point: where it struck, or nothing where it did not, and what was wrong."""
        if not where:
            self.quiet.append(replay)
            return
        self.fired += 1
        self.exits[code] = self.exits.get(code, 0) + 1
        self.violations += [f"{line}\n    at {where}\n    {replay}" for line in wrong]
        if wrong:
            print(self.violations[-1], file=sys.stderr, flush=True)

    def add(self, other: Tally) -> None:
        """Count another's points as well."""
        self.fired += other.fired
        self.seconds += other.seconds
        self.quiet += other.quiet
        self.violations += other.violations
        for code, count in other.exits.items():
            self.exits[code] = self.exits.get(code, 0) + count

    def line(self) -> str:
        """The figures in one line."""
        exits = ", ".join(f"{code}: {count}" for code, count in sorted(self.exits.items()))
        return (
            f"{self.family}: fired {self.fired}, did not fire {len(self.quiet)}, violations {len(self.violations)}, "
            f"{self.seconds:.0f} s (exit codes {exits})"
        )


class Campaign:
    """Points of one ground, one after the other; struck by strace, or by the preloaded hook."""

    def __init__(self, folder: Path, seed: int, *, hooked: bool = False) -> None:
        self.ground = Ground(folder)
        self.seed = seed
        self.hook = hook.built(folder) if hooked else None

    def calls(self, scenario: Scenario) -> list[Call]:
        """What a run without a fault changes, in order. Raises AssertionError where it changes anything beside ROOT."""
        ground = self.ground
        ground.state(scenario.state)
        ground.run(scenario, self._traced(*scenario.always))
        found = list(strace.calls(ground.trace))
        root = str(ground.layout.root)
        strange = [call.text for call in found if not all(_is_ours(path, root) for path in call.paths)]
        assert not strange, f"O7 the host program changes what is not below {root}: {strange[:3]}"
        return [call for call in found if any(path.startswith((root, "pipe:")) for path in call.paths)]

    def fire(self, scenario: Scenario, fault: Fault) -> tuple[str, list[str], int]:
        """One point: from the scenario's state to the next deploy; gives where it struck, what was wrong, the exit."""
        ground = self.ground
        ground.state(scenario.state)
        ground.trace.unlink(missing_ok=True)
        ground.fleet.events.clear()
        with ground.watched(scenario) as gaps:
            ended = ground.run(scenario, self._traced(*scenario.always, fault, names=()))
        where = strace.struck(ground.trace, fault)
        if not where:
            return "", [], ended.exit_code
        wrong = oracle.after(ground, scenario, gaps, ended)
        kept = "/.deploy/bin/" in where  # the loader's copy of the program: without it the next run sends it again
        if (
            fault.name in ("fsync", "syncfs")
            and not kept
            and fault.what != KILL
            and ended.exit_code == 0
            and not self._warned()
        ):
            wrong.append("O3 a failed sync was told as success")
        return where, wrong + self.mend(scenario, fault.when), ended.exit_code

    def _warned(self) -> bool:
        """Whether something that went wrong was told, though it was not fatal."""
        events = self.ground.fleet.events
        return any(isinstance(e, Notice) or (isinstance(e, HostStep) and e.state == "warned") for e in events)

    def broken(self, scenario: Scenario, fault: Fault) -> Scenario:
        """What a kill leaves behind, as a state to recover from."""
        ground, state = self.ground, f"{scenario.name}-{fault.name}-{fault.when}"
        if state not in ground.saved:
            ground.state(scenario.state)
            ground.run(scenario, self._traced(*scenario.always, fault, names=()))
            ground.save(state)
        return replace(scenario, name=f"{scenario.name} --after {fault.name}:{fault.when}", state=state, verb="recover")

    def mend(self, scenario: Scenario, number: int) -> list[str]:
        """The next deploy, by a real host program with no fault in it; gives what was wrong then."""
        tag, hooks = scenario.new or "v9", scenario.hooks
        if (number + self.seed) % EVERY_NTH_IS_NEW == 0 or scenario.name == "unready":
            tag, hooks = "v9", ()
        for name in self.ground.layout.shared.glob("ill-*"):
            name.unlink()
        after = Scenario(
            "mend", "", "deploy", None, tag, tag, keep=scenario.keep, hooks=hooks, health=False, real=scenario.real
        )  # fmt: skip
        ended = self.ground.run(after)
        return oracle.recovered(self.ground, tag, ended)

    def all(self, family: str, scenario: Scenario, faults: Iterable[Fault]) -> Tally:
        """Fire each fault by itself."""
        tally = Tally(family)
        began = time.monotonic()
        for fault in faults:
            where, wrong, code = self.fire(scenario, fault)
            replay = f".venv-test/bin/python -m tests.faults {scenario.name} --call {fault.name} --when {fault.when}"
            replay += f" --what {fault.what} --seed {self.seed}{' --by hook' if self.hook else ''}"
            tally.count(replay, where, wrong, str(code))
        tally.seconds = time.monotonic() - began
        return tally

    def _traced(self, *faults: Fault, names: Sequence[str] = strace.MUTATING) -> Callable[[str], Pipe]:
        ground, preloaded = self.ground, self.hook

        def pipe(line: str) -> Pipe:
            if preloaded:
                line = hook.traced(line, ground.trace, preloaded, *faults)
            else:
                line = strace.traced(line, ground.trace, *faults, names=names)
            return Recorder(LocalPipe(line), ground.said)

        return pipe


def kills(calls: Sequence[Call]) -> list[Fault]:
    """A kill before each call."""
    return [Fault(call.name, call.when, KILL) for call in calls]


def errors(calls: Sequence[Call], seed: int) -> list[Fault]:
    """An error of each call, in turn of five."""
    first = seed % len(ERRORS)
    return [Fault(c.name, c.when, f"error={ERRORS[(first + at) % len(ERRORS)]}") for at, c in enumerate(calls)]


def on_disk(calls: Sequence[Call]) -> list[Call]:
    """Those that may meet such an error: pipes are no disk."""
    return [call for call in calls if not any(path.startswith("pipe:") for path in call.paths)]


def chosen(calls: Sequence[Call], most: int, seed: int) -> list[Call]:
    """At most so many calls: one of each kind, place and phase first, then a seeded sample of the others."""
    if len(calls) <= most:
        return list(calls)
    first: dict[tuple[str, str, int], int] = {}
    phase = 0
    for at, call in enumerate(calls):
        phase += call.name in ("fsync", "syncfs")
        place = re.sub(r"\d+", "", call.paths[0].rpartition("/")[0]) if call.paths else ""
        first.setdefault((call.name, place, phase), at)
    dice = random.Random(seed)
    distinct = list(first.values())
    dice.shuffle(distinct)
    others = [at for at in range(len(calls)) if at not in set(distinct)]
    dice.shuffle(others)
    return [calls[at] for at in sorted((distinct + others)[:most])]


def _is_ours(path: str, root: str) -> bool:
    return path == root or path.startswith((root + "/", "pipe:", "/memfd:", "/dev/null"))
