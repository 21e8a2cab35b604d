"""Hooks on a real ROOT: they come to their end, their outcome is known or asked for, secrets are read as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import hooks, marker
from deploy.onhost.channel import LineLost
from deploy.onhost.hooks import Context
from deploy.onhost.session import Session
from deploy.wire.names import ReleaseId

Make = Callable[..., ReleaseId]


def hook(run: str, **other: Any) -> dict[str, Any]:
    """One hook as a manifest carries it."""
    filled = {"once": False, "on": ["deploy"], "timeout_s": 30, "idempotent": False, "user": None, "sealed": False}
    return {"run": run, **filled, **other}


def lost_once(session: Session, path: Path) -> None:
    """Let the line die as soon as this file is there."""

    def check() -> None:
        if path.exists():
            raise LineLost("gone")

    session.check = check


@pytest.mark.parametrize("point", ["before_activate", "after_activate"])
def test_a_lost_line_does_not_end_a_running_hook(session: Session, context: Context, release: Make, point: str) -> None:
    """Half a migration is worse than one that nobody listens to: it ends, with its outcome journalled."""
    log = session.layout.shared / "log"
    both = [hook(f"echo began >> {log}; sleep 0.3; echo ended >> {log}"), hook(f"echo second >> {log}")]
    name = release("v1", hooks={"app": {point: both}})
    lost_once(session, log)
    with pytest.raises(LineLost):
        hooks.run(session, context, marker.read(session.layout, name).manifest, point)
    assert log.read_text().split() == ["began", "ended"]
    assert [r["outcome"] for r in session.book.records if r["what"] == "hook-done"] == ["ok"]


def test_a_lost_line_ends_what_only_stages(session: Session, context: Context, release: Make) -> None:
    """Nothing outside of the half-made release hangs on it."""
    log = session.layout.shared / "log"
    name = release("v1", hooks={"app": {"prepare": [hook(f"echo began >> {log}; sleep 60; echo ended >> {log}")]}})
    lost_once(session, log)
    with pytest.raises(LineLost):
        hooks.run(session, context, marker.read(session.layout, name).manifest, "prepare")
    assert log.read_text().split() == ["began"]
