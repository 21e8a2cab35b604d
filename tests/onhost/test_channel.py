"""The host's end of the line: frames, heartbeats, blobs, and knowing when nobody is there any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from deploy.onhost import channel as channels
from deploy.onhost.channel import Channel, LineLost
from deploy.wire import framing
from deploy.wire.framing import BadFrame


class Ends:
    """A channel over two pipes, and the control side's descriptors."""

    def __init__(self, silence_s: float = 5) -> None:
        self.read_fd, self.to_host = os.pipe()
        self.from_host, self.write_fd = os.pipe()
        self.channel = Channel(self.read_fd, self.write_fd, silence_s=silence_s)
        self.channel.start()

    def say(self, data: bytes) -> None:
        os.write(self.to_host, data)

    def close(self) -> None:
        """Hang up in both directions."""
        for name in ("to_host", "from_host"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A line that is up."""
    made = Ends()
    yield made
    made.close()


def test_frames_arrive_in_order_without_heartbeats(ends: Ends) -> None:
    """A heartbeat only says that somebody is there."""
    ends.say(framing.pack_json({"a": 1}) + framing.pack(framing.BEAT) + framing.pack_json({"a": 2}))
    assert [ends.channel.take().json()["a"] for _ in range(2)] == [1, 2]


def test_what_is_sent_arrives_as_frames(ends: Ends) -> None:
    """Small and large."""
    for value in ({"a": 1}, {"a": "x" * 20_000}):
        ends.channel.send(value)
        (frame,) = framing.Decoder().feed(os.read(ends.from_host, 65536))
        assert frame.json() == value


def test_a_blob_is_its_pieces(ends: Ends) -> None:
    """Exactly as many bytes as were announced."""
    ends.say(framing.pack(framing.BLOB, b"abc") + framing.pack(framing.BLOB, b"de"))
    assert b"".join(ends.channel.blob(5)) == b"abcde"
    assert list(ends.channel.blob(0)) == []


@pytest.mark.parametrize(
    "data", [framing.pack(framing.BLOB, b"abcdef"), framing.pack(framing.BLOB), framing.pack_json({"t": "request"})]
)
def test_a_blob_of_another_size_or_with_something_between_is_refused(ends: Ends, data: bytes) -> None:
    """More than announced, an empty piece, a request in the middle."""
    ends.say(data)
    with pytest.raises(BadFrame, match="bytes of a blob"):
        list(ends.channel.blob(5))


def test_hanging_up_is_noticed(ends: Ends) -> None:
    """End of input, then a broken pipe."""
    ends.close()
    with pytest.raises(LineLost, match="end of input"):
        ends.channel.take()
    assert not ends.channel.is_alive()
    with pytest.raises(LineLost):
        ends.channel.check()
    with pytest.raises(LineLost):
        ends.channel.send({"a": 1})


def test_what_came_before_the_end_is_still_given(ends: Ends) -> None:
    """Unless the end was seen first: then nothing that follows is trusted."""
    ends.say(framing.pack_json({"a": 1}))
    assert ends.channel.take().json() == {"a": 1}
    ends.close()
    with pytest.raises(LineLost):
        ends.channel.take()


def test_bytes_that_are_no_frames_end_the_line(ends: Ends) -> None:
    """With what they were."""
    ends.say(b"hello there")
    with pytest.raises(LineLost, match="unexpected bytes"):
        ends.channel.take()


def test_silence_ends_the_line() -> None:
    """Nobody hung up; nobody is there either. Work asks `check` and stops."""
    made = Ends(silence_s=0.3)
    try:
        began = time.monotonic()
        with pytest.raises(LineLost, match="nothing heard"):
            made.channel.take()
        assert time.monotonic() - began < 20
    finally:
        made.close()


def test_heartbeats_keep_it_alive_and_are_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side tells the other that it is there, also while it works."""
    monkeypatch.setattr(channels, "BEAT_EVERY_S", 0.05)
    made = Ends(silence_s=2)
    try:
        for _ in range(25):
            made.say(framing.pack(framing.BEAT))
            time.sleep(0.1)
            made.channel.check()
        frames = list(framing.Decoder().feed(os.read(made.from_host, 65536)))
        assert len(frames) > 5
        assert {frame.kind for frame in frames} == {framing.BEAT}
    finally:
        made.close()


def test_a_stalled_disk_is_not_a_dead_line() -> None:
    """Whoever takes the pieces stands still for longer than the silence that counts as death; then all of them come."""
    made = Ends(silence_s=2)
    pieces, size = 150, 10_000

    def sender() -> None:
        for _ in range(pieces):
            made.say(framing.pack(framing.BLOB, b"x" * size) + framing.pack(framing.BEAT))

    thread = threading.Thread(target=sender, daemon=True)
    thread.start()
    try:
        time.sleep(4)
        assert thread.is_alive()
        assert made.channel.is_alive()
        assert sum(map(len, made.channel.blob(pieces * size))) == pieces * size
        thread.join(10)
        with pytest.raises(LineLost, match="nothing heard"):
            made.channel.take()
    finally:
        made.close()


def test_a_slow_disk_slows_the_sender_instead_of_filling_memory(ends: Ends) -> None:
    """Only so many pieces are held; the rest waits in the pipe and, behind it, at the sender."""
    os.set_blocking(ends.to_host, False)
    piece, sent = framing.pack(framing.BLOB, b"x" * 60_000), 0
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and sent < 1000:
        try:
            sent += os.write(ends.to_host, piece) // len(piece)
        except BlockingIOError:
            time.sleep(0.01)
    assert sent < 200
