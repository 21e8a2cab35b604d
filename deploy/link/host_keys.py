# pyright: basic, reportAttributeAccessIssue=false
# Fabric and Paramiko ship no types; here and in ssh.py that is met.
"""The keys that hosts show to whoever connects, held against known_hosts. Logs in nowhere, but at gateways."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import paramiko
from fabric import Config
from paramiko.ssh_exception import IncompatiblePeer

from deploy.link import ssh
from deploy.link.known_hosts import KnownHosts, file_that_knows, load_known_hosts
from deploy.link.pipe import LinkLost
from deploy.link.ssh import AT_ONCE, Address

MOST_KEYS = 6
"""An sshd has about three host keys; a host that shows ever new ones does not keep us."""
_RSA = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")

State = Literal["known", "new", "CHANGED", "REVOKED"]


@dataclass(frozen=True)
class ShownKey:
    """One key that a host showed. ``text`` is type and base64, as known_hosts has it."""

    kind: str
    fingerprint: str
    text: str
    state: State


@dataclass(frozen=True)
class Shown:
    """What one host showed. ``name`` is as ssh writes it: ``[host]:port`` beside port 22."""

    host: str
    file: str
    """Where a new key would be written."""
    name: str = ""
    keys: tuple[ShownKey, ...] = ()
    known_in: str = ""
    """The file that holds what is known of it, or nothing."""
    error: str = ""
    next_step: str = ""

    @property
    def new(self) -> tuple[ShownKey, ...]:
        """The keys that may be added: none of a host that shows anything else than it did before."""
        if any(key.state in ("CHANGED", "REVOKED") for key in self.keys):
            return ()
        return tuple(key for key in self.keys if key.state == "new")


def scan(addresses: Sequence[tuple[str, Address]], config: Config | None = None) -> list[Shown]:
    """Ask every host for its keys, all at once, through the gateways of ssh_config; no host's answer is lost."""
    with ThreadPoolExecutor(min(AT_ONCE, len(addresses) or 1), thread_name_prefix="scan") as pool:
        return list(pool.map(lambda pair: _scanned(pair[0], pair[1], config), addresses))


def write(shown: Iterable[Shown]) -> list[str]:
    """Append the new keys to the known_hosts files and give those that were written. Raises OSError."""
    lines: dict[str, list[str]] = {}
    for one in shown:
        for key in one.new:
            lines.setdefault(one.file, []).append(f"{one.name} {key.text}\n")
    for file, added in lines.items():
        path = Path(file).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else b""
        with path.open("ab") as out:
            out.write(b"\n" if before and not before.endswith(b"\n") else b"")
            out.write("".join(added).encode("ascii"))
    return list(lines)


def judged(keys: Sequence[paramiko.PKey], name: str, known_hosts: KnownHosts) -> tuple[ShownKey, ...]:
    """Hold shown keys against known ones.

    A host that is known and shows none of its known keys has changed, also where it shows a type that nobody has seen:
    whoever is in between would show just that.
    """
    known = known_hosts.of(name)
    same = [key for key in keys if known.get(key.get_name()) == key.get_base64()]

    def state(key: paramiko.PKey) -> State:
        if known_hosts.is_revoked(key):
            return "REVOKED"
        if key in same:
            return "known"
        return "CHANGED" if key.get_name() in known or (known and not same) else "new"

    return tuple(
        ShownKey(key.get_name(), key.fingerprint, f"{key.get_name()} {key.get_base64()}", state(key)) for key in keys
    )


class _Taken(paramiko.SSHException):
    """The key came, and that was all that was wanted: raised before anybody logs in."""

    def __init__(self, name: str, key: paramiko.PKey) -> None:
        super().__init__("taken")
        self.name, self.key = name, key


class _Take(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client
        raise _Taken(hostname, key)


@dataclass
class _Asking:
    """The keys of one host, one connection each: SSH shows one at a time (RFC 4253, 7.1)."""

    address: Address
    config: Config | None
    name: str = ""
    keys: list[paramiko.PKey] = field(default_factory=list)

    def ask(self) -> bool:
        """Take one more key; false where the host has no other. Raises LinkLost."""
        seen = [kind for key in self.keys for kind in (_RSA if key.get_name() == "ssh-rsa" else (key.get_name(),))]
        connection = ssh.prepared(self.address, self.config)
        target, *gateways = ssh.hops(connection)
        for hop in gateways:
            load_known_hosts(cast("paramiko.SSHClient", hop.client), self.address.known_hosts)
        cast("paramiko.SSHClient", target.client).set_missing_host_key_policy(_Take())
        target.connect_kwargs = cast("dict[str, Any]", target.connect_kwargs) | {"disabled_algorithms": {"keys": seen}}
        try:
            ssh.open_with_patience(connection, self.address, threading.Event())
        except LinkLost as lost:
            if isinstance(lost.__cause__, _Taken):
                self.name = lost.__cause__.name
                self.keys.append(lost.__cause__.key)
                return len(self.keys) < MOST_KEYS
            if self.keys and isinstance(lost.__cause__, IncompatiblePeer):
                return False
            raise
        raise AssertionError("nobody logs in here")


def _scanned(host: str, address: Address, config: Config | None) -> Shown:
    asking = _Asking(address, config)
    file = address.known_hosts[0]
    try:
        while asking.ask():
            pass
    except LinkLost as lost:
        return Shown(host, file, error=lost.why, next_step=lost.next_step)
    except ValueError as error:  # UnicodeError is one: a name that is none
        return Shown(host, file, error=f"cannot connect to {address.host}: {error}")
    known = KnownHosts(address.known_hosts)
    keys = judged(asking.keys, asking.name, known)
    return Shown(host, file, asking.name, keys, file_that_knows(asking.name, address.known_hosts))
