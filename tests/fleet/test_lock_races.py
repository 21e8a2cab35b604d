"""Two operators on one fleet at the same moment: all locks or none, no deadlock, and the loser is told who and what."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from deploy.errors import ExitCode
from deploy.events import RunEnded
from deploy.fleet import locking
from deploy.fleet.outcomes import Outcome
from deploy.fleet.phases import Phases, Stopped

Make = Callable[..., Any]
RACES = 150


def at_once(*what: Callable[[], Any]) -> list[Any]:
    """Start each in a thread of its own at the same moment; give what they return, or the Stopped they raise."""
    results: list[Any] = [None] * len(what)
    start = threading.Barrier(len(what))

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = what[number]()
        except Stopped as stopped:
            results[number] = stopped

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(what))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a deadlock"
    return results


def unlocked(phases: Phases) -> None:
    """Give all locks back."""
    for host in phases.hosts:
        host.unlock()


@pytest.fixture
def two(fleet: Any) -> Any:
    """Two runs that are connected to overlapping hosts, named in opposite orders."""
    runs = [fleet.run("deploy", fleet.stage(names)) for names in (("web-1", "web-2", "web-3"), ("web-3", "web-2"))]
    for run in runs:
        run.connect(run.phases)
    yield [run.phases for run in runs]
    for run in runs:
        run.phases.close()


def test_overlapping_fleets_get_all_locks_or_none(two: list[Phases]) -> None:
    """Lines 43 and 44: never both; whoever is refused holds nothing, and knows by whom."""
    wins: Counter[int] = Counter()
    for _ in range(RACES):
        results = at_once(*(lambda one=one: one.lock(0) for one in two))
        won = [number for number, result in enumerate(results) if result is None]
        assert len(won) <= 1
        for number, result in enumerate(results):
            if result is not None:
                locked = [o for o in result.outcomes if o.outcome is Outcome.LOCKED]
                assert locked
                assert all(o.cause.startswith("tester runs deploy, for ") for o in locked), locked
            else:
                unlocked(two[number])
        wins.update(won)
        other = two[1 - won[0]] if won else two[0]
        other.lock(0)
        unlocked(other)
    print(f"{RACES} races: {dict(wins)}, {RACES - sum(wins.values())} in which both were refused")


def test_who_waits_gets_its_turn(two: list[Phases], monkeypatch: pytest.MonkeyPatch) -> None:
    """Line 44: waiting retries the whole set and holds none meanwhile, so that both get through in the end."""
    monkeypatch.setattr(locking, "RETRY_LOCK_S", 0.02)

    def turn(one: Phases) -> str:
        one.lock(50)
        unlocked(one)
        return "had its turn"

    for _ in range(5):
        assert at_once(*(lambda one=one: turn(one) for one in two)) == ["had its turn"] * 2


def test_two_deploys_at_the_same_instant(fleet: Any, bundle: Make) -> None:
    """Line 43: one is live everywhere with exit 0, the other exits 5 with who, what and since when; or both do."""
    seen: Counter[tuple[int, ...]] = Counter()
    for number in range(12):
        tags = [f"v{2 + number % 2}", f"v{3 - number % 2}"]
        before = fleet.current()
        ended: list[RunEnded] = at_once(*(lambda tag=tag: fleet.deploy(bundle(tag)) for tag in tags))
        codes = [one.exit_code for one in ended]
        seen[tuple(sorted(codes))] += 1
        winners = [tag for tag, code in zip(tags, codes, strict=True) if code == ExitCode.OK]
        if len(winners) == 2:  # one came after the other had ended
            assert set(fleet.current().values()) <= set(tags)
            continue
        for one in ended:
            if one.exit_code != ExitCode.OK:
                assert one.exit_code == ExitCode.LOCKED, one.problems
                assert any("tester runs deploy of v" in problem for problem in one.problems), one.problems
        assert fleet.current() == (dict.fromkeys(fleet.names, winners[0]) if winners else before)
    print(dict(seen))
    assert any(ExitCode.LOCKED in codes for codes in seen)
