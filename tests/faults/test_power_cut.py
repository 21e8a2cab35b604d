"""The power goes at every boundary: the disk as it then is holds the old or the new release, every byte of it."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Family, holds

pytestmark = pytest.mark.slow


def _mountable(tally) -> None:
    if tally["quiet"]:
        pytest.skip(tally["quiet"][0])


@pytest.mark.parametrize(
    ("disk", "scenario", "points"),
    [("ext4", "deploy", 200), ("ext4", "rollback", 60), ("xfs", "deploy", 30), ("btrfs", "deploy", 20)],
)
def test_line_4_no_torn_file(family: Family, disk: str, scenario: str, points: int) -> None:
    """What a marker lists is there, ``current`` names it or the old one, and what was told as done is still done."""
    tally = family(scenario, "--kind", "power", "--disk", disk, points=points, by="strace")
    _mountable(tally)
    holds(tally, least=min(points, 40) - 10)
    assert tally["torn"] == 0


def test_it_would_be_seen(family: Family) -> None:
    """Without the syncfs before the marker, the same images show torn files."""
    tally = family("deploy", "--kind", "power", "--without-syncfs", points=400, by="strace")
    _mountable(tally)
    assert tally["torn"] > 0
