"""Proof of what is live, from real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from deploy.onhost import health, live
from deploy.onhost.health import Answer
from deploy.onhost.layout import Layout
from deploy.wire.names import ReleaseId

OLD, NEW = ReleaseId("v1-00000001"), ReleaseId("v2-00000002")
SERVE = """
import socket, sys, time
held = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A root with an interpreter of its own in each of two releases."""
    layout = Layout(tmp_path)
    for release in (OLD, NEW):
        python = layout.release(release) / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
    return layout


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@pytest.fixture
def serving(layout: Layout, port: int) -> Generator[subprocess.Popen[str]]:
    """A process of the old release that listens."""
    python = layout.release(OLD) / "venv" / "bin" / "python"
    child = subprocess.Popen([str(python), "-c", SERVE, "x", str(port)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "up\n"
    yield child
    child.kill()
    child.communicate()


def test_a_restart_that_did_nothing_is_seen_by_who_listens(
    layout: Layout, port: int, serving: subprocess.Popen[str]
) -> None:
    """An answer that names nobody does not count for the new release while the old one's process holds the port."""
    answer = Answer(ok=True, text="HTTP 200")
    seen = live.witnesses(answer, port=port, unit=None)
    assert serving.pid in seen
    assert OLD in (live.contradiction(layout, NEW, answer, seen) or "")
    assert live.contradiction(layout, OLD, answer, seen) is None
    assert live.proof(layout, OLD, answer, seen) == f"proven by pid {serving.pid}, which serves"
    assert live.proof(layout, NEW, answer, seen) == live.UNPROVEN


def test_the_pid_that_answered_testifies(layout: Layout, serving: subprocess.Popen[str]) -> None:
    """A pid in the answer proves its own release and contradicts every other."""
    answer = Answer(ok=True, text="HTTP 200", pid=serving.pid)
    assert live.contradiction(layout, OLD, answer, []) is None
    assert live.proof(layout, OLD, answer, []).startswith("proven by pid")
    assert OLD in (live.contradiction(layout, NEW, answer, []) or "")


def test_the_release_id_in_the_answer_settles_it(layout: Layout) -> None:
    """A named release needs no process: it is proof, or contradiction."""
    answer = Answer(ok=True, text="HTTP 200", release=NEW)
    assert live.proof(layout, NEW, answer, []) == "proven by the answer's release id"
    assert NEW in (live.contradiction(layout, OLD, answer, []) or "")


def test_processes_of_a_unit_are_found_by_their_cgroup(serving: subprocess.Popen[str]) -> None:
    """Anybody may read a process's cgroup, so that a service of another user still testifies."""
    lines = Path(f"/proc/{serving.pid}/cgroup").read_text(encoding="utf-8").splitlines()
    names = {part for line in lines for part in line.split("/")[1:] if part}
    if not names:
        pytest.skip("this process is in the root cgroup: no unit's name to look for")
    assert serving.pid in live.processes_of(names.pop())
    assert live.processes_of("no-such.service") == []


def test_who_holds_a_unix_socket_is_asked_of_the_kernel(tmp_path: Path) -> None:
    """The peer of a unix socket is the process that listens there (SO_PEERCRED), also where it answers badly."""
    path = tmp_path / "web.sock"
    code = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX);s.bind(sys.argv[1]);s.listen()\nc,_=s.accept();"
        "c.recv(9999);c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok');c.close()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        settings = {"socket": str(path), "path": "/", "expect_status": [200]}
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = health.ask_http(settings, "/nowhere")
        while not answer.ok and time.monotonic() < deadline:
            answer = health.ask_http(settings, "/nowhere")
        assert (answer.ok, answer.peer) == (True, child.pid)
        assert os.getpid() not in live.witnesses(answer, port=None, unit=None)
    finally:
        child.kill()
        child.wait()
