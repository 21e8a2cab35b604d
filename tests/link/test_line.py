"""The line against a scripted far end: noise, refusals, silence, broken frames; each a named loss, never a hang."""

from __future__ import annotations

import os
import queue
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from deploy.link import line as lines
from deploy.link.line import Line
from deploy.link.pipe import LinkLost
from deploy.wire import framing

PROGRAM = b"program" * 1000
Far = Callable[["FarEnd"], None]


class FarEnd:
    """A pipe whose other end is a function of the test, run in a thread."""

    def __init__(self, script: Far, status: int | None = 0, stderr: str = "") -> None:
        self._status, self._stderr = status, stderr
        self._to_us: queue.Queue[bytes] = queue.Queue()
        self._heard, self._news = b"", threading.Condition()
        self.closed = False
        self.stuck = False
        threading.Thread(target=self._run, args=(script,), daemon=True).start()

    def _run(self, script: Far) -> None:
        try:
            script(self)
        finally:
            self._to_us.put(b"")

    def say(self, data: bytes) -> None:
        """Write to the control side."""
        self._to_us.put(data)

    def hear(self, size: int) -> bytes:
        """Read exactly so much from the control side."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._heard) >= size, timeout=10)
            data, self._heard = self._heard[:size], self._heard[size:]
        return data

    def hear_line(self) -> bytes:
        """Read one line."""
        data = b""
        while not data.endswith(b"\n"):
            data += self.hear(1)
        return data

    def greet(self, word: bytes = b"have", before: bytes = b"") -> bytes:
        """Answer the greeting as the loader does."""
        hello = self.hear_line()
        self.say(before + hello.rstrip() + b" " + word + b"\n")
        return hello

    def request(self) -> dict[str, Any]:
        """Read the next JSON frame."""
        while True:
            head = self.hear(5)
            payload = self.hear(int.from_bytes(head[1:], "big"))
            if head[:1] != framing.BEAT:
                return framing.Frame(head[:1], payload).json()

    def answer(self, **fields: Any) -> None:
        """Answer it."""
        self.say(framing.pack_json({"t": "answer", "ok": True, **fields}))

    # What Line asks of a pipe:

    def open(self) -> None:
        pass

    def send(self, data: memoryview) -> int:
        if self.closed:
            raise OSError("broken pipe")
        if self.stuck:
            time.sleep(0.05)
            return 0
        with self._news:
            self._heard += bytes(data)
            self._news.notify_all()
        return len(data)

    def receive(self, size: int) -> bytes:
        return self._to_us.get()

    def ending(self) -> tuple[int | None, str]:
        return self._status, self._stderr

    def close(self) -> None:
        self.closed = True


def wait(far: FarEnd) -> None:
    """Say nothing for as long as a test takes."""
    time.sleep(30)


def ask(line: Line, events: list[Any] | None = None) -> dict[str, Any]:
    """Ask something."""
    return line.ask("status", (events if events is not None else []).append, detail="x")


def lost(script: Far, *, status: int | None = 0, stderr: str = "", silence_s: float = 5, greeting_s: float = 5) -> str:
    """Greet, ask, and give the words of the loss."""
    line = Line(FarEnd(script, status, stderr), silence_s=silence_s, greeting_s=greeting_s)
    with pytest.raises(LinkLost) as caught:
        line.greet(PROGRAM)
        ask(line)
    return caught.value.why


@pytest.mark.parametrize(
    "noise",
    [b"", b"Welcome to web-1\r\n", b"sealed-deploy/1 0000 have\n", b"\0\xff" * 5000, framing.pack(framing.BLOB, b"x")],
)
@pytest.mark.parametrize("whole", [True, False])
def test_whatever_comes_before_the_nonce_is_skipped(noise: bytes, whole: bool) -> None:
    """A banner, a noisy .bashrc, another run's greeting; also when it comes byte by byte."""

    def far(end: FarEnd) -> None:
        hello = end.hear_line()
        data = noise + hello.rstrip() + b" have\n"
        for piece in [data] if whole else [data[at : at + 1] for at in range(max(0, len(data) - 99), len(data))]:
            end.say(piece)
        assert end.request() == {"t": "request", "op": "status", "detail": "x"}
        end.answer(value=1)
        wait(end)

    line = Line(FarEnd(far), silence_s=5)
    line.greet(PROGRAM)
    assert ask(line)["value"] == 1


