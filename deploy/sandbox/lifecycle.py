"""Bring a project's sandbox up and down and say how it is: knows processes and files, must not know SSH or releases."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from deploy.errors import Failed, Refused

from . import processes
from .ask import ask
from .hosts import INTERPRETER, Host, Sandbox, is_free

DEFAULT_HOSTS = 3
_GRACE_S = 40.0
"""A little more than a supervisor gives its service to finish the requests it has."""
_LIBRARY = Path(__file__).resolve().parents[2]


def up(project: Path, hosts: int = DEFAULT_HOSTS, *, service: str | None = None) -> list[dict[str, Any]]:
    """Bring at least ``hosts`` sandbox hosts up, and the service of each that has a release. Idempotent.

    Keys, ports and releases stay from one time to the next; a port that somebody else took meanwhile is replaced.
    ``service`` is the command line to supervise (settings key ``service``); without one there is no supervisor.
    Returns the entries of ``hosts.json``. Raises Refused for a count that makes no sense, Failed where a daemon ends
    instead of starting.
    """
    if not 1 <= hosts <= 99:
        raise Refused(
            "No sandbox host was started.", f"{hosts} is not a number from 1 to 99", "fab sandbox.up --hosts 3"
        )
    if not hasattr(os, "pidfd_open"):
        raise Refused("No sandbox host was started.", "sandbox hosts need Linux", "run it on a Linux machine")
    with _locked(project) as sandbox:
        before = sandbox.hosts()
        serving = processes.recorded(sandbox.server_pid)
        planned = sandbox.plan(hosts, service, unusable=_unusable(before, is_serving=bool(serving)))
        for host in planned:
            _prepare(host)
        sandbox.write(planned)
        if not serving or [host.port for host in planned] != [host.port for host in before]:
            _end_all(serving)
            _start("server", sandbox, sandbox.server_log)
        for number, host in enumerate(planned, start=1):
            _supervise(sandbox, number, host)
        return [host.to_json(sandbox) for host in planned]


def down(project: Path, *, remove: bool = False) -> list[dict[str, Any]]:
    """End everything that ``up`` started: SSH servers, supervisors and their services, and nothing else.

    Releases, keys and ports stay, unless ``remove``: then the whole ``.sandbox/`` goes. Returns the hosts that were
    stopped. Raises Failed, with what still runs, where a process does not end.
    """
    if not _directory(project).exists():
        return []
    with _locked(project) as sandbox:
        there = sandbox.hosts()
        entries = [host.to_json(sandbox) for host in there]
        _end_all(processes.recorded(sandbox.server_pid))
        for host in there:
            _end_service(host)
        if remove:
            _remove(sandbox.directory)
        return entries


def status(project: Path) -> list[dict[str, Any]]:
    """Say of each host whether SSH is served (``ssh``) and which release the service runs (``live``, or None)."""
    sandbox = Sandbox(_directory(project))
    is_serving = bool(processes.recorded(sandbox.server_pid))
    entries: list[dict[str, Any]] = []
    for host in sandbox.hosts():
        running = bool(processes.recorded(host.supervisor_pid))
        live = _live(host) if running and processes.recorded(host.service_pids) else None
        entries.append({**host.to_json(sandbox), "ssh": is_serving, "supervised": running, "live": live})
    return entries


def _directory(project: Path) -> Path:
    return project.resolve() / ".sandbox"


@contextlib.contextmanager
def _locked(project: Path) -> Generator[Sandbox]:
    """Hold the sandbox alone: two ``up`` at once would start everything twice."""
    directory = _directory(project)
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    (directory / ".gitignore").write_text("*\n", encoding="ascii")
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Sandbox(directory)


def _unusable(hosts: list[Host], *, is_serving: bool) -> set[int]:
    """Ports of ours that somebody else listens on by now."""
    ports = [] if is_serving else [host.port for host in hosts]
    for host in hosts:
        if not processes.recorded(host.supervisor_pid):
            _end_all(processes.recorded(host.service_pids))
            ports.append(host.http_port)
    return {port for port in ports if not is_free(port)}


def _prepare(host: Host) -> None:
    host.root.mkdir(mode=0o750, parents=True, exist_ok=True)
    scripts = host.directory / "bin"
    scripts.mkdir(exist_ok=True)
    for verb in ("restart", "stop"):
        script = scripts / verb
        argv = [str(INTERPRETER), "-I", "-S", str(Path(__file__).with_name("ask.py")), str(host.directory), verb]
        script.write_text(f"#!/bin/sh\nexec {shlex.join(argv)}\n", encoding="utf-8")
        script.chmod(0o700)


def _supervise(sandbox: Sandbox, number: int, host: Host) -> None:
    running = processes.recorded(host.supervisor_pid)
    if host.service and not running:
        _start("supervisor", sandbox, host.supervisor_log, str(number))
    elif running and not host.service:
        _end_service(host)


def _start(program: str, sandbox: Sandbox, log: Path, *arguments: str) -> None:
    """Run one of our daemons; it returns once the daemon is ready."""
    argv = [sys.executable, "-m", f"{__package__}.{program}", str(sandbox.directory), *arguments]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(_LIBRARY), "PYTHONUNBUFFERED": "1"}
    ended = subprocess.run(
        argv,
        cwd=sandbox.directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise Failed(
            "The sandbox is not up.",
            f"its {program} ended instead of starting: {ended.stderr.strip() or 'it said nothing'}",
            f"look into {log}, then: fab sandbox.up",
        )


def _end_service(host: Host) -> None:
    _end_all(processes.recorded(host.supervisor_pid))
    _end_all(processes.recorded(host.service_pids))


def _end_all(running: list[processes.Process]) -> None:
    left = [one.pid for one in running if not processes.end(one, grace_s=_GRACE_S)]
    if left:
        raise Failed(
            "The sandbox is not down.",
            f"these processes do not end: {left}",
            "look at them with ps, then: fab sandbox.down",
        )


def _live(host: Host) -> str | None:
    """The release that the newest service process runs, as the supervisor says."""
    try:
        service = ask(str(host.directory), "status").get("service")
    except OSError:
        return None
    return service[-1]["release"] if service else None


def _remove(directory: Path) -> None:
    """Delete the sandbox. Staged releases have no write bits, so they get them back first."""
    for folder, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            Path(folder).chmod(stat.S_IRWXU)
    shutil.rmtree(directory)
