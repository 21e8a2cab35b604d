"""What proves that a release is live: real processes that run from real release folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.onhost import live
from deploy.onhost.health import Answer
from deploy.onhost.layout import Layout
from deploy.wire.names import ReleaseId

OLD, NEW = ReleaseId("v1-01234567"), ReleaseId("v2-89abcdef")
WELL = Answer(True, "HTTP 200")
LISTEN = (
    "import socket,sys,time; s = socket.socket(fileno=int(sys.argv[1])); s.listen(); print(flush=1); time.sleep(60)"
)


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A bound socket, as a supervisor holds it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


@pytest.fixture
def serve(layout: Layout) -> Iterator[Callable[..., int]]:
    """Start a process of a release that listens on a socket it is given, by cwd or by the path of its interpreter."""
    running: list[subprocess.Popen[bytes]] = []

    def start(release: str, held: socket.socket, *, by: str = "cwd") -> int:
        folder = layout.releases / release
        (folder / "venv/bin").mkdir(parents=True, exist_ok=True)
        python = folder / "venv/bin/python"
        if not python.is_symlink():
            python.symlink_to(sys.executable)
        argv = [str(python) if by == "argv" else sys.executable, "-I", "-c", LISTEN, str(held.fileno())]
        cwd = folder if by == "cwd" else Path("/")
        process = subprocess.Popen(argv, pass_fds=(held.fileno(),), cwd=cwd, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout
        process.stdout.readline()
        return process.pid

    yield start
    for process in running:
        process.kill()
        process.communicate()


def at(held: socket.socket, answer: Answer = WELL) -> list[int]:
    """The witnesses of a port."""
    return live.witnesses(answer, port=held.getsockname()[1], unit=None)


@pytest.mark.parametrize("by", ["cwd", "argv"])
def test_a_listener_of_the_release_proves_it(
    layout: Layout, serve: Callable[..., int], port: socket.socket, by: str
) -> None:
    """By its working directory, or by the interpreter it was started with."""
    pid = serve(NEW, port, by=by)
    assert pid in at(port)
    assert live.release_of(layout, pid) == NEW
    assert live.contradiction(layout, NEW, WELL, at(port)) is None
    assert live.proof(layout, NEW, WELL, at(port)).startswith(f"proven by pid {pid}")


def test_a_listener_of_another_release_contradicts(
    layout: Layout, serve: Callable[..., int], port: socket.socket
) -> None:
    """The old process still answers: well, but not what was asked for."""
    serve(OLD, port)
    found = live.contradiction(layout, NEW, WELL, at(port))
    assert found is not None
    assert OLD in found
    assert live.proof(layout, NEW, WELL, at(port)) == live.UNPROVEN


def test_both_at_once_is_a_graceful_restart(layout: Layout, serve: Callable[..., int], port: socket.socket) -> None:
    """Old workers drain while new ones serve: no contradiction, and the new one proves it."""
    serve(OLD, port)
    pid = serve(NEW, port)
    assert live.contradiction(layout, NEW, WELL, at(port)) is None
    assert live.proof(layout, NEW, WELL, at(port)).startswith(f"proven by pid {pid}")


def test_a_supervisor_alone_proves_and_contradicts_nothing(layout: Layout, port: socket.socket) -> None:
    """The test's own process holds the socket and runs from no release."""
    port.listen()
    assert os.getpid() in at(port)
    assert live.contradiction(layout, NEW, WELL, at(port)) is None
    assert live.proof(layout, NEW, WELL, at(port)) == live.UNPROVEN


def test_what_the_answer_says_of_itself_goes_first(
    layout: Layout, serve: Callable[..., int], port: socket.socket
) -> None:
    """A release id in the answer decides, whoever listens."""
    serve(OLD, port)
    said = Answer(True, "HTTP 200", release=NEW)
    assert live.contradiction(layout, NEW, said, at(port)) is None
    assert live.proof(layout, NEW, said, at(port)) == "proven by the answer's release id"
    assert live.contradiction(layout, OLD, said, at(port)) == f"answered by release {NEW}, not {OLD}"


def test_the_pid_in_an_answer_is_looked_up(layout: Layout, serve: Callable[..., int], port: socket.socket) -> None:
    """It may be of this release, of another, of none, or of nobody any more."""
    old, new = serve(OLD, port), serve(NEW, port)
    assert str(new) in live.proof(layout, NEW, Answer(True, "", pid=new), [])
    assert OLD in (live.contradiction(layout, NEW, Answer(True, "", pid=old), []) or "")
    for pid in (os.getpid(), 2**22 - 1):
        assert live.contradiction(layout, NEW, Answer(True, "", pid=pid), []) is None
        assert live.proof(layout, NEW, Answer(True, "", pid=pid), []) == live.UNPROVEN


def test_another_root_or_a_longer_name_is_not_this_release(layout: Layout, tmp_path: Path) -> None:
    """Only what lies below this ROOT's releases/ counts, up to the next slash."""
    other = tmp_path / "other/releases" / NEW
    longer = layout.releases / f"{NEW}.old"
    for folder in (other, longer):
        folder.mkdir(parents=True)
        process = subprocess.Popen(["sleep", "60"], cwd=folder)
        try:
            assert live.release_of(layout, process.pid) != NEW
        finally:
            process.kill()
            process.wait()


def test_a_busy_process_is_not_overlooked(serve: Callable[..., int], port: socket.socket) -> None:
    """Descriptors come and go while /proc is read; one that is gone says nothing about the others."""
    port.listen()
    churn = "import os\nwhile True:\n    os.close(os.open('/', 0))\n"
    process = subprocess.Popen([sys.executable, "-c", churn], pass_fds=(port.fileno(),))
    try:
        time.sleep(0.3)
        for _ in range(50):
            assert process.pid in live.listeners(port.getsockname()[1])
    finally:
        process.kill()
        process.wait()


def test_nobody_listens_on_a_port_that_is_only_bound(port: socket.socket) -> None:
    """Bound is not listening; nor is a connection on a high port a listener."""
    assert live.listeners(port.getsockname()[1]) == []
