"""Run one family of the fault harness as a program of its own, and keep its figures for the end of the run.

SEALED_DEPLOY_FAULTS_TIMES=20 fires twenty times as many points, or all there are; SEALED_DEPLOY_FAULTS_SEED chooses
others; SEALED_DEPLOY_FAULTS_BY=hook strikes by the preloaded hook, which is what happens anyway where ptrace(2) is
refused. Each violation prints the command that fires its point again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.faults import hook

TOP = Path(__file__).parents[2]
TIMES = int(os.environ.get("SEALED_DEPLOY_FAULTS_TIMES", "1"))
SEED = os.environ.get("SEALED_DEPLOY_FAULTS_SEED", "1")

Family = Callable[..., dict[str, Any]]


@cache
def striker() -> str:
    """What strikes on this machine: strace where it may trace, else the preloaded hook."""
    if os.environ.get("SEALED_DEPLOY_FAULTS_BY"):
        return os.environ["SEALED_DEPLOY_FAULTS_BY"]
    traces = (
        shutil.which("strace")
        and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    )
    return "strace" if traces else "hook"


@pytest.fixture
def family(record_property: Callable[[str, object], None], tmp_path: Path) -> Family:
    """Fire ``points`` of one family; gives its tally. Skips where this machine cannot."""

    def run(scenario: str, *words: str, points: int, by: str = "") -> dict[str, Any]:
        if not {"control", "moments"} & set(words):
            by = by or striker()
        if by == "strace" != striker():
            pytest.skip("strace is not installed, or ptrace(2) is refused here")
        if by == "hook":
            try:
                hook.built(tmp_path)
            except hook.CannotBuild as error:
                pytest.skip(f"ptrace(2) is refused here, and the hook cannot be built: {error}")
        command = [sys.executable, "-m", "tests.faults", scenario, *words, "--points", str(points * TIMES)]
        command += ["--seed", SEED, *(["--by", by] if by else [])]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
        assert done.stdout, done.stderr
        tally: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        figures = {"fired": tally["fired"], "did not fire": len(tally["quiet"]), "violations": len(tally["violations"])}
        record_property(f"counted: {tally['family']}", {**figures, "seconds": round(tally["seconds"])})
        return tally

    return run


def holds(tally: dict[str, Any], least: int) -> None:
    """Nothing was wrong after any point, and enough of them fired: one that did not is never taken for a pass."""
    assert not tally["violations"], "\n".join(tally["violations"][:20])
    assert tally["fired"] >= least, f"{tally['line']}\n" + "\n".join(tally["quiet"][:20])
