"""Up and down: what is started is found again, ended, and never confused with anything else."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from deploy import sandbox
from deploy.errors import Refused
from deploy.sandbox import processes


def recorded(path: Path) -> list[int]:
    """The pids in one of the sandbox's pid files."""
    return [one["pid"] for one in json.loads(path.read_text())["processes"]]


def test_up_twice_starts_nothing_twice(project: Path) -> None:
    """Idempotent: the same hosts, the same processes."""
    first = sandbox.up(project, 2, service="gunicorn app")
    pids = {path: recorded(path) for path in sorted(project.rglob("*.pid"))}
    assert sandbox.up(project, 2, service="gunicorn app") == first
    assert {path: recorded(path) for path in sorted(project.rglob("*.pid"))} == pids
    assert [host["ssh"] and host["supervised"] for host in sandbox.status(project)] == [True, True]


def test_more_hosts_join_and_none_leaves(project: Path) -> None:
    """A later ``up`` with another number never takes a host away."""
    before = sandbox.up(project, 1)
    after = sandbox.up(project, len(before) + 1)
    assert after[: len(before)] == before
    assert sandbox.up(project, 1) == after


def test_down_ends_everything_and_up_brings_the_same_back(project: Path) -> None:
    """Ports and keys stay; no process does."""
    before = sandbox.up(project, 2, service="gunicorn app")
    key, known = (Path(before[0][name]).read_bytes() for name in ("identity", "known_hosts"))
    pids = [pid for path in project.rglob("*.pid") for pid in recorded(path)]
    sandbox.down(project)
    assert [pid for pid in pids if processes.identify(pid)] == []
    assert [host["ssh"] or host["supervised"] for host in sandbox.status(project)] == [False] * len(before)
    assert sandbox.up(project, 2, service="gunicorn app") == before
    assert [Path(before[0][name]).read_bytes() for name in ("identity", "known_hosts")] == [key, known]


def test_a_port_that_somebody_took_is_replaced(project: Path) -> None:
    """Somebody else's port is left alone, also in known_hosts."""
    before = sandbox.up(project, 1)
    sandbox.down(project)
    with socket.create_server(("127.0.0.1", before[0]["port"])):
        after = sandbox.up(project, 1)
    assert after[0]["port"] != before[0]["port"]
    assert f"[127.0.0.1]:{after[0]['port']} " in Path(after[0]["known_hosts"]).read_text()


def test_a_strangers_process_survives_down(project: Path) -> None:
    """A pid that was given to somebody else meanwhile, as after a reboot, is not ours: the start time says so."""
    sandbox.up(project, 1)
    sandbox.down(project)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        for field, value in (("started", 1), ("boot", "another boot")):
            known = processes.identify(stranger.pid)
            assert known
            entry = {"pid": known.pid, "started": known.started, "boot": known.boot, field: value}
            (project / ".sandbox" / "server.pid").write_text(json.dumps({"format": 1, "processes": [entry]}))
            sandbox.down(project)
            assert stranger.poll() is None
        stranger.communicate(b"\n")
    sandbox.down(project)


def test_up_recovers_from_killed_daemons(served: Any, tmp_path: Path) -> None:
    """After kill -9 of both daemons ``up`` serves again on the same ports, and the old service is gone."""
    served.release("only")
    served.point("only")
    sandbox.down(tmp_path)
    (entry,) = sandbox.up(tmp_path, 1, service=served.entry["service"])
    service = recorded(served.directory / "service.pid")
    for path in (tmp_path / ".sandbox/server.pid", served.directory / "supervisor.pid"):
        os.kill(recorded(path)[0], signal.SIGKILL)
    wait_for(lambda: not sandbox.status(tmp_path)[0]["supervised"])
    assert sandbox.up(tmp_path, 1, service=entry["service"]) == [entry]
    with urllib.request.urlopen(entry["url"], timeout=10) as response:
        assert response.read() == b"only"
    assert sandbox.status(tmp_path)[0]["live"] == "only"
    assert [pid for pid in service if processes.identify(pid)] == []


def test_nobody_else_may_look_inside(project: Path) -> None:
    """The folder is private, and git never sees it."""
    sandbox.up(project, 1)
    folder = project / ".sandbox"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "id").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"


def test_remove_also_takes_read_only_releases(tmp_path: Path) -> None:
    """A staged release has no write bits; removing the sandbox removes it all the same."""
    (host,) = sandbox.up(tmp_path, 1)
    release = Path(host["root"]) / "releases" / "one"
    release.mkdir(parents=True)
    (release / "file").write_text("")
    release.chmod(0o555)
    sandbox.down(tmp_path, remove=True)
    assert list(tmp_path.iterdir()) == []


def test_down_without_a_sandbox_does_nothing(tmp_path: Path) -> None:
    """There is nothing to stop, and nothing is made."""
    assert sandbox.down(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, -1, 100])
def test_a_senseless_number_of_hosts_is_refused(tmp_path: Path, count: int) -> None:
    """Refused before anything is made."""
    with pytest.raises(Refused, match="number from 1 to 99"):
        sandbox.up(tmp_path, count)
    assert list(tmp_path.iterdir()) == []


def wait_for(condition: Any, *, timeout_s: float = 10.0) -> None:
    """Wait until something is so, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
