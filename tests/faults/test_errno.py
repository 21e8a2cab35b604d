"""ENOSPC, EDQUOT, EIO, EROFS, ENOMEM from every system call of the host program that changes something."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Family, holds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("scenario", "points"), [("deploy", 75), ("first", 40), ("rollback", 35), ("prune", 40), ("sick", 30)]
)
def test_line_2_an_error_is_told_and_leaves_old_or_new(family: Family, scenario: str, points: int) -> None:
    """It is success only if it is true, a failed sync never is, and what failed is named with its way out."""
    holds(family(scenario, "--kind", "errno", points=points), least=points - 3)
