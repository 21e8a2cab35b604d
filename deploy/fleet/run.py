"""One command's run on one stage: makes the hosts, guards the phases, tells how they ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from deploy.errors import ExitCode
from deploy.events import Emit, HostCost, HostEnded, Notice, RunEnded
from deploy.fleet.fanout import Results
from deploy.fleet.host import Host, Opener, Run
from deploy.fleet.outcomes import HostOutcome, Outcome, exit_code, next_steps, problems
from deploy.fleet.phases import Phases, Stopped
from deploy.link import launch
from deploy.settings import Stage

T = TypeVar("T")
CLOCK_SKEW_S = 60.0
NO_CHANGE = "the service is unchanged"
BACK = "every host is back on its own previous release"
BACK_TO_NOTHING = "nothing is live, as before"


class FleetRun:
    """One command's run on one stage: makes the hosts, guards the phases, tells the end."""

    def __init__(
        self,
        verb: str,
        stage: Stage,
        emit: Emit,
        *,
        operator: str,
        program: tuple[bytes, str],
        open_pipe: Opener,
        narrowed: bool = False,
        dry: bool = False,
        tag: str | None = None,
        release: str | None = None,
    ) -> None:
        self.verb, self.stage, self.emit, self.tag, self.release = verb, stage, emit, tag, release
        names = ",".join(host.name for host in stage.hosts)
        self.where = f"--stage {stage.name}" + (f" --hosts {names}" if narrowed else "")
        self._dry = dry
        self._began = time.monotonic()
        self._open = open_pipe
        self._run = Run(secrets.token_hex(8), operator, verb, stage.name, self.where, *program)
        self.phases = Phases([Host(settings, self._run, emit) for settings in stage.hosts], emit)

    def connect(self, phases: Phases, *, usable: bool = True) -> None:
        """Reach every host, list every one that cannot be used, tell of clocks that are off."""
        phases.connect(self._open, self._exec_line, usable=usable)
        for host in phases.hosts:
            skew = float(host.facts["clock"]) - time.time()
            if abs(skew) > CLOCK_SKEW_S:
                self.emit(Notice(f"its clock is off by {skew:+.0f} s (order does not depend on it)", host.name))

    def ask(self, what: Callable[[Host], T]) -> Results[T]:
        """Reach every host and ask one thing; each host's answer or failure. A bug is raised after all have ended."""
        results = self.phases.ask(self._open, self._exec_line, what)
        if self.phases.bugs:
            raise self.phases.bugs[0]
        return results

    def guard(self, what: Callable[[Phases], RunEnded]) -> RunEnded:
        """Run the phases; whatever stops them becomes the closing block. Every host is let go in the end.

        A bug is raised after that block where nothing graver is to be told.
        """
        try:
            return what(self.phases)
        except Stopped as stopped:
            ended = self._stopped(stopped)
            if ended.exit_code == ExitCode.BUG:
                raise self.phases.bugs[0] from stopped
            return ended
        except KeyboardInterrupt:
            left = [host.left() for host in self.phases.hosts]
            return self.ended(
                left,
                f"{self._what()} was interrupted; {_left_in_place(left)}",
                code=ExitCode.INTERRUPTED,
                next_step=f"fab status {self.where}",
            )
        finally:
            self.phases.close()

    def ended(
        self,
        outcomes: Sequence[HostOutcome],
        verdict: str,
        *,
        code: ExitCode | None = None,
        next_step: str = "",
        undo: str = "",
    ) -> RunEnded:
        """Tell every host's outcome and the closing block."""
        if self._dry:
            verdict = (
                "dry run, no host was contacted: tag, settings and closure are in order (fab check asks the hosts)"
            )
            undo, code = "", ExitCode.OK
            outcomes = [HostOutcome(o.host, Outcome.ANSWERED, "was not contacted") for o in outcomes]
        for host in self.phases.hosts:
            self.emit(HostCost(host.name, **asdict(host.counters)))
        for outcome in outcomes:
            self.emit(HostEnded(outcome.host, str(outcome.outcome), outcome.detail))
        ended = RunEnded(
            self.verb,
            self.stage.name,
            int(exit_code(outcomes) if code is None else code),
            verdict,
            time.monotonic() - self._began,
            tuple(HostEnded(o.host, str(o.outcome), o.detail) for o in outcomes),
            problems=problems(outcomes),
            next_step=next_step,
            undo=undo,
            release=self.release,
            tag=self.tag,
        )
        self.emit(ended)
        return ended

    def _stopped(self, stopped: Stopped) -> RunEnded:
        outcomes = stopped.outcomes
        code = ExitCode.INTERRUPTED if stopped.interrupted else exit_code(outcomes)
        if code == ExitCode.FAILED and self.phases.bugs:
            code = ExitCode.BUG
        steps = next_steps(outcomes).splitlines() + self._without_the_unreachable(outcomes)
        if code in (ExitCode.MIXED, ExitCode.INTERRUPTED):
            steps.append(f"fab status {self.where}")
        if not steps:
            what = f"{self.verb}:{self.tag}" if self.tag else self.verb
            steps.append(f"fab {what} {self.where}  # again: there is nothing to clean up")
        served = any(host.current for host in self.phases.hosts)
        ending = {
            ExitCode.FAILED: f"stopped at {stopped.step}: {NO_CHANGE}",
            ExitCode.BUG: f"met a bug at {stopped.step}: {NO_CHANGE}",
            ExitCode.LOCKED: "did not start, somebody else is at work: this run changed nothing",
            ExitCode.RETURNED: f"failed at {stopped.step}; {BACK if served else BACK_TO_NOTHING}",
            ExitCode.MIXED: f"failed at {stopped.step}; hosts differ or are unknown: a person must look",
            ExitCode.INTERRUPTED: f"was interrupted at {stopped.step}; {_left_in_place(outcomes)}",
        }
        return self.ended(outcomes, f"{self._what()} {ending[code]}", code=code, next_step="\n".join(steps))

    def _without_the_unreachable(self, outcomes: Sequence[HostOutcome]) -> list[str]:
        """How to go on with the others: a decision that is the operator's."""
        others = [o.host for o in outcomes if o.outcome is not Outcome.UNREACHABLE]
        if not self.tag or not others or len(others) == len(outcomes):
            return []
        return [f"fab {self.verb}:{self.tag} --stage {self.stage.name} --hosts {','.join(others)}  # without it"]

    def _what(self) -> str:
        return f"{self.verb} of {self.tag}" if self.tag else self.verb

    def _exec_line(self, host: Host) -> str:
        return launch.exec_line(host.settings.python, self._run.program_sha256, host.settings.root)


def _left_in_place(outcomes: Sequence[HostOutcome]) -> str:
    if any(o.outcome in (Outcome.LIVE, Outcome.UNKNOWN, Outcome.STUCK) for o in outcomes):
        return "what is live where stands above"
    if any(o.outcome is Outcome.RETURNED for o in outcomes):
        return BACK
    return f"nothing was switched, {NO_CHANGE}; what hosts received stays and is not sent again"
