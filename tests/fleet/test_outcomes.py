"""What became of the hosts, and the exit code that this makes: every combination."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from deploy.errors import ExitCode
from deploy.fleet.outcomes import HostOutcome, Outcome, exit_code, next_steps, problems

MUST_LOOK = {Outcome.UNKNOWN, Outcome.STUCK}


def of(*words: Outcome) -> ExitCode:
    """The exit code of hosts with these outcomes."""
    return exit_code([HostOutcome(f"host-{number}", word) for number, word in enumerate(words)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_zero_means_live_on_every_host_and_nothing_else(count: int) -> None:
    """Invariant 5, over all combinations of outcomes on up to three hosts."""
    for words in combinations_with_replacement(Outcome, count):
        assert (of(*words) == ExitCode.OK) == (set(words) == {Outcome.LIVE}), words


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_combination_has_the_gravest_code_that_fits(count: int) -> None:
    """Unknown and stuck before all; hosts that differ; then returned; then locked; else unchanged."""
    for words in combinations_with_replacement(Outcome, count):
        found, said = of(*words), set(words)
        if said == {Outcome.LIVE}:
            assert found is ExitCode.OK
        elif said & MUST_LOOK or Outcome.LIVE in said:
            assert found is ExitCode.MIXED, words
        elif Outcome.RETURNED in said:
            assert found is ExitCode.RETURNED, words
        elif said & {Outcome.LOCKED, Outcome.FROZEN}:
            assert found is ExitCode.LOCKED, words
        else:
            assert found is ExitCode.FAILED, words


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("live live live", 0),
        ("unchanged failed unchanged", 1),
        ("unreachable unchanged", 1),
        ("staged", 1),
        ("answered", 1),
        ("returned returned", 3),
        ("returned unchanged failed", 3),
        ("live returned", 4),
        ("live failed", 4),
        ("live unreachable", 4),
        ("live unknown", 4),
        ("returned unknown returned", 4),
        ("stuck", 4),
        ("unknown", 4),
        ("locked unchanged", 5),
        ("locked failed", 5),
        ("", 1),
    ],
)
def test_the_table_of_the_runbook(words: str, code: int) -> None:
    """Written out for people; no hosts at all is never a success."""
    assert of(*[Outcome(word) for word in words.split()]) == code


def test_order_of_hosts_does_not_matter() -> None:
    """The first host is not more important than the last one."""
    assert of(Outcome.LIVE, Outcome.UNKNOWN) == of(Outcome.UNKNOWN, Outcome.LIVE)
    assert of(Outcome.LOCKED, Outcome.RETURNED) == of(Outcome.RETURNED, Outcome.LOCKED)


def test_every_failing_host_is_listed_with_the_end_of_its_log() -> None:
    """Not only the first one; twelve lines each are enough to begin with."""
    log = tuple(f"line {number}" for number in range(30))
    found = problems(
        [
            HostOutcome("web-1", Outcome.FAILED, step="build", cause="exit status 1", log=log),
            HostOutcome("web-2", Outcome.UNCHANGED),
            HostOutcome("web-3", Outcome.UNREACHABLE, step="connect", cause="no answer in time"),
        ]
    )
    assert found[0] == "web-1: build: exit status 1"
    assert found[1:-1] == tuple(f"    line {number}" for number in range(18, 30))
    assert found[-1] == "web-3: connect: no answer in time"


def test_every_failing_host_says_what_to_do_and_the_same_is_said_once() -> None:
    """Three hosts with unknown keys need three commands; two that lack a root need one."""
    failed = [
        HostOutcome(name, Outcome.UNREACHABLE, "", "connect", "unknown key", step)
        for name, step in (("a", "scan a"), ("b", "scan b"), ("c", "scan a"))
    ]
    well = HostOutcome("d", Outcome.UNCHANGED, next_step="never told")
    assert next_steps([*failed, well]) == "scan a\nscan b"
