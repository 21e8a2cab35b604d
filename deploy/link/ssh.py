# pyright: basic, reportAttributeAccessIssue=false
# Fabric and Paramiko ship no types; this file is the one edge where that is met.
"""SSH through Fabric: known hosts enforced on every hop, deadlines everywhere, one connection and one exec.

Keys are loaded and enforced by ``known_hosts``, before anything is sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shlex
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import paramiko
from fabric import Config, Connection
from paramiko.ssh_exception import (
    AuthenticationException,
    BadHostKeyException,
    NoValidConnectionsError,
    SSHException,
)

from deploy.link.known_hosts import RefusedKey, file_that_knows, load_known_hosts
from deploy.link.pipe import LinkLost

SSH_PORT = 22
STDERR_CAP_BYTES = 64 * 1024
TRIES = 4
"""sshd's MaxStartups (10:30:100) drops connections at random under a wide fan-out: three jittered retries lose none."""
_DROPPED = (
    "protocol banner",
    "Negotiation failed",
    "No existing session",
    "Connection lost",
    "Server connection dropped",
)
"""What Paramiko says of a connection that ended in the middle of setting it up."""
AT_ONCE = 20
logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its tracebacks are told as one line, by us
_room = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class Address:
    """Where one host is. None: ssh_config and Fabric decide."""

    host: str
    port: int | None = None
    user: str | None = None
    identity: str | None = None
    known_hosts: tuple[str, ...] = ("~/.ssh/known_hosts",)
    connect_s: float = 10.0
    auth_s: float = 20.0
    silence_s: float = 20.0


class SshPipe:
    """One exec channel of one connection, without a pty."""

    def __init__(self, address: Address, line: str, config: Config | None = None) -> None:
        self._address, self._line, self._config = address, line, config
        self._connection: Connection | None = None
        self._channel: paramiko.Channel | None = None
        self._closed = threading.Event()
        self._stderr = b""

    @property
    def connection(self) -> Connection:
        assert self._connection, "not opened"
        return self._connection

    @property
    def channel(self) -> paramiko.Channel:
        assert self._channel, "not opened"
        return self._channel

    def open(self) -> None:
        """Connect and start the exec line. Raises LinkLost with what to do next; the host was not changed."""
        address = self._address
        if self._channel:
            return
        if address.identity and not os.access(Path(address.identity).expanduser(), os.R_OK):
            step = f"look at `identity` of this host in fabric.yaml: ls -l {shlex.quote(address.identity)}"
            raise LinkLost(f"the key {address.identity} cannot be read", step, reached=False)
        try:
            connection = self._connection = prepared(address, self._config)
            for hop in hops(connection):
                load_known_hosts(cast("paramiko.SSHClient", hop.client), address.known_hosts)
            open_with_patience(connection, address, self._closed)
        except ValueError as error:  # UnicodeError is one: a name that is none, a key file that is no text
            step = "look at `address`, `port` and `identity` of this host in fabric.yaml, and at ~/.ssh/config"
            raise LinkLost(f"cannot connect to {address.host}: {error}", step, reached=False) from error
        transport = connection.transport
        if transport is None:  # pragma: no cover - open() either sets it or raises
            raise LinkLost("the connection has no transport", reached=False)
        if self._closed.is_set():
            self.close()
            raise LinkLost("closed", reached=False)
        for hop in hops(connection):
            _tune(hop, address.silence_s)
        # Paramiko waits for the answer to an exec without a deadline: for ever where sshd is stopped.
        late = threading.Timer(address.connect_s, self.close)
        late.start()
        try:
            channel = transport.open_session(timeout=address.connect_s)
            channel.exec_command(self._line)
        except (SSHException, OSError, EOFError) as error:
            why = f"no answer in {address.connect_s:g} s" if not late.is_alive() else _text(error)
            self.close()
            raise LinkLost(f"the host did not start a command: {why}", _by_hand(address, connection)) from error
        finally:
            late.cancel()
        channel.settimeout(1.0)
        self._channel = channel

    def send(self, data: memoryview) -> int:
        try:
            return self.channel.send(data)  # type: ignore[arg-type]
        except TimeoutError:
            return 0

    def receive(self, size: int) -> bytes:
        while True:
            self._drain_stderr()
            try:
                return self.channel.recv(size)
            except TimeoutError:
                if self.channel.closed:
                    return b""

    def ending(self) -> tuple[int | None, str]:
        deadline = time.monotonic() + 2
        while not self.channel.exit_status_ready() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._drain_stderr()
        status = self.channel.recv_exit_status() if self.channel.exit_status_ready() else None
        return (None if status == -1 else status), self._stderr.decode("utf-8", "replace")

    def _drain_stderr(self) -> None:
        """Keep its head and throw the rest away: what is not taken would use up the window that stdout shares."""
        while self.channel.recv_stderr_ready():
            self._stderr = (self._stderr + self.channel.recv_stderr(65536))[:STDERR_CAP_BYTES]

    def close(self) -> None:
        """Close the sockets first, the nearest one before what runs through it.

        Paramiko writes to a socket that takes nothing for ever, holding the lock that its polite close waits for; only
        a closed packetizer ends that. The host sees the end of its input either way.
        """
        self._closed.set()
        for hop in reversed(list(hops(self._connection))):
            with contextlib.suppress(OSError, SSHException, EOFError):
                if hop.transport:
                    hop.transport.packetizer.close()
            with contextlib.suppress(OSError, SSHException, EOFError):
                cast("paramiko.SSHClient", hop.client).close()


def connect(address: Address, line: str, config: Config | None = None) -> SshPipe:
    """Give an open pipe. Raises LinkLost."""
    pipe = SshPipe(address, line, config)
    pipe.open()
    return pipe


