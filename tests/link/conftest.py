"""A real sshd for the user that runs the tests, and a wire that can go dead."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.link.ssh import Address
from tests.hosts.openssh import ADDRESS, SSHD, free_port, keygen


@dataclass
class Wire:
    """A TCP relay; ``cut`` makes it a black hole: it takes nothing any more, gives nothing, and hangs up on nobody."""

    to_port: int
    port: int = 0
    dead: threading.Event = field(default_factory=threading.Event)
    _sockets: list[socket.socket] = field(default_factory=list[socket.socket])

    def __post_init__(self) -> None:
        self._listener = socket.create_server((ADDRESS, 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that it fills before SSH's own window
        self.port = self._listener.getsockname()[1]
        self._sockets.append(self._listener)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Go dead."""
        self.dead.set()

    def close(self) -> None:
        """Let both ends go."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((ADDRESS, self.to_port))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.05)
        with contextlib.suppress(OSError):
            while not self.dead.is_set():
                with contextlib.suppress(TimeoutError):
                    data = source.recv(65536)
                    sink.sendall(data)
                    if not data:
                        break
            else:
                return
            sink.shutdown(socket.SHUT_WR)


@dataclass
class Server:
    """Where a real sshd listens, and how to log in."""

    folder: Path
    port: int

    def address(self, port: int, **other: Any) -> Address:
        """The server behind a port, its host key known."""
        known = self.folder / f"known-{port}"
        known.write_text(f"[{ADDRESS}]:{port} {(self.folder / 'hostkey.pub').read_text()}")
        return Address(ADDRESS, port, identity=str(self.folder / "id"), known_hosts=(str(known),), **other)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real sshd on loopback that lets in whoever runs the tests."""
    if not Path(SSHD).exists():
        pytest.skip(f"{SSHD} is not here: install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    keygen(folder / "hostkey")
    for kind in ("ecdsa", "rsa"):
        keygen(folder / f"hostkey_{kind}", kind)
    keygen(folder / "id")
    made = Server(folder, free_port())
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    lines = [
        f"ListenAddress {ADDRESS}:{made.port}", f"HostKey {folder / 'hostkey'}",
        f"HostKey {folder / 'hostkey_ecdsa'}", f"HostKey {folder / 'hostkey_rsa'}",
        f"AuthorizedKeysFile {folder / 'id'}.pub", "StrictModes no", "UsePAM no", "PidFile none", "UseDNS no",
        "PermitRootLogin prohibit-password",
    ]  # fmt: skip
    (folder / "config").write_text("\n".join(lines) + "\n")
    child = subprocess.Popen([SSHD, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")])
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, made.port)):
                break
            assert child.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield made
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A wire to it."""
    made = Wire(server.port)
    yield made
    made.close()
