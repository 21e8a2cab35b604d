"""Speak with the host program: greeting, one question at a time, heartbeats both ways, blobs in pieces."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from deploy.link.pipe import LinkLost, Pipe
from deploy.wire import framing

BEAT_EVERY_S = 5.0
NOISE_CAP_BYTES = 1 << 20
"""A banner or a noisy .bashrc may write this much before the host program answers."""
ANSWER_CAP_BYTES = 128 << 20
"""A host may say this much, events and all, before it answers: twice the largest frame. Ours need a few MB."""
COMPRESSES = 0.9
"""A blob travels compressed when that makes it at least a tenth smaller."""

PACKED_BYTES = 64 << 20
"""Compressed blobs kept for the other hosts of a run: 10,000 files of 56 MB cost 0.8 s of CPU each time."""

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass
class Counters:
    """What one run cost on one host: the numbers that benchmarks/ reports."""

    connections: int = 0
    execs: int = 0
    round_trips: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def __add__(self, other: Counters) -> Counters:
        mine, theirs = astuple(self), astuple(other)
        return Counters(*(a + b for a, b in zip(mine, theirs, strict=True)))


class Packing:
    """Makes the bodies of blobs: compressed where that is worth it, once for all hosts of a run."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._room = PACKED_BYTES

    def body(self, digest: str, data: bytes) -> tuple[bytes, bool]:
        """What travels for a blob, and whether it is compressed. Safe to call from several threads."""
        if not _worth(data):
            return data, False
        packed = self._kept.get(digest)
        if packed is None:
            packed = zlib.compress(data, 6)
            if len(packed) <= self._room:
                self._room -= len(packed)
                self._kept[digest] = packed
        return (packed, True) if len(packed) < len(data) * COMPRESSES else (data, False)


