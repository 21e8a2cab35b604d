"""Hosts as the tests see them: a real sshd on a loopback port, a ROOT, and a service under a supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.sandbox import processes

from . import proc
from .accounts import Account, Accounts

SSHD = "/usr/sbin/sshd"
SERVICE = "python app.py"
ADDRESS = "127.0.0.1"


@dataclass
class Ground:
    """What all hosts of a test session share: a folder that every user can reach, users, keys, a Python."""

    base: Path
    accounts: Accounts
    python: str
    library: Path
    store: Path | None = None
    """A store/ with the tests' toolchain and closure in it, for hosts that are not about building."""

    @property
    def version(self) -> str:
        return self.python.rpartition("python")[2]

    @property
    def identity(self) -> Path:
        return self.base / "id"


@dataclass
class Host:
    """One host: its sshd, its ROOT, its service."""

    name: str
    ground: Ground
    account: Account
    directory: Path
    port: int
    http_port: int
    extra: Sequence[str] = ()
    service: str | None = SERVICE
    boots: bool = False
    """Whether it has a boot id of its own, which needs root."""
    _sshd: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def log(self) -> Path:
        return self.directory / "sshd.log"

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.http_port}/"

    @property
    def known_hosts_line(self) -> str:
        return f"[{ADDRESS}]:{self.port} {(self.directory / 'hostkey.pub').read_text()}"

    @property
    def current(self) -> str | None:
        """The release that ``current`` names."""
        try:
            return (self.root / "current").readlink().name
        except FileNotFoundError:
            return None

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Every record of the host's journal."""
        path = self.root / ".deploy/journal.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def logins(self) -> int:
        """How many connections were let in since the host came up."""
        return self.log.read_text().count("Accepted publickey")

    @property
    def execs(self) -> int:
        """How many commands were started over SSH since the host came up."""
        return self.log.read_text().count("Starting session: command")

    def settings(self) -> dict[str, Any]:
        """What fabric.yaml says of this host; without a service there is nothing to restart or to ask."""
        ask = self.ground.library / "deploy/sandbox/ask.py"
        supervisor = f"{self.ground.python} -I -S {ask} {self.directory}"
        where: dict[str, Any] = {
            "address": ADDRESS,
            "port": self.port,
            "user": self.account.name,
            "root": str(self.root),
            "python": self.ground.python,
        }
        if not self.service:
            return where
        return where | {
            "restart": f"{supervisor} restart",
            "stop": f"{supervisor} stop",
            "health": {"url": f"{self.url}healthz", "interval_s": 0.1, "timeout_s": 8, "successes": 2},
        }

    def prepare(self) -> None:
        """Make the folders: the host's own belongs to the app's user, ROOT to the deploy user and the app's group."""
        app = self.ground.accounts.app
        self.directory.mkdir(mode=0o755)
        self.root.mkdir(mode=0o750)
        if os.geteuid() == 0:
            os.chown(self.root, self.account.uid, app.gid)
            self.directory.chmod(0o1777)  # the service binds there; only root moves ROOT
        keygen(self.directory / "hostkey")
        if self.ground.store:
            state = self.root / ".deploy"
            state.mkdir(mode=0o711)
            subprocess.run(["cp", "-a", str(self.ground.store), str(state / "store")], check=True)
            if os.geteuid() == 0:
                subprocess.run(["chown", "-R", f"{self.account.uid}:{self.account.gid}", str(state)], check=True)

    def start(self) -> None:
        """Start sshd; returns when it listens."""
        config = self.directory / "sshd_config"
        config.write_text("\n".join([*self._config(), *self.extra]) + "\n")
        command = [SSHD, "-D", "-f", str(config), "-E", str(self.log)]
        self._sshd = subprocess.Popen([*self._boot(), *command], stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 10
        while not _listens(self.port):
            if self._sshd.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {self.log.read_text() if self.log.exists() else 'no log'}")
            time.sleep(0.02)

    def _boot(self) -> list[str]:
        """What gives the host a boot of its own, where this machine lets us: proc(5) names it by a random id."""
        if not self.boots:
            return []
        boot_id = self.directory / "boot_id"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        mounted = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounted, str(boot_id)]

    def reboot(self) -> None:
        """As a machine that loses its power and comes up again: every process is gone, the service starts by itself."""
        assert self._sshd
        ours = [self._sshd.pid, *self.onhost()]  # whose line was cut is nobody's child any more
        for pid in [*(below for top in ours for below in proc.descendants(top)), *self.builds(), *ours]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._sshd.wait()
        for name in ("supervisor.pid", "service.pid"):
            for process in processes.recorded(self.directory / name):
                processes.end(process, grace_s=0)
        self.start()
        self.serve()

    def _config(self) -> list[str]:
        return [
            f"ListenAddress {ADDRESS}:{self.port}",
            f"HostKey {self.directory / 'hostkey'}",
            f"AuthorizedKeysFile {self.ground.identity}.pub",
            "StrictModes no",  # the keys lie in a folder of /tmp
            "UsePAM no",
            "PidFile none",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "LogLevel VERBOSE",
            "UseDNS no",
        ]

    def stop(self) -> None:
        """Stop sshd and whatever is connected to it."""
        if self._sshd:
            for pid in [*self.sessions(), self._sshd.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._sshd.wait()
            self._sshd = None

    def sessions(self) -> list[int]:
        """The sshd processes of open connections."""
        return proc.descendants(self._sshd.pid, named="sshd") if self._sshd else []

    def onhost(self) -> list[int]:
        """The host programs that serve this ROOT, by their command line."""
        root = os.fsencode(str(self.root))
        found: list[int] = []
        for pid in proc.pids():
            words = proc.argv(pid)
            if words[1:4] == [b"-I", b"-S", b"-c"] and words[-1] == root:
                found.append(pid)
        return found

    def kill_onhost(self) -> list[int]:
        """Kill -9 of the host program, as the machine's memory killer would; tells whom."""
        pids = self.onhost()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pids

    def builds(self) -> list[int]:
        """Sealed children that are alive and belong to this ROOT, however they hide."""
        mark = b"SEALED_DEPLOY_BUILD=" + os.fsencode(str(self.root))
        return [pid for pid in proc.pids() if mark in proc.read(pid, "environ").split(b"\0")]

    def serve(self) -> None:
        """Start the supervisor that holds the service's socket, as the app's user."""
        entry: dict[str, Any] = {"name": self.name, "port": self.port, "user": self.ground.accounts.app.name}
        entry |= {"http_port": self.http_port, "service": self.service}
        sandbox = self.directory.parent / f"sandbox-{self.name}"
        sandbox.mkdir(exist_ok=True)
        (sandbox / "hosts.json").write_text(json.dumps({"format": 1, "hosts": [entry]}))
        link = sandbox / "host-1"
        if not link.is_symlink():
            link.symlink_to(self.directory)
        done = subprocess.run(
            [self.ground.python, "-m", "deploy.sandbox.supervisor", str(sandbox), "1"],
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(self.ground.library)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=0o007,  # its socket is for the group
            **self.ground.accounts.app.as_child,
        )
        if done.returncode:
            raise RuntimeError(f"the supervisor did not start: {done.stderr}")

    def stop_serving(self) -> None:
        """End the supervisor and its service."""
        for name in ("supervisor.pid", "service.pid"):
            for process in processes.recorded(self.directory / name):
                processes.end(process, grace_s=10)

    def answer(self, path: str = "") -> dict[str, Any]:
        """What the service says of itself. Raises OSError where it does not answer."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)

    def live(self) -> str | None:
        """The release that answers over HTTP, or None where nobody does."""
        try:
            return str(self.answer()["release"])
        except urllib.error.HTTPError as error:
            return str(json.load(error)["release"])
        except OSError:
            return None


def make_host(
    ground: Ground,
    name: str,
    folder: Path,
    *,
    serve: bool = True,
    service: str = SERVICE,
    account: Account | None = None,
    extra: Sequence[str] = (),
    boots: bool = False,
) -> Host:
    """Bring one host up. ``account`` logs in instead of the session's deploy user; ``extra`` are lines for sshd."""
    user = account or ground.accounts.deploy
    host = Host(name, ground, user, folder / name, free_port(), free_port(), extra, service if serve else None, boots)
    host.prepare()
    host.start()
    if serve:
        host.serve()
    return host


def remove(folder: Path) -> None:
    """Delete a folder with releases in it, which have no write bits."""
    if os.geteuid() != 0:
        for parent, _, _ in os.walk(folder):
            Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def keygen(path: Path, kind: str = "ed25519") -> None:
    """Make a key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True)


_given: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, below those that the kernel gives to outgoing connections; never the same one twice."""
    worker = int("0" + os.environ.get("PYTEST_XDIST_WORKER", "")[2:])
    while True:
        port = random.randrange(12000, 32000, 8) + worker % 8  # each worker its own
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((ADDRESS, port))
                return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, port)) == 0
