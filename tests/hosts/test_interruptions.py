"""Ctrl-C and kill -9 of ``fab`` while it uploads, builds, runs a hook, switches: the oracle each time, and again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.fab import Running
from tests.hosts.fleet import Fleet, eventually, is_whole, readers
from tests.hosts.projects import greeting

pytestmark = pytest.mark.hosts

BIG_BYTES = 48 << 20


def held(made: Fleet, point: str) -> Path:
    """Make a v2 that stops at ``point`` for as long as a file exists; gives that file."""
    flag = made.folder / "hold"
    flag.touch()
    wait = f"while [ -e {flag} ]; do sleep 0.02; done"
    if point == "build":
        step = f"import os, time\nwhile os.path.exists({str(flag)!r}):\n    time.sleep(0.02)\n"
        made.project.tiny_closure(greeting("2.0", {"build-step.py": step}))
    elif point == "upload":
        made.project.write("big.bin", os.urandom(BIG_BYTES))
    elif point in ("prepare", "before_activate", "after_activate"):
        made.project.settings(hooks={point: wait})
    elif point == "restart":
        real = made.hosts[0].settings()["restart"]
        made.configure(per_host={made.hosts[0].name: {"restart": f"{wait}; {real}"}})
    made.project.release("v2")
    return flag


def reach(run: Running, point: str) -> None:
    """Wait until the run is in the middle of ``point``."""
    if point == "upload":
        run.until(event="fleet_step", step="stage", state="started")
    else:
        run.until(event="host_step", step=point, state="started")


@pytest.mark.parametrize("point", ["upload", "build", "prepare", "before_activate"])
@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_before_the_switch(fleet: Callable[..., Fleet], how: str, point: str) -> None:
    """The old release stays live, builds end, locks come free, and the next deploy needs nobody's help."""
    made = fleet("web-1", "web-2")
    made.project.release("v1")
    made.deploy("v1")
    flag = held(made, point)
    with readers(made.hosts[0]), readers(made.hosts[1]):
        run = made.fab.start("deploy:v2")
        reach(run, point)
        getattr(run, how)()
        if (how, point) == ("interrupt", "before_activate"):
            run.until(event="notice")  # a migration is never cut in half by the first Ctrl-C
            flag.unlink()
        ended = run.wait(timeout_s=60)
        assert ended.code == (130 if how == "interrupt" else -9), ended.text
        if how == "interrupt":
            assert "nothing was switched" in ended.end["verdict"]
        if point == "before_activate":
            flag.unlink(missing_ok=True)  # nor by the death of whoever asked for it: the host lets it come to its end
        eventually(lambda: not any(host.onhost() or host.builds() for host in made.hosts))
        flag.unlink(missing_ok=True)
        assert made.live() == ["v1", "v1"]
        for host in made.hosts:
            is_whole(host)
        made.deploy("v2", "--wait", "30")
    assert made.live() == ["v2", "v2"]
    assert not any(host.builds() for host in made.hosts)


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_after_the_switch(fleet: Callable[..., Fleet], how: str) -> None:
    """Hosts finish or settle by themselves: in the end one whole release answers, and the next run goes through."""
    made = fleet("web-1", "web-2")
    made.project.release("v1")
    made.deploy("v1")
    flag = held(made, "restart")
    with readers(made.hosts[0]), readers(made.hosts[1]):
        run = made.fab.start("deploy:v2")
        reach(run, "restart")
        getattr(run, how)()
        if how == "interrupt":
            run.until(event="notice")
        flag.unlink()
        ended = run.wait(timeout_s=60)
        if how == "interrupt":
            assert ended.code in (0, 3, 130), ended.text
            assert set(ended.outcomes.values()) in ({"live"}, {"returned"}), ended.text
        eventually(lambda: not any(host.onhost() for host in made.hosts), within_s=60)
        for host in made.hosts:
            is_whole(host)
            assert host.live() == host.current
        status = made.fab("status")
        assert all(row["lock"] is None for row in status.document["hosts"])
        made.deploy("v2")
    assert made.live() == ["v2", "v2"]


def test_a_second_interrupt_stops_now(fleet: Callable[..., Fleet]) -> None:
    """After the switch the first Ctrl-C lets the step finish, the second one does not wait; unknown hosts are named."""
    made = fleet("web-1")
    made.project.release("v1")
    made.deploy("v1")
    flag = held(made, "restart")
    run = made.fab.start("deploy:v2")
    reach(run, "restart")
    run.interrupt()
    run.until(event="notice")
    run.interrupt()
    ended = run.wait(timeout_s=30)
    assert ended.code == 130, ended.text
    assert ended.outcomes == {"web-1": "unknown"}
    assert "fab status --stage test" in ended.problems
    flag.unlink()
    eventually(lambda: not made.hosts[0].onhost(), within_s=60)
    is_whole(made.hosts[0])
    assert made.live() == ["v2"]
    assert made.fab("status").code == 0
