"""Amounts as people type them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from deploy.errors import Refused
from deploy.tasks import quantities


@pytest.mark.parametrize(
    ("text", "size"),
    [("2G", 2_000_000_000), ("500m", 500_000_000), ("1.5GB", 1_500_000_000), ("7", 7), ("3 TiB", 3 * 10**12)],
)
def test_space(text: str, size: int) -> None:
    """In decimal units, as sizes are shown."""
    assert quantities.space(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1d12h", 129600), ("2w", 1209600)])
def test_spans(text: str, seconds: int) -> None:
    """Minutes, hours, days, weeks."""
    assert quantities.span_s(text) == seconds


def test_moments_are_of_this_machines_time_zone_unless_they_name_one() -> None:
    """As with at(1)."""
    here = datetime(2026, 12, 1, 8, 0).astimezone()
    assert quantities.moment("2026-12-01T08:00") == here.timestamp()
    there = datetime(2026, 12, 1, 7, 0, tzinfo=timezone.utc).timestamp()
    assert quantities.moment("2026-12-01T08:00+01:00") == quantities.moment("2026-12-01T07:00Z") == there


@pytest.mark.parametrize("text", ["", "G", "-2G", "0", "2X", "1e9G", "2G; rm"])
def test_no_space(text: str) -> None:
    """Refused with an example, before any host."""
    with pytest.raises(Refused) as caught:
        quantities.space(text)
    assert "--free 2G" in caught.value.next_step


@pytest.mark.parametrize("text", ["", "h", "2", "2h garbage", "0h", "-1h", "2s"])
def test_no_span(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(Refused):
        quantities.span_s(text)


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", "9999-99-99T00:00", "08:00"])
def test_no_moment(text: str) -> None:
    """A freeze that ends at another time than meant is worse than none."""
    with pytest.raises(Refused):
        quantities.moment(text)
