"""A dry run: every step of a deploy in order, on hosts that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import pipeline
from deploy.events import FleetStep, Notice, RunEnded
from deploy.fleet.run import FleetRun
from deploy.link.dry import DryPipe

Make = Callable[..., Any]


def dry_deploy(bare: Any, packed: Any) -> RunEnded:
    """Deploy v1 to hosts that are not there."""
    run = FleetRun(
        "deploy", bare.stage(), bare.events.append, operator="tester", program=(b"x", "0" * 64), tag="v1", dry=True,
        open_pipe=lambda host, _: DryPipe(host),
    )  # fmt: skip
    return run.guard(lambda phases: pipeline._deploy(run, phases, packed, restage=False, wait_s=0))


@pytest.mark.parametrize(
    "hooks", [{}, {"migrations": "list-them", "before_activate": "migrate"}], ids=["plain", "hooks"]
)
def test_every_step_to_the_end(bare: Any, bundle: Make, hooks: dict[str, str]) -> None:
    """Exit 0, the last step is the last of a deploy, nothing failed on the way, and nothing was written."""
    ended = dry_deploy(bare, bundle("v1", **hooks))
    assert ended.exit_code == 0
    assert ended.verdict.startswith("dry run, no host was contacted")
    steps = [(event.step, event.state) for event in bare.events if isinstance(event, FleetStep)]
    assert steps[-1] == ("confirm", "done")
    assert not [step for step in steps if step[1] == "failed"]
    assert not [event for event in bare.events if isinstance(event, Notice)]
    assert not any(Path(bare.root(name)).exists() and list(bare.root(name).iterdir()) for name in bare.names)


def test_what_stops_it_is_told(bare: Any, bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails is never told as a dry run that found everything in order."""
    monkeypatch.setattr("deploy.fleet.host.Host.stage", lambda host: host._check("stage", {"ok": False, "error": {
        "kind": "failed", "step": "stage", "cause": "no", "next": "", "log": []}}))  # fmt: skip
    ended = dry_deploy(bare, bundle("v1"))
    assert ended.exit_code == 1
    assert "stopped at stage" in ended.verdict