def test_the_program_is_sent_only_where_it_is_needed() -> None:
    """Its length, its bytes, and then frames."""
    got: list[bytes] = []

    def far(end: FarEnd) -> None:
        end.greet(b"need")
        got.append(end.hear(int(end.hear_line())))
        end.request()
        end.answer()
        wait(end)

    line = Line(FarEnd(far), silence_s=5)
    line.greet(PROGRAM)
    ask(line)
    assert got == [PROGRAM]
    assert line.counters.bytes_sent > len(PROGRAM)
    assert line.counters.round_trips == 2


def test_each_run_has_a_nonce_of_its_own() -> None:
    """So that no recorded or printed greeting can be taken for an answer."""
    hellos: list[bytes] = []
    for _ in range(2):
        line = Line(FarEnd(lambda end: (hellos.append(end.greet()), wait(end))[0]), silence_s=5)
        line.greet(PROGRAM)
    assert len(set(hellos)) == 2
    assert all(len(hello) == len(framing.MAGIC) + 33 for hello in hellos)


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [
        (127, "sh: 1: python9: not found\n", "python is not there (exit status 127): sh: 1: python9: not found"),
        (126, "", "python cannot be executed (exit status 126)"),
        (1, "This account is restricted.", "a forced command or a restricted shell? (exit status 1): This account"),
        (None, "", "a forced command or a restricted shell? (exit status None)"),
    ],
)
def test_a_host_that_never_answers_the_greeting_is_named_for_what_it_is(
    status: int | None, stderr: str, words: str
) -> None:
    """By exit status, with what it said on stderr."""
    assert words in lost(lambda end: end.say(b"some banner\n"), status=status, stderr=stderr)


def test_no_answer_to_the_greeting_in_time() -> None:
    """Something holds the line open and says nothing of ours."""
    began = time.monotonic()
    assert "no answer to the greeting within 0.3 s" in lost(wait, greeting_s=0.3)
    assert time.monotonic() - began < 3


