"""The supervisor of one sandbox host: holds the service's listening socket across releases, so that no request fails.

Run as ``python -m deploy.sandbox.supervisor SANDBOX NUMBER``. It plays what systemd's ``.socket`` and ``.service``
units play on a real host: the service is started from ``current`` with the socket as descriptor 3 (sd_listen_fds(3),
which gunicorn speaks). Standard library only. Must not know how a release came to be.

One request at a time, a word and a newline on ``supervisor.sock``: ``restart``, ``stop`` or ``status``; the answer is
one JSON object. A restart starts the new process beside the old one, and ends the old one only when the new one has
answered: each process gets, as descriptor 4, a socket of its own that nobody else serves, where the supervisor asks it.
Gunicorn's own HUP and USR2 would re-execute the interpreter of the *old* release.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from deploy.wire import commands

from . import processes
from .hosts import Host, Sandbox

STAGE = "sandbox"
_START_S = 60.0
"""How long a new process may take until it answers: cold imports of a large application on a busy machine."""
_DRAIN_S = 35.0
"""How long an old process may finish its requests: a little more than gunicorn's own graceful timeout of 30 s."""
_POLL_S = 0.05
_MUST = (
    "it must answer on every socket of LISTEN_FDS (`uvicorn --fd 3` answers on one of two), and an edited `service` "
    "counts from the next `fab sandbox.up` on"
)


