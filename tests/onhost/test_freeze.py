"""A freeze: what it stops, how it ends, and that no clock ends it early."""

from __future__ import annotations

import pytest

from deploy.onhost import freeze, upkeep
from deploy.onhost.history import fold
from deploy.onhost.processes import boot_id, up_s
from deploy.onhost.session import Session, StepFailed

YEAR_S = 365.0 * 86400
START = {"until": 1000.0 + 3600, "for_s": 3600.0, "boot": "b1", "up_s": 50.0}
"""Frozen for an hour at the host's moment 1000, 50 seconds after its start."""


@pytest.mark.parametrize(
    ("now", "boot", "up", "over"),
    [
        (1000.0 + 10, "b1", 60.0, False),
        (1000.0 + 3600, "b1", 50.0 + 3600, True),
        (1000.0 + 10 * YEAR_S, "b1", 60.0, False),  # line 23: the clock stepped ten years on; an hour has not passed
        (1000.0 - 10 * YEAR_S, "b1", 50.0 + 7200, False),  # and back: longer than meant, never shorter
        (1000.0 + 3600, "b2", 5.0, True),  # started again since: only the clock can tell
        (1000.0 + 10, "b2", 5.0, False),
    ],
)
def test_line_23_a_clock_that_is_off_never_ends_a_freeze_early(now: float, boot: str, up: float, *, over: bool) -> None:
    """Within a boot both clocks must say so."""
    assert freeze.is_over(START, now=now, boot=boot, up=up) is over


def test_without_an_end_only_a_person_ends_it() -> None:
    """However late it is."""
    assert not freeze.is_over({"until": None}, now=1e12, boot="b", up=1e9)


def test_a_freeze_is_told_with_who_and_why_until_it_is_thawed(session: Session) -> None:
    """The last one counts; thawing twice is no error."""
    for reason in ("audit", "release day"):
        upkeep.begin_freeze(session, {"reason": reason, "until": None, "for_s": None})
    told = freeze.standing(fold(session.book.records))
    assert told is not None
    assert (told["by"], told["reason"], told["until"]) == ("tester", "release day", None)
    was = upkeep.thaw(session, {})["was"]
    assert was == told
    assert freeze.standing(fold(session.book.records)) is None
    assert upkeep.thaw(session, {}) == {"was": None}
    assert [r["what"] for r in session.book.records if r["what"] in ("frozen", "thawed")] == [
        "frozen",
        "frozen",
        "thawed",
    ]


def test_a_freeze_that_would_be_over_at_once_is_refused(session: Session) -> None:
    """A host whose clock runs ahead would be frozen in name only."""
    with pytest.raises(StepFailed, match="clock is past that end already"):
        upkeep.begin_freeze(session, {"reason": "audit", "until": 1e9, "for_s": 60.0})
    assert fold(session.book.records).freeze is None


def test_an_expired_freeze_is_none(session: Session) -> None:
    """Nobody has to thaw it."""
    terms = {"reason": "x", "until": 1e9, "for_s": 1.0, "boot": boot_id(), "up_s": up_s() - 2}
    session.book.append("frozen", **terms)
    assert freeze.standing(fold(session.book.records)) is None