def prepared(address: Address, config: Config | None) -> Connection:
    """Make the connection to a host, not opened, with deadlines on it and on every gateway before it."""
    deadlines: dict[str, Any] = {
        "banner_timeout": address.auth_s,
        "auth_timeout": address.auth_s,
        "channel_timeout": address.connect_s,
    }
    identity: dict[str, Any] = {}
    if address.identity:
        identity = {"key_filename": address.identity, "look_for_keys": False, "allow_agent": False}
    connection = Connection(
        address.host, user=address.user, port=address.port, config=config, connect_kwargs=deadlines | identity
    )
    for hop in hops(connection):  # Fabric hands no deadline on to the gateways that it makes from ssh_config
        hop.connect_timeout = int(max(1, address.connect_s))
        hop.connect_kwargs = dict(cast("dict[str, Any]", hop.connect_kwargs)) | deadlines
    return connection


def _tune(hop: Connection, silence_s: float) -> None:
    sock = hop.transport.sock if hop.transport else None
    if isinstance(sock, socket.socket):  # else a channel of the hop before, or a proxy command
        # Paramiko never sets it: ten small exchanges cost 0.60 s without and 0.33 s with it, on a LAN.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # tcp(7), Linux: the kernel's own word on bytes nobody acknowledges
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence_s * 1000))


def hops(connection: Connection | None) -> Iterable[Connection]:
    """Give a connection and the gateways before it, the host itself first."""
    hop: Any = connection
    while isinstance(hop, Connection):
        yield hop
        hop = hop.gateway


def open_with_patience(connection: Connection, address: Address, closed: threading.Event) -> None:
    """Open a connection, again where sshd dropped it; ``closed`` ends the waiting. Raises LinkLost."""
    for attempt in range(1, TRIES + 1):
        began = time.monotonic()
        try:
            with _room:
                _open(connection)
            return
        except RefusedKey as error:
            raise _unknown_key(address, error) from error
        except BadHostKeyException as error:
            raise _changed_key(address, error, connection) from error
        except AuthenticationException as error:
            who = f"{connection.user}@{address.host}"
            raise LinkLost(f"{who} was not let in: {error}", _by_hand(address, connection), reached=False) from error
        except (SSHException, OSError, EOFError) as error:
            if closed.is_set():
                raise LinkLost("closed", reached=False) from error
            slow = time.monotonic() - began >= address.connect_s  # nobody dropped it: nobody is there
            if attempt == TRIES or slow or not _may_pass(error):
                raise LinkLost(
                    f"cannot connect to {address.host}: {_text(error)}",
                    f"{_by_hand(address, connection)}  # from this machine, to see why",
                    reached=False,
                ) from error
            if closed.wait(attempt * (0.2 + random.random())):  # noqa: S311 - jitter, not a secret
                raise LinkLost("closed", reached=False) from error


def _open(connection: Connection) -> None:
    """Open a connection, or leave nothing of it: Fabric's own close() does nothing where opening did not succeed.

    The half of it that lives on would hold one of the few places that sshd has for those who have not logged in.
    """
    try:
        connection.open()
    except BaseException:
        for hop in hops(connection):
            with contextlib.suppress(OSError, SSHException, EOFError):
                cast("paramiko.SSHClient", hop.client).close()
        raise


def _may_pass(error: Exception) -> bool:
    """A dropped greeting or reset may be MaxStartups at work; a refused port or an unreadable key will not change."""
    if isinstance(error, SSHException):
        return any(words in str(error) for words in _DROPPED)
    return isinstance(error, ConnectionResetError | EOFError | BrokenPipeError)


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, NoValidConnectionsError):  # its own text begins with "[Errno None]"
        return "; ".join(sorted({str(one) for one in error.errors.values()}))
    return str(error) or type(error).__name__


def _by_hand(address: Address, connection: Connection) -> str:
    """The ssh(1) command line that tries what failed here, with the same user, port, key and known hosts."""
    words = ["ssh"]
    words += ["-p", str(connection.port)] if connection.port != SSH_PORT else []
    words += ["-i", address.identity, "-o", "IdentitiesOnly=yes"] if address.identity else []
    files = [file for file in address.known_hosts if Path(file).exists()] or address.known_hosts[:1]
    words += ["-o", "UserKnownHostsFile=" + " ".join(f'"{file}"' if " " in file else file for file in files)]
    return shlex.join([*words, f"{connection.user}@{address.host}"])


def _unknown_key(address: Address, error: RefusedKey) -> LinkLost:
    where = address.known_hosts[0]
    port = f"-p {address.port} " if address.port not in (None, SSH_PORT) else ""
    return LinkLost(
        f"the host key of {error.hostname} is not known: {error.fingerprint}",
        f"compare that fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there), then: "
        f"ssh-keyscan {port}{address.host} >> {where}  # or, for all hosts: fab hosts.scan",
        reached=False,
    )


def _changed_key(address: Address, error: BadHostKeyException, connection: Connection) -> LinkLost:
    # Paramiko tells the host without the port that the line in the file has.
    hop = next((one for one in hops(connection) if one.host == error.hostname), connection)
    name = error.hostname if hop.port == SSH_PORT else f"[{error.hostname}]:{hop.port}"
    file = file_that_knows(name, address.known_hosts)
    return LinkLost(
        f"the host key of {name} has CHANGED: it shows {error.key.get_name()} {error.key.fingerprint}, "
        f"known is {error.expected_key.fingerprint}",
        f"somebody may be in between: find out why before anything else; only then: "
        f"{shlex.join(['ssh-keygen', '-R', name, '-f', file])}",
        reached=False,
    )
