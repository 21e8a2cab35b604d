"""A server that counts whoever connects, and an environment that sends pip there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator

import pytest


class Trap:
    """Listens on loopback, IPv4 and IPv6, TCP and UDP, and counts whoever comes."""

    def __init__(self) -> None:
        self.caught: list[str] = []
        self._sockets: list[socket.socket] = []
        self.port = 0
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                one = socket.socket(family, kind)
                one.bind((address, self.port))
                self.port = one.getsockname()[1]
                if kind == socket.SOCK_STREAM:
                    one.listen(16)
                self._sockets.append(one)
        self._threads = [threading.Thread(target=self._wait, args=(one,)) for one in self._sockets]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _wait(self, one: socket.socket) -> None:
        one.settimeout(0.2)
        while one.fileno() >= 0:
            try:
                if one.type == socket.SOCK_STREAM:
                    connection, who = one.accept()
                    connection.close()
                else:
                    _, who = one.recvfrom(1024)
            except TimeoutError:
                continue
            except OSError:
                return
            self.caught.append(f"{one.family.name} {one.type.name} {who}")

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def trap() -> Generator[Trap]:
    """A trap that has proven that it catches: one connection each way, then counted from zero."""
    made = Trap()
    try:
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, made.port), timeout=5).close()
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.sendto(b"x", (address, made.port))
        for _ in range(100):
            if len(made.caught) == 4:
                break
            threading.Event().wait(0.05)
        assert len(made.caught) == 4, made.caught
        made.caught.clear()
        yield made
    finally:
        made.close()


def hostile(trap: Trap) -> dict[str, str]:
    """Environment that would send pip, and what it starts, to the trap."""
    return {
        "PIP_INDEX_URL": f"{trap.url}/simple",
        "PIP_EXTRA_INDEX_URL": f"{trap.url}/extra",
        "PIP_FIND_LINKS": f"{trap.url}/links",
        "PIP_NO_INDEX": "0",
        "PIP_TRUSTED_HOST": "127.0.0.1",
        "PIP_PROXY": trap.url,
        "http_proxy": trap.url,
        "https_proxy": trap.url,
        "all_proxy": trap.url,
        "UV_INDEX_URL": f"{trap.url}/simple",
    }
