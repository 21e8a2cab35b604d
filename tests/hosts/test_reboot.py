"""A host loses its power in the middle of a deploy: it comes back on the old release or the new one, and says which."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet, eventually, is_whole
from tests.hosts.test_interruptions import held, reach

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(os.geteuid() != 0, reason="a boot id of one's own needs root")]


@pytest.fixture
def made(fleet: Callable[..., Fleet]) -> Fleet:
    """One host with a boot of its own, on v1."""
    one = fleet("web-1", boots=True)
    one.project.release("v1")
    one.deploy("v1")
    return one


def test_line_5_while_it_builds(made: Fleet) -> None:
    """The run ends at once, the old release serves, and the next deploy sweeps what lay there."""
    (host,) = made.hosts
    flag = held(made, "build")
    run = made.fab.start("deploy:v2")
    reach(run, "build")
    host.reboot()
    ended = run.wait(timeout_s=60)
    assert ended.code == 1, ended.text
    flag.unlink()
    eventually(lambda: made.live() == ["v1"])
    made.deploy("v2")
    assert made.live() == ["v2"]
    is_whole(host)


def test_between_switch_and_restart(made: Fleet) -> None:
    """The service came up from `current`; the run reaches the host again, which settles what the dead one left open."""
    (host,) = made.hosts
    flag = held(made, "restart")
    run = made.fab.start("deploy:v2")
    reach(run, "restart")
    flag.unlink()
    host.reboot()
    ended = run.wait(timeout_s=120)
    assert ended.code == 0, ended.text
    assert made.live() == ["v2"]
    is_whole(host)


def test_while_it_waits_for_health(made: Fleet) -> None:
    """A release that never gets well is returned from, though the machine went down while that was found out."""
    (host,) = made.hosts
    made.project.release("v2", needs="flour")
    run = made.fab.start("deploy:v2")
    run.until(event="host_step", step="health", state="started")
    host.reboot()
    ended = run.wait(timeout_s=120)
    assert ended.code == 3, ended.text
    assert made.live() == ["v1"]
    is_whole(host)


def test_with_nobody_left_to_settle(made: Fleet) -> None:
    """The control side is gone as well: status says unconfirmed, and the next command settles it."""
    (host,) = made.hosts
    flag = held(made, "after_activate")
    run = made.fab.start("deploy:v2")
    reach(run, "after_activate")
    run.kill()
    run.wait()
    host.reboot()
    flag.unlink()
    eventually(lambda: made.live() == ["v2"])
    status = made.fab("status")
    assert status.code == 4
    assert "unconfirmed" in status.document["hosts"][0]["pending"]
    made.deploy("v2")
    assert made.fab("status").code == 0
