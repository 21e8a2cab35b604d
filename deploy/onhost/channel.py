"""The line to the control side: frames in, frames out, heartbeats both ways, and whether anyone is still there.

Descriptors 0 and 1 are moved away first, so that no child can read from or write into the channel. A reader thread
keeps the time of the last byte; ``is_alive`` is what long work asks between its steps.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any, Dict, Iterator, Optional

from deploy.wire import framing

BEAT_EVERY_S = 5.0
SILENCE_S = 20.0
"""Either side declares the line dead after this long without a byte."""


class LineLost(Exception):
    """The control side is gone: end of file, a broken pipe, broken framing, or silence."""


class Channel:
    """Frames over two descriptors. One thread reads, one beats; the caller's thread sends and takes."""

    def __init__(self, read_fd: int, write_fd: int, *, silence_s: float = SILENCE_S) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._silence_s = silence_s
        self._frames: queue.Queue[Optional[framing.Frame]] = queue.Queue()
        self._heard_at = time.monotonic()
        self._lost: Optional[str] = None
        self._send_lock = threading.Lock()
        self._room = threading.Semaphore(64)

    def start(self) -> None:
        """Begin to read and to beat."""
        threading.Thread(target=self._read, name="channel-reader", daemon=True).start()
        threading.Thread(target=self._beat, name="channel-beat", daemon=True).start()

    def is_alive(self) -> bool:
        """Whether the control side was heard within the last ``silence_s`` seconds."""
        return self._lost is None and time.monotonic() - self._heard_at < self._silence_s

    def check(self) -> None:
        """Raise LineLost where the line is dead."""
        if not self.is_alive():
            raise LineLost(self._lost or "nothing heard for %d s" % self._silence_s)

    def send(self, value: Dict[str, Any]) -> None:
        """Send one JSON object. Raises LineLost."""
        self._write(framing.pack_json(value))

    def take(self) -> framing.Frame:
        """Wait for the next frame that is not a heartbeat. Raises LineLost."""
        while True:
            if self._lost is not None:
                raise LineLost(self._lost)
            try:
                frame = self._frames.get(timeout=0.25)
            except queue.Empty:
                self.check()  # only now: after a stalled disk, what was heard meanwhile waits in the queue
                continue
            if frame is None:
                raise LineLost(self._lost or "end of input")
            if frame.kind == framing.BLOB:
                self._room.release()
            return frame

    def blob(self, size: int) -> Iterator[bytes]:
        """Yield the pieces of the announced blob of ``size`` bytes. Raises LineLost, BadFrame."""
        while size > 0:
            frame = self.take()
            if frame.kind != framing.BLOB or len(frame.payload) > size or not frame.payload:
                raise framing.BadFrame("expected %d more bytes of a blob" % size)
            size -= len(frame.payload)
            yield frame.payload

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            with self._send_lock:
                while view:
                    view = view[os.write(self._write_fd, view) :]
        except OSError as error:
            self._lose("cannot write: %s" % error)
            raise LineLost(str(error)) from error

    def _read(self) -> None:
        decoder = framing.Decoder()
        try:
            while True:
                data = os.read(self._read_fd, framing.PIECE)
                if not data:
                    return self._lose("end of input")
                self._heard_at = time.monotonic()
                for frame in decoder.feed(data):
                    if frame.kind == framing.BEAT:
                        continue
                    if frame.kind == framing.BLOB:
                        self._wait_for_room()
                    self._frames.put(frame)
        except (OSError, framing.BadFrame) as error:
            self._lose(str(error))

    def _wait_for_room(self) -> None:
        """Let a slow disk slow the sender instead of filling memory; that nothing is read meanwhile is our doing."""
        while not self._room.acquire(timeout=min(1.0, self._silence_s / 4)):
            self._heard_at = time.monotonic()

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._frames.put(None)

    def _beat(self) -> None:
        while self._lost is None:
            time.sleep(BEAT_EVERY_S)
            try:
                self._write(framing.pack(framing.BEAT))
            except LineLost:
                return


def from_standard_descriptors() -> Channel:
    """Take descriptors 0 and 1 for the channel alone and leave /dev/null in their place."""
    read_fd, write_fd = os.dup(0), os.dup(1)  # dup gives close-on-exec descriptors (PEP 446)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return Channel(read_fd, write_fd)
