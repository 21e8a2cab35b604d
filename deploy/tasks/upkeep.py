"""The commands between deploys: prune, pin, unpin, freeze, thaw, log. Each parses, calls one function, returns."""

from __future__ import annotations

import time
from functools import partial

from invoke.context import Context

from deploy.errors import Refused
from deploy.tasks import quantities
from deploy.tasks.commands import (
    DOCUMENT,
    LINES,
    STAGE,
    VERBOSE,
    WAIT,
    request_for,
    run_and_leave,
    show_answer,
    wait_seconds,
)
from deploy.tasks.executor import fleet_task

REASON_CHARACTERS = 300


@fleet_task(
    takes_hosts=True,
    help={
        "free": "Go on, oldest first, until so much is free: 2G, 500M. Also deletes what `keep` would keep.",
        **STAGE,
        **WAIT,
        **LINES,
        **VERBOSE,
    },
)
def prune(
    c: Context,
    stage: str | None = None,
    hosts: str | None = None,
    free: str | None = None,
    wait: int = 0,
    *,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Delete releases beyond those to keep; never one that is live, pinned, possibly in use, or the way back."""
    from deploy import upkeep

    request, wanted, wait_s = request_for(c, stage, hosts), quantities.space(free) if free else None, wait_seconds(wait)
    run_and_leave(lambda emit: upkeep.prune(request, emit, free=wanted, wait_s=wait_s), json=json, verbose=verbose)


@fleet_task(takes_hosts=True, help={"tag": "The tag whose releases to exempt.", **STAGE, **WAIT, **LINES, **VERBOSE})
def pin(
    c: Context,
    tag: str,
    stage: str | None = None,
    hosts: str | None = None,
    wait: int = 0,
    *,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Exempt a tag's releases from pruning until they are unpinned. Also: fab pin:TAG."""
    from deploy import upkeep

    request, wait_s = request_for(c, stage, hosts), wait_seconds(wait)
    run_and_leave(lambda emit: upkeep.pin(request, tag, emit, pinned=True, wait_s=wait_s), json=json, verbose=verbose)


@fleet_task(takes_hosts=True, help={"tag": "The tag that was pinned.", **STAGE, **WAIT, **LINES, **VERBOSE})
def unpin(
    c: Context,
    tag: str,
    stage: str | None = None,
    hosts: str | None = None,
    wait: int = 0,
    *,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Let a pinned tag's releases be pruned again when they are due. Also: fab unpin:TAG."""
    from deploy import upkeep

    request, wait_s = request_for(c, stage, hosts), wait_seconds(wait)
    run_and_leave(lambda emit: upkeep.pin(request, tag, emit, pinned=False, wait_s=wait_s), json=json, verbose=verbose)


@fleet_task(
    takes_hosts=True,
    help={
        "reason": "Why, for everybody who meets the freeze.",
        "until": "When it ends by itself: 2026-12-01T08:00 in this machine's time zone, or with one: ...+01:00, ...Z.",
        "for": "How long it lasts: 2h, 90m, 1d12h.",
        **STAGE,
        **WAIT,
        **LINES,
        **VERBOSE,
    },
)
def freeze(
    c: Context,
    reason: str,
    stage: str | None = None,
    hosts: str | None = None,
    *,
    until: str | None = None,
    for_: str | None = None,
    wait: int = 0,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Stop deploys, prunes and pins on the hosts of a stage until they are thawed; rollbacks go on."""
    from deploy import upkeep

    request, wait_s = request_for(c, stage, hosts), wait_seconds(wait)
    why, end = _reason(reason), _term(until, for_)
    run_and_leave(
        lambda emit: upkeep.freeze(request, why, upkeep.Term(*end), emit, wait_s=wait_s), json=json, verbose=verbose
    )


@fleet_task(takes_hosts=True, help={**STAGE, **WAIT, **LINES, **VERBOSE})
def thaw(
    c: Context,
    stage: str | None = None,
    hosts: str | None = None,
    wait: int = 0,
    *,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """End a freeze."""
    from deploy import upkeep

    request, wait_s = request_for(c, stage, hosts), wait_seconds(wait)
    run_and_leave(lambda emit: upkeep.thaw(request, emit, wait_s=wait_s), json=json, verbose=verbose)


@fleet_task(takes_hosts=True, help={"n": "How many things to tell; 20.", **STAGE, **DOCUMENT, **VERBOSE})
def log(
    c: Context,
    stage: str | None = None,
    hosts: str | None = None,
    n: int = 20,
    *,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Show what was done on the hosts, by whom and from where: each host's own journal."""
    from deploy import report, upkeep

    if n < 1:
        raise Refused("nothing was contacted", f"-n {n} is no number of things to tell", "fab log -n 20")
    request = request_for(c, stage, hosts)
    show_answer(
        lambda emit: upkeep.log(request, emit, number=n),
        partial(report.show_log, number=n),
        json=json,
        verbose=verbose,
    )


def _reason(text: str) -> str:
    reason = " ".join("".join(char if char.isprintable() else " " for char in text).split())[:REASON_CHARACTERS]
    if not reason:
        raise Refused("nothing was contacted", "a freeze needs a reason", 'fab freeze "release day, ask Ann"')
    return reason


def _term(until: str | None, for_: str | None) -> tuple[float | None, float | None]:
    """When a freeze ends: in seconds since 1970, and from now. Raises Refused."""
    now = time.time()
    if until and for_:
        raise Refused("nothing was contacted", "--until and --for both say when it ends", "name one of them")
    if not until and not for_:
        return None, None
    end = quantities.moment(until) if until else now + quantities.span_s(for_ or "")
    if end <= now:
        raise Refused("nothing was contacted", f"{until} is past", "name a moment to come, or thaw: fab thaw")
    return end, end - now
