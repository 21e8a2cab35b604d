"""kill -9 of the host program before every system call that changes something."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Family, holds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("scenario", "points"),
    [("rollback", 55), ("full", 55), ("prune", 65), ("sick", 50), ("unready", 15), ("hooked", 15)],
)
def test_old_or_new_wherever_it_dies(family: Family, scenario: str, points: int) -> None:
    """Whichever call it dies before, one whole release is live, the tale is true, and the next deploy mends all."""
    holds(family(scenario, points=points), least=points - 3)


def test_inside_the_real_pip(family: Family) -> None:
    """The same at seeded moments while the real virtualenv and pip build and install."""
    holds(family("real-pip", "--kind", "moments", points=6), least=4)
