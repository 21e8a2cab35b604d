"""What lies in a project's ``.sandbox/``: its hosts, their places and ports, and the environment they give to commands.

    .sandbox/                  0700, ignored by its own .gitignore
      hosts.json               read by the settings as the stage ``sandbox``: every entry holds its host's own settings
      id, id.pub, known_hosts  the one user's key; the hosts' keys
      server.log, server.pid   the daemon that serves SSH
      host-1/                  the host: a command's HOME and working directory
        root/                  ROOT, as on any host
        bin/restart, bin/stop  what settings name as ``restart`` and ``stop``
        supervisor.log ...     the process that holds the service's socket, and what it started

Must not start, stop or ask anything.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shlex
import socket
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
ADDRESS = "127.0.0.1"
INTERPRETER = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
"""The interpreter behind the running one, not its virtualenv's: a sandbox host has the Python that its operator has."""
_PORTS = range(20000, 32000)
"""Below what the kernel gives to outgoing connections, so a port that is free today is likely free tomorrow."""
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Host:
    """One sandbox host. ``service`` is the command line of the service it supervises, or None."""

    name: str
    directory: Path
    port: int
    http_port: int
    user: str
    service: str | None

    address = ADDRESS

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def supervisor_pid(self) -> Path:
        return self.directory / "supervisor.pid"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "supervisor.log"

    @property
    def service_pids(self) -> Path:
        return self.directory / "service.pid"

    @property
    def service_log(self) -> Path:
        return self.directory / "service.log"

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.http_port}/"

    def environment(self) -> dict[str, str]:
        """What a command gets: nothing of the operator's own environment but where to find an interpreter."""
        return {
            "HOME": str(self.directory),
            "USER": self.user,
            "LOGNAME": self.user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "PATH": f"{INTERPRETER.parent}:{_SYSTEM_PATH}",
        }

    def to_json(self, sandbox: Sandbox) -> dict[str, Any]:
        """The entry in ``hosts.json``: what the settings of this host are, with absolute paths."""
        entry: dict[str, Any] = {
            "name": self.name,
            "address": ADDRESS,
            "port": self.port,
            "user": self.user,
            "root": str(self.root),
            "identity": str(sandbox.identity),
            "known_hosts": str(sandbox.known_hosts),
            "http_port": self.http_port,
            "allow_root": os.getuid() == 0,
        }
        if self.service:
            entry |= {
                "service": self.service,
                "url": self.url,
                "restart": shlex.quote(str(self.directory / "bin/restart")),
                "stop": shlex.quote(str(self.directory / "bin/stop")),
            }
        return entry


@dataclass(frozen=True)
class Sandbox:
    """The ``.sandbox/`` of one project. ``directory`` is absolute."""

    directory: Path

    @property
    def identity(self) -> Path:
        return self.directory / "id"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def server_pid(self) -> Path:
        return self.directory / "server.pid"

    @property
    def server_log(self) -> Path:
        return self.directory / "server.log"

    def hosts(self) -> list[Host]:
        """Read the hosts. None yet is an empty list; a file of a newer format raises ValueError."""
        try:
            value = json.loads((self.directory / "hosts.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        if value["format"] != FORMAT:
            raise ValueError(f"{self.directory}/hosts.json has format {value['format']}, not {FORMAT}")
        return [self._host(number, entry) for number, entry in enumerate(value["hosts"], start=1)]

    def plan(self, count: int, service: str | None, *, unusable: Collection[int] = ()) -> list[Host]:
        """Name at least ``count`` hosts: those there are, keeping every usable port, and new ones on free ports."""
        there = self.hosts()
        ports = _free_ports({port for host in there for port in (host.port, host.http_port)} | set(unusable))
        user = pwd.getpwuid(os.getuid()).pw_name
        kept = [(host.port, host.http_port) for host in there] + [(0, 0)] * (count - len(there))
        pairs = [tuple(port if port and port not in unusable else next(ports) for port in pair) for pair in kept]
        return [
            Host(f"sandbox-{number}", self.directory / f"host-{number}", ssh, http, user, service)
            for number, (ssh, http) in enumerate(pairs, start=1)
        ]

    def write(self, hosts: list[Host]) -> None:
        """Replace ``hosts.json``, all or nothing."""
        value = {"format": FORMAT, "hosts": [host.to_json(self) for host in hosts]}
        temporary = self.directory / "hosts.json.new"
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.directory / "hosts.json")

    def _host(self, number: int, entry: dict[str, Any]) -> Host:
        return Host(
            name=str(entry["name"]),
            directory=self.directory / f"host-{number}",
            port=int(entry["port"]),
            http_port=int(entry["http_port"]),
            user=str(entry["user"]),
            service=entry.get("service"),
        )


def is_free(port: int) -> bool:
    """True where this port of 127.0.0.1 can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def _free_ports(taken: set[int]) -> Iterator[int]:
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in taken and is_free(port):
            yield port
