"""The line is cut or frozen: noticed in time, settled by the host, shown by status, mended by the next run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Generator

import pytest

from tests.hosts.fleet import Fleet, eventually, is_whole, readers
from tests.hosts.openssh import Host
from tests.hosts.test_interruptions import held, reach

pytestmark = [pytest.mark.hosts, pytest.mark.slow]

NOTICED_WITHIN_S = 30.0


@contextlib.contextmanager
def frozen(host: Host) -> Generator[None]:
    """Stop every sshd process of the open connections, as a network does that swallows packets."""
    pids = host.sessions()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def cut(host: Host) -> None:
    """Kill the sshd processes of the open connections: a reset."""
    for pid in host.sessions():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_line_10_cut_in_the_middle_of_the_upload(fleet: Callable[..., Fleet]) -> None:
    """The run ends at once with the old release live; the lock is free; the retry sends only what is missing."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    for number in range(12):
        made.project.write(f"big-{number:02d}.bin", os.urandom(4 << 20))
    made.project.release("v2")
    run = made.fab.start("deploy:v2")
    for _ in range(8):
        run.until(event="host_bytes")  # what was handed to the line: a few megabytes of it may not be there yet
    cut(host)
    ended = run.wait(timeout_s=30)
    assert ended.code == 1, ended.text
    assert "line lost" in ended.problems
    assert made.live() == ["v1"]
    eventually(lambda: not host.onhost())
    again = made.deploy("v2")
    assert 0 < again.sent("web-1") < 9 * (4 << 20)
    assert made.live() == ["v2"]


def test_line_9_frozen_in_the_middle_of_a_build(fleet: Callable[..., Fleet]) -> None:
    """Silence is noticed by both sides within 30 s: the run ends, the host ends its build and frees the lock."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    made.configure(deadlines={"silence_s": 6})
    held(made, "build")
    run = made.fab.start("deploy:v2")
    reach(run, "build")
    began = time.monotonic()
    with frozen(host):
        ended = run.wait(timeout_s=NOTICED_WITHIN_S)
        assert ended.code == 1, ended.text
        assert "nothing heard for 6 s" in ended.problems
        eventually(lambda: not host.onhost() and not host.builds(), NOTICED_WITHIN_S - (time.monotonic() - began))
    is_whole(host)
    assert made.live() == ["v1"]
    made.folder.joinpath("hold").unlink()
    made.deploy("v2")


@pytest.mark.parametrize("well", [True, False])
def test_lost_after_the_switch(fleet: Callable[..., Fleet], *, well: bool) -> None:
    """The host decides alone, and the run asks it again: exit 0 where the release is well, exit 3 where it is not."""
    made = fleet("web-1", "web-2")
    lost = made.hosts[1]
    made.project.release("v1")
    made.deploy("v1")
    flag = made.folder / "hold"
    flag.touch()
    restart = {
        host.name: {"restart": f"while [ -e {flag} ]; do sleep 0.02; done; {host.settings()['restart']}"}
        for host in made.hosts
    }
    made.configure(per_host=restart)
    made.project.release("v2", needs="" if well else "flour")
    (made.hosts[0].root / "shared/data/flour").touch()
    with readers(made.hosts[0]), readers(lost):
        run = made.fab.start("deploy:v2")
        run.until(event="host_step", host="web-2", step="restart", state="started")
        cut(lost)
        run.until(event="host_step", host="web-2", step="reconnect", state="started")
        flag.unlink()
        ended = run.wait(timeout_s=90)
        assert ended.code == (0 if well else 3), ended.text
        assert set(ended.outcomes.values()) == {"live" if well else "returned"}
        eventually(lambda: not lost.onhost(), within_s=60)
        is_whole(lost)
        assert made.live() == ["v2" if well else "v1"] * 2
        status = made.fab("status")
        assert status.code == 0, status.text
        assert all(row["lock"] is None for row in status.document["hosts"])


def test_frozen_after_the_switch_and_back_too_late(fleet: Callable[..., Fleet]) -> None:
    """A control side that was asleep is fenced off: somebody else deployed meanwhile, and that stays."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    flag = held(made, "restart")
    made.project.release("v3")
    run = made.fab.start("deploy:v2")
    reach(run, "restart")
    with run.asleep():
        flag.unlink()
        eventually(lambda: not host.onhost(), within_s=60)  # it settled by itself, and its lock is free
        status = made.fab("status")
        assert status.code == 0, status.text
        assert made.live() == ["v2"]
        made.deploy("v3")
    ended = run.wait(timeout_s=90)
    assert ended.code == 4, ended.text
    assert ended.outcomes == {"web-1": "unknown"}
    assert "sequence number" in ended.problems
    assert made.live() == ["v3"]


def test_the_lease_is_shown_while_a_run_waits(fleet: Callable[..., Fleet]) -> None:
    """Status names what waits to be confirmed and whose silence would make the host settle it; exit 0: all is well."""
    made = fleet("web-1")
    made.project.release("v1")
    made.deploy("v1")
    flag = held(made, "after_activate")
    run = made.fab.start("deploy:v2")
    reach(run, "after_activate")
    status = made.fab("status")
    (row,) = status.document["hosts"]
    assert row["lease"]["release"].startswith("v2-")
    assert row["lease"]["by"] == row["lock"]["by"]
    assert "waits to be confirmed" in made.fab("status", json=False).text
    flag.unlink()
    assert run.wait(timeout_s=60).code == 0
    assert made.fab("status").document["hosts"][0]["lease"] is None


def test_killed_after_the_switch_status_says_unconfirmed(fleet: Callable[..., Fleet]) -> None:
    """Nobody is left to settle after kill -9: the journal says so, status shows it, and the next command settles it."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    flag = held(made, "after_activate")
    run = made.fab.start("deploy:v2")
    reach(run, "after_activate")
    run.kill()
    assert host.kill_onhost()
    run.wait(timeout_s=60)
    flag.unlink()
    status = made.fab("status")
    assert status.code == 4
    assert "unconfirmed" in status.document["hosts"][0]["pending"]
    made.deploy("v2")
    assert made.fab("status").code == 0
    assert made.live() == ["v2"]
