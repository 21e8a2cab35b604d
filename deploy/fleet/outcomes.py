"""What became of each host, and what that makes of the run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from deploy.errors import ExitCode


class Outcome(str, Enum):
    """One word per host. Unknown is an outcome of its own and never counts as success."""

    LIVE = "live"
    """The release asked for is live, verified and confirmed."""
    ANSWERED = "answered"
    """A question was answered and nothing wrong was found."""
    STAGED = "staged"
    """The release is complete on the host; nothing points at it."""
    UNCHANGED = "unchanged"
    """Nothing was asked of this host that could change it."""
    FAILED = "failed"
    """A step failed on this host; what was live before is live."""
    UNREACHABLE = "unreachable"
    """The host could not be reached, and so was not changed."""
    LOCKED = "locked"
    """Somebody else is at work on this host."""
    FROZEN = "frozen"
    """Somebody froze this host: nothing was begun."""
    RETURNED = "returned"
    """Switched, then returned to its own previous release (or to nothing live, as before)."""
    UNKNOWN = "unknown"
    """The line was lost after the switch could have happened: the host settles by itself."""
    STUCK = "stuck"
    """Switching failed and returning failed: a person must look."""

    def __str__(self) -> str:
        return str(self.value)


_MIXED = frozenset({Outcome.UNKNOWN, Outcome.STUCK})


@dataclass(frozen=True)
class HostOutcome:
    """What became of one host. ``problem`` is one line with step and cause; ``next_step`` a command, or ''."""

    host: str
    outcome: Outcome
    detail: str = ""
    step: str = ""
    cause: str = ""
    next_step: str = ""
    log: tuple[str, ...] = ()
    holder: str = ""
    """The run that holds the lock there, where that is what failed."""

    @property
    def problem(self) -> str:
        return f"{self.host}: {self.step}: {self.cause}" if self.cause else ""


class Stopped(Exception):
    """A phase ended the run. ``outcomes`` is what became of every host; ``answers`` of those it left live, theirs."""

    def __init__(
        self,
        step: str,
        outcomes: Sequence[HostOutcome],
        *,
        interrupted: bool = False,
        answers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(step)
        self.step = step
        self.outcomes = tuple(outcomes)
        self.interrupted = interrupted
        self.answers = answers or {}


def exit_code(outcomes: Sequence[HostOutcome]) -> ExitCode:
    """The exit code of a deploy or rollback. 0 only where the release asked for is live on every host asked for."""
    words = {outcome.outcome for outcome in outcomes}
    if outcomes and words == {Outcome.LIVE}:
        return ExitCode.OK
    if words & _MIXED or Outcome.LIVE in words:
        return ExitCode.MIXED
    if Outcome.RETURNED in words:
        return ExitCode.RETURNED
    if words & {Outcome.LOCKED, Outcome.FROZEN}:
        return ExitCode.LOCKED
    return ExitCode.FAILED


def how_many(count: int, what: str) -> str:
    """``1 host``, ``2 hosts``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def next_steps(outcomes: Iterable[HostOutcome]) -> str:
    """What to do, a line each: every failing host's own next step, told once where hosts share it."""
    return "\n".join(dict.fromkeys(outcome.next_step for outcome in outcomes if outcome.cause and outcome.next_step))


def problems(outcomes: Iterable[HostOutcome]) -> tuple[str, ...]:
    """One line per failing host, never only the first; log tails of failing steps behind them."""
    lines: list[str] = []
    for outcome in outcomes:
        if outcome.problem:
            lines.append(outcome.problem)
            lines += [f"    {line}" for line in outcome.log[-12:]]
    return tuple(lines)
