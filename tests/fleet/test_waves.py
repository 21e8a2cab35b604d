"""Which hosts switch together: every host in exactly one wave, in the order of the stage, whatever the strategy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.fleet.waves import waves
from deploy.settings import Strategy


@given(
    count=st.integers(0, 300),
    canary=st.integers(0, 320),
    batch=st.none() | st.integers(1, 320),
    percent=st.none() | st.integers(1, 100),
)
def test_every_host_is_in_exactly_one_wave(count: int, canary: int, batch: int | None, percent: int | None) -> None:
    """In the stage's order, no wave empty; the canary first, then equal batches of which the last may be smaller."""
    hosts = list(range(count))
    strategy = Strategy(canary=canary, batch=percent or batch, batch_is_percent=percent is not None)
    found = waves(hosts, strategy)
    assert [host for wave in found for host in wave] == hosts
    assert all(found)
    sizes = [len(wave) for wave in found]
    if canary and sizes:
        assert sizes.pop(0) == min(canary, count)
    if sizes:
        whole = (max(1, count * percent // 100) if percent else batch) or count
        assert all(size == whole for size in sizes[:-1])
        assert sizes[-1] <= whole


@pytest.mark.parametrize("count", range(1, 301))
def test_a_percentage_is_rounded_down_and_at_least_one(count: int) -> None:
    """Of all hosts of the run: 25% of 7 is 1, of 8 is 2, of 3 is 1."""
    for percent in (1, 10, 25, 33, 50, 99, 100):
        first = waves(range(count), Strategy(batch=percent, batch_is_percent=True))[0]
        assert len(first) == max(1, count * percent // 100)


def test_the_waves_of_ten_hosts() -> None:
    """As the how-to shows them."""
    assert [len(wave) for wave in waves("abcdefghij", Strategy())] == [10]
    assert [len(wave) for wave in waves("abcdefghij", Strategy(canary=1))] == [1, 9]
    assert [len(wave) for wave in waves("abcdefghij", Strategy(batch=4))] == [4, 4, 2]
    by_quarters = Strategy(canary=1, batch=25, batch_is_percent=True)
    assert [len(wave) for wave in waves("abcdefghij", by_quarters)] == [1, 2, 2, 2, 2, 1]