class Line:
    """The conversation with one host. Not for several threads at once, except ``is_lost``."""

    def __init__(self, pipe: Pipe, *, silence_s: float, greeting_s: float = 30.0) -> None:
        self._pipe = pipe
        self._silence_s = silence_s
        self._greeting_s = greeting_s
        self._frames: queue.Queue[framing.Frame | None] = queue.Queue()
        self._heard_at = time.monotonic()
        self._unanswered_bytes = 0
        self._lost: str | None = None
        self._next_step = ""
        self._sending = threading.Lock()
        self.counters = Counters(connections=1, execs=1)

    @property
    def is_lost(self) -> bool:
        """Whether the host was not heard for too long, or its end was seen."""
        return self._lost is not None or time.monotonic() - self._heard_at > self._silence_s

    def greet(self, program: bytes) -> None:
        """Exchange the nonce, send the host program where it is absent. Raises LinkLost with what stands in the way."""
        self._pipe.open()
        nonce = secrets.token_hex(16)
        threading.Thread(target=self._read, args=(nonce,), name="line-reader", daemon=True).start()
        self._send(framing.greeting(nonce))
        first = self._take(self._greeting_s)
        self.counters.round_trips += 1
        if first.payload == b"need":
            self._send(b"%d\n" % len(program))
            self._pieces(program)
        self._heard_at = time.monotonic()  # the host could not beat before it had its program
        threading.Thread(target=self._beat, name="line-beat", daemon=True).start()
        threading.Thread(target=self._watch, name="line-watch", daemon=True).start()

    def ask(self, op: str, on_event: OnEvent, /, **fields: Any) -> dict[str, Any]:
        """Ask one question and wait for its answer, giving the events in between. Raises LinkLost."""
        self._send(framing.pack_json({"t": "request", "op": op, **fields}))
        return self._answer(on_event)

    def blobs(
        self,
        contents: list[tuple[str, Callable[[], bytes]]],
        on_sent: Callable[[int], None],
        packing: Packing | None = None,
    ) -> dict[str, Any]:
        """Send blobs one after the other, as one stream, and wait until the host has them. Raises LinkLost."""
        packing = packing or Packing()
        for digest, read in contents:
            data = read()
            body, smaller = packing.body(digest, data)
            head: dict[str, Any] = {"t": "blob", "sha256": digest, "size": len(body)}
            if smaller:
                head.update(zlib=True, length=len(data))
            self._send(framing.pack_json(head))
            for at in range(0, len(body), framing.PIECE):
                self._send(framing.pack(framing.BLOB, body[at : at + framing.PIECE]))
            on_sent(len(data))
        self._send(framing.pack_json({"t": "blobs-end"}))
        return self._answer(_ignored)

    def close(self) -> None:
        """End the conversation; the host settles what is open and frees its lock."""
        self._lost = self._lost or "closed"
        self._pipe.close()

    def _answer(self, on_event: OnEvent) -> dict[str, Any]:
        self.counters.round_trips += 1
        while True:
            try:
                value = self._take(None).json()
            except framing.BadFrame as error:
                raise self._gone(str(error)) from error
            if value.get("t") == "answer":
                self._unanswered_bytes = 0
                return value
            on_event(value)

    def _take(self, within_s: float | None) -> framing.Frame:
        deadline = None if within_s is None else time.monotonic() + within_s
        while True:
            try:
                frame = self._frames.get(timeout=0.25)
            except queue.Empty:
                if deadline is not None and time.monotonic() > deadline:
                    raise self._gone(f"no answer to the greeting within {within_s:g} s") from None
                if deadline is None and self.is_lost:
                    raise self._gone(f"nothing heard for {self._silence_s:g} s") from None
                continue
            if frame is None:
                raise self._gone(self._lost or "the line ended")
            return frame

    def _gone(self, why: str) -> LinkLost:
        self._lost = self._lost or why
        return LinkLost(self._lost, self._next_step)

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                view = memoryview(data)
                while view:
                    sent = self._pipe.send(view)
                    if not sent and self.is_lost:  # a slow link that still moves is not dead
                        raise TimeoutError(f"nothing moved for {self._silence_s:g} s")
                    view = view[sent:]
                self.counters.bytes_sent += len(data)
        except (OSError, EOFError) as error:
            # The reader knows better why (exit status, stderr): give it a moment to say so.
            time.sleep(0.2)
            raise self._gone(f"cannot send: {error or type(error).__name__}") from error

    def _pieces(self, data: bytes) -> None:
        for at in range(0, len(data), framing.PIECE):
            self._send(data[at : at + framing.PIECE])

    def _read(self, nonce: str) -> None:
        decoder = framing.Decoder()
        try:
            rest = self._skip_noise(nonce)
            if rest is None:
                return self._lose(self._why_not_started())
            while True:
                for frame in decoder.feed(rest):
                    if frame.kind != framing.BEAT:
                        self._frames.put(frame)
                rest = self._receive()
                if not rest:
                    return self._lose(self._why_ended())
        except (OSError, EOFError, LinkLost, framing.BadFrame) as error:
            self._lose(str(error) or type(error).__name__)

    def _receive(self) -> bytes:
        data = self._pipe.receive(framing.PIECE)
        self.counters.bytes_received += len(data)
        self._heard_at = time.monotonic()
        self._unanswered_bytes += len(data)
        if self._unanswered_bytes > ANSWER_CAP_BYTES:
            raise LinkLost(f"the host wrote more than {ANSWER_CAP_BYTES} bytes without an answer")
        return data

    def _skip_noise(self, nonce: str) -> bytes | None:
        seen = b""
        answers = {word: framing.answer(nonce, word) for word in ("have", "need")}
        while len(seen) < NOISE_CAP_BYTES:
            data = self._receive()
            if not data:
                return None
            seen += data
            for word, mark in answers.items():
                if mark in seen:
                    self._frames.put(framing.Frame(framing.JSON, word.encode("ascii")))
                    return seen.partition(mark)[2]
        raise LinkLost(f"the host wrote {NOISE_CAP_BYTES} bytes before the host program answered")

    def _why_not_started(self) -> str:
        status, stderr = self._pipe.ending()
        said = f": {stderr.strip()[:300]}" if stderr.strip() else ""
        if status in (126, 127):
            self._next_step = "install that Python on the host, or name one it has: `python:` of the host or the stage"
            what = "is not there" if status == 127 else "cannot be executed"
            return f"python {what} (exit status {status}){said}"
        return f"the host program did not start: a forced command or a restricted shell? (exit status {status}){said}"

    def _why_ended(self) -> str:
        status, stderr = self._pipe.ending()
        said = f": {stderr.strip()[-500:]}" if stderr.strip() else ""
        return f"the host program ended (exit status {status}){said}"

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._frames.put(None)

    def _watch(self) -> None:
        """Close the pipe of a line that is lost: a send may be blocked in it, and would be for ever."""
        while not self.is_lost:
            time.sleep(0.25)
        self._lose(f"nothing heard for {self._silence_s:g} s")
        self._pipe.close()

    def _beat(self) -> None:
        while self._lost is None:
            time.sleep(BEAT_EVERY_S)
            with contextlib.suppress(LinkLost):
                self._send(framing.pack(framing.BEAT))


def _ignored(event: Mapping[str, Any]) -> None:
    del event  # a host tells nothing while it receives


def _worth(data: bytes) -> bool:
    """Compressing archives costs CPU and saves nothing: look at the head first."""
    return len(data) > framing.COMPRESS_FROM and not data.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ"))
