"""Take the locks of a whole fleet or none of them, never blocking; wait for others while holding none."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from deploy.events import Emit, Notice
from deploy.fleet.fanout import Results
from deploy.fleet.host import Host
from deploy.fleet.outcomes import HostOutcome, Outcome

RETRY_LOCK_S = 2.0


class Each(Protocol):
    """Does one thing on some hosts at once (``Fanout.each``)."""

    def __call__(self, hosts: Sequence[Host], what: Callable[[Host], Any], /) -> Results[Any]: ...


def take_all(
    hosts: Sequence[Host], each: Each, emit: Emit, wait_s: float, *, stopping: Callable[[], bool]
) -> Results[Any]:
    """Lock every host; where that fails all are unlocked again, and ``failed`` names every host that refused.

    For ``wait_s`` seconds the whole set is tried again with jitter, first those that refused, so that the others are
    not locked for nothing. Only a lock is waited for: a freeze, or anything else, ends it at once.
    """
    deadline = time.monotonic() + wait_s
    first: list[Host] = []
    told: Mapping[str, str] = {}
    while True:
        is_last = time.monotonic() >= deadline  # then all are asked, so that every one that refuses is named
        results = _try(hosts, [] if is_last else first, each)
        only_locked = all(o.outcome is Outcome.LOCKED for o in results.failed.values())
        if not results.failed or not only_locked or is_last or stopping():
            return results
        told = _tell(told, results.failed, emit)
        first = [host for host in hosts if host.name in results.failed]
        pause_s = RETRY_LOCK_S * (0.5 + random.random())  # noqa: S311 - jitter, not a secret
        time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))


def _try(hosts: Sequence[Host], first: Sequence[Host], each: Each) -> Results[Any]:
    results: Results[Any] = Results()
    names = {host.name for host in first}
    for some in (first, [host for host in hosts if host.name not in names]):
        if results.failed:
            break
        found = each(some, lambda host: host.lock())
        results.given.update(found.given)
        results.failed.update(found.failed)
    if results.failed:
        each([host for host in hosts if host.name in results.given], lambda host: host.unlock())
    return results


def _tell(told: Mapping[str, str], failed: Mapping[str, HostOutcome], emit: Emit) -> dict[str, str]:
    """Say for whom each host is waited, once, and again where another run holds it now."""
    holders = {name: outcome.holder for name, outcome in failed.items()}
    for name, outcome in failed.items():
        if told.get(name) != holders[name]:
            emit(Notice(f"waiting: {outcome.cause}", name))
    return {**told, **holders}
