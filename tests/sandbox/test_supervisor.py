"""The supervisor with real gunicorn: requests run through every switch, and none may fail."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

from deploy.sandbox import supervisor
from deploy.sandbox.hosts import Sandbox

APP_THAT_TELLS = """
import os
told = ", ".join(os.environ[name] for name in ("WHO", "COLOUR", "SECRET"))
def application(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [told.encode() if environ["REQUEST_METHOD"] != "HEAD" else b""]
"""


def answer(host: Any) -> str:
    """Ask the service, as anybody would."""
    with urllib.request.urlopen(host.entry["url"], timeout=10) as response:
        return response.read().decode()


def run(host: Any, verb: str) -> subprocess.CompletedProcess[str]:
    """Run ``restart`` or ``stop`` as the host program runs it."""
    return subprocess.run(["/bin/sh", "-c", host.entry[verb]], capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def readers(host: Any) -> Generator[tuple[list[str], list[str]]]:
    """Ask without a pause, four at a time; yields the answers and the failures."""
    stop, seen, failed = threading.Event(), list[str](), list[str]()

    def read() -> None:
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", host.entry["http_port"], timeout=10)
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                (seen if response.status == 200 else failed).append(response.read().decode())
            except OSError as error:
                failed.append(repr(error))
            finally:
                connection.close()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen, failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_no_request_fails_while_releases_change(served: Any) -> None:
    """Back and forth between two releases under load: every request is answered, by the right release in the end."""
    served.release("one")
    served.release("two")
    served.point("one")
    assert run(served, "restart").returncode == 0
    with readers(served) as (seen, failed):
        for name in ("two", "one", "two"):
            served.point(name)
            assert run(served, "restart").returncode == 0
            assert answer(served) == name
    assert failed == []
    assert set(seen) == {"one", "two"}


def test_after_a_restart_nothing_of_the_old_release_runs(served: Any) -> None:
    """A restart that has said yes leaves one service, that of ``current``."""
    for name in ("one", "two"):
        served.release(name)
        served.point(name)
        assert run(served, "restart").returncode == 0
    assert running(served) == {"two"}


def test_a_release_that_cannot_start_leaves_the_old_one_serving(served: Any) -> None:
    """The restart fails with the service's own words, and not one request notices."""
    served.release("good")
    served.release("broken", app="import no_such_module\n")
    served.point("good")
    assert run(served, "restart").returncode == 0
    with readers(served) as (seen, failed):
        served.point("broken")
        ended = run(served, "restart")
    assert ended.returncode == 1
    assert "No module named 'no_such_module'" in ended.stderr
    assert failed == []
    assert set(seen) == {"good"}
    assert running(served) == {"good"}


def test_the_service_gets_the_releases_environment_and_env_files(served: Any) -> None:
    """As a service unit would name them: settings narrow by level, and secrets come from the host's own file."""
    release = served.release("one", app=APP_THAT_TELLS)
    levels = {"app": {"WHO": "everybody", "COLOUR": "green"}, "host:sandbox/sandbox-1": {"WHO": "the first"}}
    settings = {"environment": levels, "env_files": ["shared/.env", "shared/absent"]}
    (release / "release.json").write_text(json.dumps({"format": 1, "manifest": {"settings": settings}}))
    (served.root / "shared").mkdir()
    (served.root / "shared" / ".env").write_text("# a comment\nexport SECRET='a b'\n")
    served.point("one")
    assert run(served, "restart").returncode == 0
    assert answer(served) == "the first, green, a b"


def test_without_current_a_restart_stops(served: Any) -> None:
    """A first release that was withdrawn leaves nothing live, as before it."""
    served.release("only")
    served.point("only")
    assert run(served, "restart").returncode == 0
    served.point(None)
    assert run(served, "restart").returncode == 0
    assert running(served) == set()


def test_stop_and_restart(served: Any) -> None:
    """Stopped is stopped; connections wait in the socket for the next start."""
    served.release("only")
    served.point("only")
    run(served, "restart")
    assert run(served, "stop").returncode == 0
    assert running(served) == set()
    waiting: list[str] = []
    thread = threading.Thread(target=lambda: waiting.append(answer(served)))
    thread.start()
    assert run(served, "restart").returncode == 0
    thread.join()
    assert waiting == ["only"]


def test_a_service_that_died_is_started_by_the_next_restart(served: Any) -> None:
    """A killed service is not mistaken for a running one."""
    served.release("only")
    served.point("only")
    run(served, "restart")
    (master,) = {pid for pid in pids(served) if os.getpgid(pid) == pid}
    os.killpg(master, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while pids(served) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run(served, "restart").returncode == 0
    assert answer(served) == "only"


def test_without_a_supervisor_the_script_says_what_to_do(served: Any) -> None:
    """A restart on a host that is down fails with the next command."""
    (served.directory / "supervisor.sock").unlink()
    ended = run(served, "restart")
    assert ended.returncode == 1
    assert "fab sandbox.up" in ended.stderr


def test_a_service_that_is_deaf_on_a_socket_is_told_what_it_must(tmp_path: Path, monkeypatch: Any) -> None:
    """One that answers on the shared socket only, as ``uvicorn --fd 3`` does, is not left with its own happy log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "_START_S", 0.2)
    with socket.socket() as public, supervisor._own_socket(), subprocess.Popen(["sleep", "60"]) as deaf:
        one = supervisor.Supervisor(Sandbox(tmp_path), 1, public)
        one._running[deaf.pid] = tmp_path
        why = one._why_not_ready(deaf.pid)
        deaf.kill()
    assert why is not None
    assert "every socket of LISTEN_FDS" in why
    assert "fab sandbox.up" in why


def pids(host: Any) -> set[int]:
    """Every process whose working directory is a release of this host."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(host.root) in str((entry / "cwd").readlink()):
                found.add(int(entry.name))
    return found


def running(host: Any) -> set[str]:
    """The releases that have a process."""
    return {Path(f"/proc/{pid}/cwd").readlink().parent.name for pid in pids(host)}
