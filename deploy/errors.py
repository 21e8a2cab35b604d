"""The few typed errors of the control side, and the exit code each one ends a command with.

A run that reached hosts ends with events.RunEnded instead, whose code ``deploy.fleet.outcomes`` decides.

Every error an operator can meet says three things: what is true of the service now, why, and the
next command. Anything else is a bug and crashes into the one boundary in ``deploy.tasks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell, a CI job or a cron line can rely on. Design: one table, nowhere else."""

    OK = 0
    """The tag asked for is live and verified on every host asked for; or answered, nothing wrong found."""
    FAILED = 1
    """Failed; the service is unchanged."""
    REFUSED = 2
    """Usage, settings, tag or closure refused before any host was contacted."""
    RETURNED = 3
    """Failed after the switch; every host returned to its previous release."""
    MIXED = 4
    """Mixed or unknown: a person must look."""
    LOCKED = 5
    """Somebody else is at work on a host, or has frozen it; nothing was begun."""
    BUG = 70
    """A bug in sealed-deploy; the traceback was saved and its path printed."""
    INTERRUPTED = 130
    """Interrupted; what was left in place was printed."""


class DeployError(Exception):
    """An expected failure. ``what`` states the effect on the service first, then ``why``, then ``next_step``.

    ``problems`` lists every single finding where there is more than one (all settings mistakes, all
    broken chains, all failing hosts): never only the first.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, why: str, next_step: str, *, problems: Sequence[str] = ()) -> None:
        super().__init__(what, why, next_step)
        self.what = what
        self.why = why
        self.next_step = next_step
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [self.what, f"why: {self.why}"]
        lines += [f"  - {problem}" for problem in self.problems]
        lines.append(f"next: {self.next_step}")
        return "\n".join(lines)


class Failed(DeployError):
    """The command failed and no host changed its live release."""

    exit_code = ExitCode.FAILED


class Refused(DeployError):
    """Usage, settings, tag or closure is not acceptable; no host was contacted."""

    exit_code = ExitCode.REFUSED


class Interrupted(DeployError):
    """The operator stopped the run (Ctrl-C or SIGTERM)."""

    exit_code = ExitCode.INTERRUPTED