def test_noise_without_end_is_cut() -> None:
    """A program that prints for ever is not read for ever."""

    def far(end: FarEnd) -> None:
        for _ in range(5):
            end.say(b"y\n" * (lines.NOISE_CAP_BYTES // 8))
        wait(end)

    assert f"wrote {lines.NOISE_CAP_BYTES} bytes before" in lost(far)


def test_events_without_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless data: a host that tells events for ever instead of answering fills neither memory nor log."""
    monkeypatch.setattr(lines, "ANSWER_CAP_BYTES", 1 << 20)
    event = framing.pack(framing.JSON, b'{"t":"event","step":"' + b"x" * 10_000 + b'"}')

    def far(end: FarEnd) -> None:
        end.greet()
        for _ in range(2):
            end.request()
            for _ in range(80):
                end.say(event)
            end.answer()
        for _ in range(80):
            end.say(event)
        wait(end)

    line = Line(FarEnd(far), silence_s=5)
    line.greet(PROGRAM)
    for _ in range(2):  # what was answered does not count
        ask(line)
    with pytest.raises(LinkLost, match="wrote more than 1048576 bytes without an answer"):
        ask(line)


def test_silence_while_waiting_for_an_answer_is_a_loss() -> None:
    """Heartbeats stop: the machine froze, or a firewall forgot the connection."""

    def far(end: FarEnd) -> None:
        end.greet()
        wait(end)

    began = time.monotonic()
    assert lost(far, silence_s=0.5) == "nothing heard for 0.5 s"
    assert time.monotonic() - began < 20


def test_heartbeats_keep_a_slow_answer_alive() -> None:
    """Pip may run for minutes; events come through meanwhile, in order."""

    def far(end: FarEnd) -> None:
        end.greet()
        end.request()
        for number in range(25):
            end.say(framing.pack(framing.BEAT))
            end.say(framing.pack_json({"t": "event", "step": str(number)}))
            time.sleep(0.1)
        end.answer()
        wait(end)

    line, events = Line(FarEnd(far), silence_s=2), list[Any]()
    line.greet(PROGRAM)
    ask(line, events)
    assert [event["step"] for event in events] == [str(number) for number in range(25)]


@pytest.mark.parametrize(
    "said",
    [b"Killed\n", b"J\0\0\0\x02[]", b"J\0\0\0\x03{x}", b"Z\0\0\0\x03abc", b"J\xff\xff\xff\xff", b"J\0\0\0\x01\xff"],
)
def test_anything_but_frames_is_a_loss_not_a_crash(said: bytes) -> None:
    """A child of the host program that wrote into the channel, or a host that lies."""

    def far(end: FarEnd) -> None:
        end.greet()
        end.request()
        end.say(said)
        wait(end)

    assert lost(far)


def test_the_end_of_the_host_program_says_how_it_ended() -> None:
    """With the end of its stderr: a traceback's last line is there."""

    def far(end: FarEnd) -> None:
        end.greet()
        end.request()

    why = lost(far, status=1, stderr="Traceback...\n" + "x" * 1000 + "\nMemoryError\n")
    assert why.startswith("the host program ended (exit status 1): ")
    assert why.endswith("MemoryError")


def test_a_link_on_which_nothing_moves_is_dead() -> None:
    """The far side takes no more bytes and is silent: the upload does not wait for ever."""

    def far(end: FarEnd) -> None:
        end.greet()
        end.stuck = True
        wait(end)

    line = Line(FarEnd(far), silence_s=0.5)
    line.greet(PROGRAM)
    time.sleep(0.1)
    with pytest.raises(LinkLost, match=r"nothing .* for 0.5 s"):
        line.blobs([("0" * 64, lambda: b"x" * 1000)], lambda size: None)
    assert line.is_lost


def test_blobs_travel_in_pieces_and_compressed_where_that_pays() -> None:
    """Text shrinks; archives go as they are; each is announced, then framed."""
    archive, text = b"\x1f\x8b" + bytes(range(256)) * 4000, b"import this\n" * 1000
    got: list[dict[str, Any]] = []
    data: list[bytes] = []

    def far(end: FarEnd) -> None:
        end.greet()
        while True:
            head = end.request()
            if head["t"] == "blobs-end":
                break
            got.append(head)
            body = b""
            while len(body) < head["size"]:
                frame = end.hear(5)
                assert frame[:1] == framing.BLOB
                piece = end.hear(int.from_bytes(frame[1:], "big"))
                assert 0 < len(piece) <= framing.PIECE
                body += piece
            data.append(body)
        end.answer()
        wait(end)

    line, sent = Line(FarEnd(far), silence_s=5), list[int]()
    line.greet(PROGRAM)
    line.blobs([("a" * 64, lambda: archive), ("b" * 64, lambda: text)], sent.append)
    assert sent == [len(archive), len(text)]
    assert data[0] == archive
    assert "zlib" not in got[0]
    assert (got[1]["zlib"], got[1]["length"]) == (True, len(text))
    assert got[1]["size"] < len(text) / 10


def test_after_closing_nothing_is_sent_or_waited_for() -> None:
    """The host settles by itself; this side is done with it."""
    ends: list[FarEnd] = []

    def far(end: FarEnd) -> None:
        ends.append(end)
        end.greet()
        wait(end)

    line = Line(FarEnd(far), silence_s=5)
    line.greet(PROGRAM)
    line.close()
    assert ends[0].closed
    with pytest.raises(LinkLost, match="closed"):
        ask(line)


def test_what_is_compressed_for_one_host_is_there_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet does not pay for it host by host; what does not get smaller travels as it is."""
    packing = lines.Packing()
    text, noise = b"text " * 1000, os.urandom(5000)
    body, smaller = packing.body("a" * 64, text)
    assert smaller
    assert zlib.decompress(body) == text
    monkeypatch.setattr(lines.zlib, "compress", None)
    assert packing.body("a" * 64, text) == (body, True)
    assert packing.body("b" * 64, b"PK\x03\x04" + noise) == (b"PK\x03\x04" + noise, False)
