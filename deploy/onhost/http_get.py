"""One GET of a service on this very host, over TCP or a unix socket, bounded as a whole (RFC 9110). Judges nothing."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import threading
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple
from urllib.parse import urlsplit

ANSWER_CAP_BYTES = 64 * 1024


def get(
    settings: Mapping[str, Any], where: Optional[Tuple[str, int]], root: str, within_s: float
) -> Tuple[int, Dict[str, str], bytes, Optional[int]]:
    """Ask the socket of the settings, else the address ``where``: status, headers, body (its head), and who listens.

    Raises OSError for whatever is no whole answer in time, ValueError for settings that name nothing.
    """
    path: Optional[str] = settings.get("path")
    host: str = settings.get("host_header") or "localhost"
    if settings.get("socket"):
        name = settings["socket"]
        connection: http.client.HTTPConnection = _UnixConnection(
            name if name.startswith("/") else root + "/" + name, within_s
        )
    else:
        parts = urlsplit(str(settings["url"]))
        where = where or ("127.0.0.1", 80)
        if parts.scheme == "https":
            # The service on this very host, often under another name: identity is proven otherwise (live.py).
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(*where, timeout=within_s, context=context)
        else:
            connection = http.client.HTTPConnection(*where, timeout=within_s)
        host = settings.get("host_header") or parts.netloc.rpartition("@")[2]
        path = path or (parts.path or "/") + ("?" + parts.query if parts.query else "")
    try:
        connection.connect()
        peer = connection.peer() if isinstance(connection, _UnixConnection) else None
        with _hanging_up(connection.sock, within_s):
            headers = {"Host": host, "User-Agent": "sealed-deploy", "Connection": "close"}
            connection.request("GET", path or "/", headers=headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read(ANSWER_CAP_BYTES), peer
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


@contextlib.contextmanager
def _hanging_up(sock: socket.socket, within_s: float) -> Iterator[None]:
    """Bound a whole answer: a socket's own timeout starts again with every byte of one that drips. Raises OSError."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(within_s, hang_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            raise TimeoutError("no whole answer within %g s" % within_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, within_s: float) -> None:
        super().__init__("localhost", timeout=within_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def peer(self) -> int:
        """The pid that listens there; a socket that systemd holds says 1, which testifies to nothing."""
        data: bytes = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", data)[0]
        return pid
