"""kill -9 of the host program before every system call of a deploy that changes something."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Family, holds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("scenario", "points"), [("deploy", 110), ("first", 50), ("sick-first", 15)])
def test_old_or_new_wherever_it_dies(family: Family, scenario: str, points: int) -> None:
    """Whichever call it dies before, nothing or one whole release is live, and the next deploy mends all."""
    holds(family(scenario, points=points), least=points - 3)


@pytest.mark.parametrize(("scenario", "states", "points"), [("deploy", 5, 11), ("sick", 2, 11), ("prune", 1, 11)])
def test_recovery_is_killed_as_well(family: Family, scenario: str, states: int, points: int) -> None:
    """Killed once, and again while the next run recovers, at every call of that: the run after it mends all."""
    holds(family(scenario, "--states", str(states), points=points), least=states * (points - 2))
