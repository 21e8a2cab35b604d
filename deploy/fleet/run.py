"""One command's run on one stage: makes the hosts, guards the phases, tells how they ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from deploy.errors import DeployError, ExitCode
from deploy.events import Emit, HostCost, HostEnded, Notice, RunEnded
from deploy.fleet.contact import Opener, Run
from deploy.fleet.fanout import Results
from deploy.fleet.host import UPKEEP, Host
from deploy.fleet.outcomes import HostOutcome, Outcome, Stopped, exit_code, next_steps, problems
from deploy.fleet.phases import Phases
from deploy.link import launch
from deploy.settings import ALL_AT_ONCE, Stage
from deploy.wire import names

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
        skip_unreachable: bool = False,
        dry: bool = False,
        tag: str | None = None,
        release: str | None = None,
        job: str = "",
        again: str = "",
    ) -> None:
        self.verb, self.stage, self.emit, self.tag, self.release = verb, stage, emit, tag, release
        self.strategy = stage.waves if verb in stage.waves.on and not dry else ALL_AT_ONCE
        named = ",".join(host.name for host in stage.hosts)
        self.where = f"--stage {stage.name}" + (f" --hosts {named}" if narrowed else "")
        self._dry, self._skip_unreachable, self._narrowed = dry, skip_unreachable, narrowed
        self.command = again or (f"fab {verb}:{tag}" if tag else f"fab {verb}")
        """What was typed, but for the options that name hosts and the wait for a lock."""
        self._began = time.monotonic()
        self._open = open_pipe
        run_id = secrets.token_hex(8)
        self._run = Run(run_id, operator, verb, stage.name, self.where, *program, tag=tag or "", job=job)
        self.phases = Phases([Host(settings, self._run, emit) for settings in stage.hosts], emit)

    @property
    def is_partial(self) -> bool:
        """Whether hosts of the stage are not asked: not named, or left out because they cannot be reached."""
        return self._narrowed or bool(self.phases.skipped)

    def connect(self, phases: Phases, *, usable: bool = True) -> None:
        """Reach every host, list every one that cannot be used, tell of clocks that are off."""
        phases.connect(self._open, self._exec_line, usable=usable, skip_unreachable=self._skip_unreachable)
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
        except DeployError:
            raise
        except Exception as bug:  # between two steps, where no host is to blame for it
            left = [host.broken(bug) if host.may_have_switched else host.left() for host in self.phases.hosts]
            unknown = any(host.may_have_switched for host in self.phases.hosts)
            verdict = f"{self._what()} met a bug; {_left_in_place(left)}"
            ended = self.ended(
                left, verdict, code=ExitCode.MIXED if unknown else ExitCode.BUG, next_step=f"fab status {self.where}"
            )
            if not unknown:
                raise
            return ended
        except KeyboardInterrupt:
            left = [host.left() for host in self.phases.hosts]
            look = f"fab {'log' if self.verb in UPKEEP else 'status'} {self.where}"
            verdict = f"{self._what()} was interrupted; {_left_in_place(left)}"
            return self.ended(left, verdict, code=ExitCode.INTERRUPTED, next_step=look)
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
        outcomes = self._with_skipped(outcomes)
        if self._dry and code is None:
            verdict = (
                "dry run, no host was contacted: tag, settings and closure are in order (fab check asks the hosts)"
            )
            undo, code = "", ExitCode.OK
            outcomes = [HostOutcome(o.host, Outcome.ANSWERED, "was not contacted") for o in outcomes]
        if self.phases.skipped:
            away = [outcome.host for outcome in self.phases.skipped]
            verdict += f"; left out, because they cannot be reached: {', '.join(away)}"
            next_step = f"{next_step}\n{self.command} {self.on(away)}  # when they can be reached".strip()
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

    def undo(self, answers: Mapping[str, Mapping[str, Any]]) -> str:
        """The command that takes it back on the hosts that moved: by tag, and only where one tag does so for all."""
        moved = {name: answer["from"] for name, answer in answers.items() if answer["from"] != answer["release"]}
        tags = {names.tag_of(names.parse_release_id(release)) if release else None for release in moved.values()}
        if len(tags) != 1 or None in tags:
            return ""
        where = self.where if len(moved) == len(self.stage.hosts) else self.on(list(moved))
        return f"fab {'rollback' if self.verb == 'deploy' else 'deploy'}:{tags.pop()} {where}"

    def _stopped(self, stopped: Stopped) -> RunEnded:
        outcomes = self._with_skipped(stopped.outcomes)
        code = ExitCode.INTERRUPTED if stopped.interrupted else exit_code(outcomes)
        if code == ExitCode.FAILED and self.phases.bugs:
            code = ExitCode.BUG
        steps = next_steps(outcomes).splitlines() + self._without_these(outcomes)
        if stopped.answers and self.tag:
            steps.append(f"{self.command} {self.where}  # goes on with the hosts that it is not live on")
        if code in (ExitCode.MIXED, ExitCode.INTERRUPTED):
            steps.append(f"fab status {self.where}")
        if not steps:
            steps.append(f"{self.command} {self.where}  # again: there is nothing to clean up")
        served = any(host.current for host in self.phases.hosts)
        ending = {
            ExitCode.FAILED: f"stopped at {stopped.step}: {NO_CHANGE}",
            ExitCode.BUG: f"met a bug at {stopped.step}: {NO_CHANGE}",
            ExitCode.LOCKED: f"did not start, {_hindrance(outcomes)}: this run changed nothing",
            ExitCode.RETURNED: f"failed at {stopped.step}; {BACK if served else BACK_TO_NOTHING}",
            ExitCode.MIXED: f"failed at {stopped.step}; {_left_mixed(outcomes)}",
            ExitCode.INTERRUPTED: f"was interrupted at {stopped.step}; {_left_in_place(outcomes)}",
        }
        verdict = f"{self._what()} {ending[code]}"
        undo = self.undo(stopped.answers)
        return self.ended(outcomes, verdict, code=code, next_step="\n".join(steps), undo=undo)

    def _with_skipped(self, outcomes: Sequence[HostOutcome]) -> list[HostOutcome]:
        """Every host asked for, in the order of the stage: also those that were left out."""
        found = {outcome.host: outcome for outcome in (*outcomes, *self.phases.skipped)}
        return [found[host.name] for host in self.stage.hosts if host.name in found]

    def on(self, hosts: Sequence[str]) -> str:
        """The options that name these hosts alone."""
        return f"--stage {self.stage.name} --hosts {','.join(hosts)}"

    def _without_these(self, outcomes: Sequence[HostOutcome]) -> list[str]:
        """How to go on without hosts that are off or have nowhere to go back to: a decision that is the operator's."""
        others = [o.host for o in outcomes if o.outcome is not Outcome.UNREACHABLE and o.step != "choose"]
        named = self.verb in ("deploy", "rollback") and not self.phases.skipped
        if not named or not others or len(others) == len(outcomes):
            return []
        return [f"{self.command} {self.on(others)}  # without it"]

    def _what(self) -> str:
        return f"{self.verb} of {self.tag}" if self.tag else self.verb

    def _exec_line(self, host: Host) -> str:
        return launch.exec_line(host.settings.python, self._run.program_sha256, host.settings.root)


def _left_mixed(outcomes: Sequence[HostOutcome]) -> str:
    """Whether it is known what every host serves."""
    live = [o for o in outcomes if o.outcome is Outcome.LIVE]
    if any(o.outcome in (Outcome.UNKNOWN, Outcome.STUCK) for o in outcomes) or not live:
        return "hosts differ or are unknown: a person must look"
    return f"it is live on {len(live)} of {len(outcomes)} hosts, the others serve what they served before"


def _hindrance(outcomes: Sequence[HostOutcome]) -> str:
    frozen = any(o.outcome is Outcome.FROZEN for o in outcomes)
    locked = any(o.outcome is Outcome.LOCKED for o in outcomes)
    return " and ".join(["somebody else is at work"] * locked + ["hosts are frozen"] * frozen)


def _left_in_place(outcomes: Sequence[HostOutcome]) -> str:
    if any(o.outcome in (Outcome.LIVE, Outcome.UNKNOWN, Outcome.STUCK) for o in outcomes):
        return "what is known of each host stands above"
    if any(o.outcome is Outcome.RETURNED for o in outcomes):
        return BACK
    return f"nothing was switched, {NO_CHANGE}; what hosts received stays and is not sent again"
