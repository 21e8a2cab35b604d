"""What operators do between deploys: prune, pin, freeze, thaw, and read the journal. Decides nothing that hosts decide.

Each of them but ``log`` takes all locks of the stage or none, and then does on every host what it can.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from deploy.errors import ExitCode
from deploy.events import Emit, RunEnded
from deploy.fleet import preflight
from deploy.fleet.holders import freeze_in_words, utc
from deploy.fleet.outcomes import HostOutcome, Outcome, how_many, next_steps
from deploy.fleet.phases import Phases
from deploy.fleet.run import FleetRun
from deploy.fleet.survey import journals
from deploy.pipeline import Request, asking, begin


@dataclass(frozen=True)
class Term:
    """Until when something holds: ``until`` in seconds since 1970, ``for_s`` from now by this machine's clock."""

    until: float | None = None
    for_s: float | None = None


def prune(request: Request, emit: Emit, *, free: int | None = None, wait_s: float = 0) -> RunEnded:
    """Delete old releases and what only they needed; with ``free``, the oldest until so many bytes are free."""
    run = begin("prune", request, emit, again=f"fab prune{f' --free {free}' if free else ''}")

    def asked(phases: Phases) -> RunEnded:
        results = phases.each("prune", lambda host: host.prune(free))
        outcomes = [_pruned(name, one, free) for name, one in results.given.items()]
        gone = sum(len(one["pruned"]) for one in results.given.values())
        verdict = f"{how_many(gone, 'release')} deleted on {how_many(len(outcomes), 'host')}"
        short = [outcome.host for outcome in outcomes if outcome.cause]
        if short:
            verdict += f"; too little is free on {', '.join(short)}"
        next_step = "look for what else fills the disk: du -xsh ROOT/shared/* ROOT/releases/*" if short else ""
        return _ended(run, outcomes, results.failed, verdict, next_step=next_step)

    return _locked(run, wait_s, asked)


def pin(request: Request, tag: str, emit: Emit, *, pinned: bool, wait_s: float = 0) -> RunEnded:
    """Exempt a tag's releases from pruning on every host of the stage, or no longer. All have it, or none is asked."""
    verb = "pin" if pinned else "unpin"
    run = begin(verb, request, emit, tag=tag)

    def asked(phases: Phases) -> RunEnded:
        releases = phases.everywhere("choose", lambda host: preflight.releases_of(host, tag))
        results = phases.each(verb, lambda host: host.pin(releases[host.name], pinned=pinned))
        word = "pinned" if pinned else "no longer pinned"
        outcomes = [
            HostOutcome(name, Outcome.ANSWERED, f"{', '.join(releases[name])} {word}" if now else f"was {word} already")
            for name, now in results.given.items()
        ]
        moved = [name for name, now in results.given.items() if now]
        where = run.where if len(moved) == len(phases.hosts) else run.on(moved)
        undo = f"fab {'unpin' if pinned else 'pin'}:{tag} {where}" if moved else ""
        verdict = f"{tag} is {word} on {how_many(len(outcomes), 'host')}"
        return _ended(run, outcomes, results.failed, verdict, undo=undo)

    return _locked(run, wait_s, asked)


def freeze(request: Request, reason: str, term: Term, emit: Emit, *, wait_s: float = 0) -> RunEnded:
    """Stop deploys, prunes and pins on every host of the stage until somebody thaws them or the term ends."""
    until = f" --until {datetime.fromtimestamp(term.until, timezone.utc):%Y-%m-%dT%H:%M:%SZ}" if term.until else ""
    run = begin("freeze", request, emit, again=f"fab freeze {shlex.quote(reason)}{until}")

    def asked(phases: Phases) -> RunEnded:
        results = phases.each("freeze", lambda host: host.freeze(reason, term.until, term.for_s))
        outcomes = [HostOutcome(name, Outcome.ANSWERED, freeze_in_words(one)) for name, one in results.given.items()]
        end = f"until {utc(term.until)}" if term.until else "until somebody thaws them"
        verdict = f"{how_many(len(outcomes), 'host')} frozen {end}: {reason}"
        return _ended(run, outcomes, results.failed, verdict, undo=f"fab thaw {run.where}")

    return _locked(run, wait_s, asked)


def thaw(request: Request, emit: Emit, *, wait_s: float = 0) -> RunEnded:
    """End the freeze of every host of the stage."""
    run = begin("thaw", request, emit)

    def asked(phases: Phases) -> RunEnded:
        results = phases.each("thaw", lambda host: host.thaw())
        outcomes = [
            HostOutcome(name, Outcome.ANSWERED, f"was {freeze_in_words(one)}" if one else "was not frozen")
            for name, one in results.given.items()
        ]
        return _ended(run, outcomes, results.failed, f"{how_many(len(outcomes), 'host')} not frozen")

    return _locked(run, wait_s, asked)


def log(request: Request, emit: Emit, *, number: int) -> dict[str, Any]:
    """The last things that happened on each host, from its own journal. Changes nothing."""
    return journals(asking("log", request, emit), number)


def _locked(run: FleetRun, wait_s: float, asked: Callable[[Phases], RunEnded]) -> RunEnded:
    def guarded(phases: Phases) -> RunEnded:
        run.connect(phases)
        phases.lock(wait_s or run.stage.wait_s)
        return asked(phases)

    ended = run.guard(guarded)
    if ended.exit_code == ExitCode.BUG and run.phases.bugs:
        raise run.phases.bugs[0]
    return ended


def _ended(
    run: FleetRun,
    outcomes: Sequence[HostOutcome],
    failed: Mapping[str, HostOutcome],
    verdict: str,
    *,
    next_step: str = "",
    undo: str = "",
) -> RunEnded:
    """Tell what was done, and of the hosts where it failed the commands that show and mend that: what is done stays."""
    every = [*outcomes, *failed.values()]
    steps = [next_step, next_steps(failed.values())]
    if failed:
        on = run.on(list(failed))
        unknown = all(outcome.outcome is Outcome.UNKNOWN for outcome in failed.values())
        how = "was interrupted" if run.phases.stopping else "is UNKNOWN" if unknown else "FAILED"
        verdict = f"{run.verb} {how} on {', '.join(failed)}; {verdict}"
        steps += [f"fab log {on}  # what was done there", f"{run.command} {on}"]
    code = ExitCode.FAILED if any(outcome.cause for outcome in every) else ExitCode.OK
    if any(outcome.outcome is Outcome.UNKNOWN for outcome in every):
        code = ExitCode.MIXED
    if failed and run.phases.stopping:
        code = ExitCode.INTERRUPTED
    elif run.phases.bugs:
        code = ExitCode.BUG
    next_step = "\n".join(filter(None, steps))
    may_be_done = any(outcome.outcome is not Outcome.FAILED for outcome in every)
    return run.ended(every, verdict, code=code, next_step=next_step, undo=undo if may_be_done else "")


def _pruned(name: str, found: Mapping[str, Any], free: int | None) -> HostOutcome:
    lines = [f"deleted: {', '.join(found['pruned']) or 'none'}; free now: {_megabytes(found['free'])}"]
    lines += [f"kept {release}: {why}" for release, why in found["kept"].items()]
    if free is None or found["free"] >= free:
        return HostOutcome(name, Outcome.ANSWERED, "\n".join(lines))
    cause = f"{_megabytes(found['free'])} free, {_megabytes(free)} asked for; nothing more may go"
    return HostOutcome(name, Outcome.FAILED, "\n".join(lines), "prune", cause)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
