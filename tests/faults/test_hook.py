"""The preloaded hook, which strikes where ptrace(2) is refused, is as good as strace."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign
from tests.faults.conftest import Family, holds, striker
from tests.faults.ground import SCENARIOS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("scenario", "kind", "points"), [("deploy", "kill", 12), ("rollback", "kill", 8), ("deploy", "errno", 10)]
)
def test_old_or_new_wherever_it_strikes(family: Family, scenario: str, kind: str, points: int) -> None:
    """The same oracle holds, and its points fire."""
    holds(family(scenario, "--kind", kind, points=points, by="hook"), least=points - 1)


def test_it_sees_what_strace_sees(tmp_path: Path) -> None:
    """The same calls of the same files, so that none is a point for one of them alone."""
    if striker() != "strace":
        pytest.skip("strace is not installed, or ptrace(2) is refused here")
    seen = [_calls(tmp_path / name, hooked=name == "hook") for name in ("strace", "hook")]
    assert seen[0] == seen[1]
    assert seen[0].total() > 150


def _calls(folder: Path, *, hooked: bool) -> Counter[tuple[str, ...]]:
    folder.mkdir()
    runs = Campaign(folder, 1, hooked=hooked)
    found = runs.calls(SCENARIOS["deploy"])
    places = [[path.replace(str(folder), "") for path in call.paths] for call in found]
    return Counter(
        (call.name, *(re.sub(r"[0-9a-f]{6,}|\d+", "N", path) for path in paths))
        for call, paths in zip(found, places, strict=True)
    )
