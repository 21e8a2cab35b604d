"""A directory of this machine as a host: the same program, the same conversation, over a child's pipes."""

from __future__ import annotations

import subprocess
import threading

STDERR_CAP_BYTES = 64 * 1024


class LocalPipe:
    """The exec line run by this machine's own shell, in a session of its own."""

    def __init__(self, line: str) -> None:
        self._child = subprocess.Popen(
            ["/bin/sh", "-c", line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._stderr = b""
        self._errors = threading.Thread(target=self._drain, daemon=True)
        self._errors.start()

    def open(self) -> None:
        """It runs since it was made."""

    def send(self, data: memoryview) -> int:
        assert self._child.stdin
        try:
            return self._child.stdin.write(data) or 0
        except ValueError as error:  # closed meanwhile, by ``close`` in another thread
            raise OSError(str(error)) from error

    def receive(self, size: int) -> bytes:
        assert self._child.stdout
        try:
            return self._child.stdout.read(size) or b""
        except ValueError as error:
            raise OSError(str(error)) from error

    def ending(self) -> tuple[int | None, str]:
        try:
            status = self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            status = None
        self._errors.join(timeout=1)
        return status, self._stderr.decode("utf-8", "replace")

    def close(self) -> None:
        for stream in (self._child.stdin, self._child.stdout):
            if stream:
                stream.close()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return  # it settles by itself and ends
        self._errors.join(timeout=1)
        if self._child.stderr:
            self._child.stderr.close()

    def _drain(self) -> None:
        assert self._child.stderr
        while True:
            data = self._child.stderr.read(4096)
            if not data:
                return
            self._stderr = (self._stderr + data)[:STDERR_CAP_BYTES]
