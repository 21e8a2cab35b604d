"""Waves over real SSH: a failure in the second one, ``fab`` killed and interrupted between two, a host that is off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.hosts.fleet import Fleet, eventually, is_whole, readers

pytestmark = [pytest.mark.hosts, pytest.mark.slow]

NAMES = ("web-1", "web-2", "web-3", "web-4")


def test_a_failure_in_the_second_wave_returns_both_waves(fleet: Callable[..., Fleet]) -> None:
    """Exit 3: three hosts switched and are back, the fourth never moved, and nobody who asked got no answer."""
    made = fleet(*NAMES)
    made.configure(waves={"canary": 1, "batch": 2, "soak_s": 0.5})
    made.project.release("v1")
    made.deploy("v1")
    made.project.release("v2", needs="flour")
    for host in made.hosts[:2]:
        (host.root / "shared/data/flour").touch()
    with ExitStack() as stack:
        for host in made.hosts:
            stack.enter_context(readers(host))
        ended = made.fab("deploy:v2")
    assert ended.code == 3, ended.text
    assert ended.outcomes == {**dict.fromkeys(NAMES[:3], "returned"), "web-4": "unchanged"}
    assert "web-3: health: not healthy within 8 s: HTTP 500" in ended.problems
    assert made.live() == ["v1"] * 4
    assert "switched" not in [record["what"] for record in made.hosts[3].journal[-3:]]
    for host in made.hosts[2:]:
        (host.root / "shared/data/flour").touch()
    made.deploy("v2")
    assert made.live() == ["v2"] * 4


def test_fab_killed_between_two_waves(fleet: Callable[..., Fleet]) -> None:
    """The canary settles and keeps what is well; status shows the exact mix; the same deploy finishes."""
    made = fleet(*NAMES[:3])
    made.project.release("v1")
    made.deploy("v1")
    made.configure(waves={"canary": 1, "pause_s": 600})
    made.project.release("v2")
    run = made.fab.start("deploy:v2")
    run.until(event="fleet_step", step="pause", state="started")
    run.kill()
    run.wait()
    eventually(lambda: not any(host.onhost() for host in made.hosts))
    status = made.fab("status")
    assert status.code == 4, status.text
    assert {row["host"]: row["current"]["tag"] for row in status.document["hosts"]} == {
        "web-1": "v2", "web-2": "v1", "web-3": "v1",
    }  # fmt: skip
    assert not any(row["pending"] or row["lock"] for row in status.document["hosts"])
    made.deploy("v2")
    assert made.live() == ["v2"] * 3
    assert made.fab("status").code == 0


def test_ctrl_c_between_two_waves(fleet: Callable[..., Fleet]) -> None:
    """At once, exit 130: the canary stays on the new release, the others were not touched; the undo told works."""
    made = fleet(*NAMES[:3])
    made.project.release("v1")
    made.deploy("v1")
    made.configure(waves={"canary": 1, "pause_s": 600})
    made.project.release("v2")
    run = made.fab.start("deploy:v2")
    run.until(event="fleet_step", step="pause", state="started")
    run.interrupt()
    ended = run.wait(timeout_s=60)
    assert ended.code == 130, ended.text
    assert ended.outcomes == {"web-1": "live", "web-2": "unchanged", "web-3": "unchanged"}
    assert made.live() == ["v2", "v1", "v1"]
    for host in made.hosts:
        is_whole(host)
    fab, *words = ended.end["undo"].split()
    assert fab == "fab"
    assert made.fab(*words).code == 0
    assert made.live() == ["v1"] * 3


def test_a_host_that_is_off_is_left_out_only_when_asked(fleet: Callable[..., Fleet]) -> None:
    """Without the option nobody is touched; with it the others get the release, and the exit code is 4."""
    made = fleet(*NAMES[:3])
    made.project.release("v1")
    made.deploy("v1")
    made.project.release("v2")
    made.hosts[1].stop()
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    assert made.live() == ["v1"] * 3
    ended = made.fab("deploy:v2", "--skip-unreachable")
    assert ended.code == 4, ended.text
    assert ended.outcomes == {"web-1": "live", "web-2": "unreachable", "web-3": "live"}
    assert "web-2: connect" in ended.problems
    assert made.live() == ["v2", "v1", "v2"]
    made.hosts[1].start()
    made.deploy("v2")
    assert made.live() == ["v2"] * 3
