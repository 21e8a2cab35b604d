"""kill -9 of the host program before every system call that changes something."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Family, holds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("scenario", "points"),
    [("rollback", 60), ("full", 60), ("prune", 80), ("sick", 60), ("unready", 20), ("hooked", 20)],
)
def test_old_or_new_wherever_it_dies(family: Family, scenario: str, points: int) -> None:
    """Whichever call it dies before, one whole release is live, the tale is true, and the next deploy mends all."""
    holds(family(scenario, points=points), least=points // 2)
