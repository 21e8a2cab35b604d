"""SIGKILL, SIGINT, SIGTERM, SIGHUP of the control side at every protocol message."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Family, holds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("scenario", "points"), [("deploy", 12), ("rollback", 8), ("sick", 6)])
def test_the_host_settles_by_itself(family: Family, scenario: str, points: int) -> None:
    """One whole release is live, the lock comes free, what was told is true, and the next deploy goes through."""
    holds(family(scenario, "--kind", "control", points=points), least=points - 3)
