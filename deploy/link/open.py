"""Choose how a host is reached: over SSH, as a directory of this machine, or (dry) not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploy.link.dry import DryPipe
from deploy.link.local import LocalPipe
from deploy.link.pipe import Pipe
from deploy.link.ssh import Address, SshPipe
from deploy.settings import HostSettings


def opener(config: Any = None, *, dry: bool = False) -> Callable[[HostSettings, str], Pipe]:
    """Give the function that makes the pipe to one host. ``config`` is Fabric's: ssh_config and gateways count."""

    def open_pipe(host: HostSettings, line: str) -> Pipe:
        if dry:
            return DryPipe(host)
        if host.local:
            return LocalPipe(line)
        return SshPipe(address_of(host), line, config)

    return open_pipe


def address_of(host: HostSettings) -> Address:
    """Where SSH finds a host, by its settings."""
    deadlines = host.deadlines
    return Address(
        host=host.address,
        port=host.port,
        user=host.user,
        identity=host.identity,
        known_hosts=host.known_hosts,
        connect_s=deadlines.connect_s,
        auth_s=deadlines.auth_s,
        silence_s=deadlines.silence_s,
    )