class Supervisor:
    """The service of one host. Its working directory is the host's, so that socket names stay short."""

    def __init__(self, sandbox: Sandbox, number: int, public: socket.socket) -> None:
        self._sandbox, self._number, self._public = sandbox, number, public
        self._running: dict[int, Path] = {}
        self.is_ending = False

    @property
    def _host(self) -> Host:
        """Read anew for each request: ``sandbox.up`` may have written another service."""
        return self._sandbox.hosts()[self._number - 1]

    def restart(self) -> dict[str, Any]:
        """Serve ``current``: start it, wait until it answers, then end what served before. Nothing to serve: stop."""
        release = _current(self._host.root)
        if release is None or not self._host.service:
            return self.stop()
        before = list(self._running)
        log = self._host.service_log
        logged = log.stat().st_size if log.exists() else 0
        with _own_socket() as own:
            pid = self._start(release, own)
            why = self._why_not_ready(pid)
        for one in before if why is None else [pid]:
            self._end(one)
        if why:
            return {"ok": False, "why": why, "log": processes.tail(log, since=logged)}
        return self.status()

    def stop(self) -> dict[str, Any]:
        """End the service. The socket stays: connections wait for the next start."""
        for pid in list(self._running):
            self._end(pid)
        return self.status()

    def status(self) -> dict[str, Any]:
        """Say what runs: pid and release of each process, newest last."""
        self._reap()
        return {"ok": True, "service": [{"pid": pid, "release": r.name} for pid, r in self._running.items()]}

    def _start(self, release: Path, own: socket.socket) -> int:
        host = self._host
        argv = shlex.split(host.service or "")
        script = release / "venv/bin" / argv[0]
        argv[0] = str(script) if script.exists() else argv[0]
        environment = {**host.environment(), **_environment(host, release), "DEPLOY_ROOT": str(host.root)}
        environment["PATH"] = f"{release}/venv/bin:{environment['PATH']}"
        # Whoever runs the sandbox as root may write into a staged release, and bytecode would change it.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        pid = os.fork()
        if pid == 0:
            _become(argv, environment, release / "src", host.service_log, (self._public, own))
        self._running[pid] = release
        processes.record(host.service_pids, [processes.identify(one) for one in self._running])
        return pid

    def _why_not_ready(self, pid: int) -> str | None:
        """Wait for the first answer on the process's own socket. None when it came, else what happened instead.

        The connection waits in the socket's queue until a worker has loaded the application; any answer will do,
        whether the application is healthy is for the health check to say.
        """
        deadline = time.monotonic() + _START_S
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_POLL_S)
            client.connect("ready.sock")
            client.sendall(b"HEAD / HTTP/1.0\r\nHost: localhost\r\nUser-Agent: sealed-deploy-sandbox\r\n\r\n")
            while time.monotonic() < deadline and not self.is_ending:
                with contextlib.suppress(TimeoutError):
                    if client.recv(1):
                        return None
                    time.sleep(_POLL_S)
                self._reap()
                if pid not in self._running:
                    return "the service ended instead of answering"
        return f"the service did not answer within {_START_S:.0f} s; {_MUST}"

    def _end(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _DRAIN_S
        while pid in self._running:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(_POLL_S / 5)
            self._reap()

    def _reap(self) -> None:
        for pid in list(self._running):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._running[pid]


def _current(root: Path) -> Path | None:
    link = root / "current"
    return link.resolve(strict=True) if link.exists() else None


def _environment(host: Host, release: Path) -> dict[str, str]:
    """Give what the release's own settings say for the service: ``environment`` and ``env_files``."""
    found: dict[str, str] = {}
    try:
        settings = json.loads((release / "release.json").read_text(encoding="utf-8"))["manifest"]["settings"]
    except FileNotFoundError:
        return found
    found.update(commands.environment_of(settings, commands.levels(STAGE, (), host.name)))
    for name in settings.get("env_files", []):
        with contextlib.suppress(FileNotFoundError):
            found.update(commands.parse_env_file((host.root / name).read_text(encoding="utf-8")))
    return found


@contextlib.contextmanager
def _own_socket() -> Generator[socket.socket]:
    own = socket.socket(socket.AF_UNIX)
    try:
        Path("ready.sock").unlink(missing_ok=True)
        own.bind("ready.sock")
        own.listen(8)
        yield own
    finally:
        own.close()
        Path("ready.sock").unlink(missing_ok=True)


def _become(
    argv: list[str], environment: dict[str, str], cwd: Path, log: Path, sockets: tuple[socket.socket, ...]
) -> None:
    """In the forked child: become the service, with the sockets as descriptors 3 and up. Never returns."""
    try:
        os.setsid()
        with log.open("ab", buffering=0) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        copies = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 10) for one in sockets]
        for number, copy in enumerate(copies, start=3):
            os.dup2(copy, number)
            os.close(copy)
        os.chdir(cwd)
        environment |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": str(os.getpid())}
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _answer(control: socket.socket, verbs: dict[str, Callable[[], dict[str, Any]]]) -> None:
    with control.accept()[0] as client:
        client.settimeout(5.0)
        try:
            verb = client.makefile(encoding="ascii").readline().strip()
            answer = verbs[verb]() if verb in verbs else {"ok": False, "why": f"no request {verb!r}"}
        except OSError as error:
            answer = {"ok": False, "why": str(error)}
        with contextlib.suppress(OSError):
            client.sendall(json.dumps(answer).encode("ascii") + b"\n")


def main(directory: str, number: str) -> None:
    """Supervise host ``number`` of the sandbox in ``directory`` until SIGTERM, then end its service."""
    sandbox = Sandbox(Path(directory))
    host = sandbox.hosts()[int(number) - 1]
    os.chdir(host.directory)
    public = socket.create_server((host.address, host.http_port), backlog=256)
    ready_fd = processes.detach(host.supervisor_log, host.supervisor_pid)
    Path("supervisor.sock").unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX)
    control.bind("supervisor.sock")
    control.listen(8)
    control.settimeout(0.2)
    supervisor = Supervisor(sandbox, int(number), public)

    def end(*_: object) -> None:
        supervisor.is_ending = True

    signal.signal(signal.SIGTERM, end)
    verbs = {"restart": supervisor.restart, "stop": supervisor.stop, "status": supervisor.status}
    outcome = supervisor.restart()
    if not outcome["ok"]:
        sys.stderr.write(f"{outcome['why']}\n")
    processes.ready(ready_fd)
    while not supervisor.is_ending:
        with contextlib.suppress(TimeoutError):
            _answer(control, verbs)
    supervisor.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
