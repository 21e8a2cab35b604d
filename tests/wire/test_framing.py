"""Frames over one byte stream: whole whatever the pieces, refused at the first byte that is not ours."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.wire import framing
from deploy.wire.framing import BadFrame, Decoder, Frame

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.text(max_size=9), plain, max_size=6)
frames = st.lists(
    st.one_of(
        objects.map(framing.pack_json),
        st.binary(max_size=2000).map(lambda data: framing.pack(framing.BLOB, data)),
        st.just(framing.pack(framing.BEAT)),
    ),
    max_size=8,
)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at these places."""
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@given(frames, st.lists(st.integers(0, 10**6), max_size=30))
def test_frames_come_out_whole_whatever_the_pieces(packed: list[bytes], cuts: list[int]) -> None:
    """SSH hands bytes over in any portions; none of them changes what arrives, or its order."""
    stream = b"".join(packed)
    whole = list(Decoder().feed(stream))
    decoder = Decoder()
    found = [frame for piece in in_pieces(stream, cuts) for frame in decoder.feed(piece)]
    assert found == whole
    assert b"".join(framing.pack(frame.kind, frame.payload) for frame in found) == stream


def test_one_byte_at_a_time() -> None:
    """The slowest line there is."""
    decoder, found = Decoder(), []
    for byte in framing.pack_json({"a": 1}) + framing.pack(framing.BEAT) + framing.pack(framing.BLOB, b"xyz"):
        found += list(decoder.feed(bytes([byte])))
    assert found == [Frame(b"J", b'{"a":1}'), Frame(b".", b""), Frame(b"B", b"xyz")]


@given(objects)
def test_json_arrives_as_it_was_sent(value: dict[str, Any]) -> None:
    """Small objects plain, large ones compressed, lone surrogates of odd file names included."""
    (frame,) = Decoder().feed(framing.pack_json(value))
    assert frame.json() == value


def test_large_objects_are_compressed_and_small_ones_are_not() -> None:
    """A manifest of thousands of files shrinks; a heartbeat-sized answer is not worth it."""
    small, large = {"a": "b"}, {"a": "b" * 5000}
    assert framing.pack_json(small)[:1] == framing.JSON
    packed = framing.pack_json(large)
    assert packed[:1] == framing.ZLIB_JSON
    assert len(packed) < 200
    assert next(Decoder().feed(packed)).json() == large


def test_file_names_that_are_not_utf_8_survive() -> None:
    """Python spells such bytes as lone surrogates; they cross as escapes."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert next(Decoder().feed(framing.pack_json({"path": name}))).json()["path"] == name


@pytest.mark.parametrize(
    "data",
    [
        b"Welcome to web-1\n",
        b"\r\nJ",
        b"X\0\0\0\0",
        b"\0\0\0\0\0",
        b"j\0\0\0\x02{}",
        struct.pack(">cI", b"B", framing.MAX_PAYLOAD + 1),
        struct.pack(">cI", b"J", 0xFFFFFFFF),
    ],
)
def test_bytes_that_are_no_frame_are_refused_at_once(data: bytes) -> None:
    """A child that writes into the channel, or a length over the cap, ends the trust; nothing is waited for."""
    with pytest.raises(BadFrame, match="unexpected bytes"):
        list(Decoder().feed(framing.pack(framing.BEAT) + data.ljust(5, b"\0")))


def test_a_good_frame_before_bad_bytes_is_still_given() -> None:
    """What came before the break was whole."""
    stream = Decoder().feed(framing.pack(framing.BEAT) + b"noise here")
    assert next(stream) == Frame(framing.BEAT, b"")
    with pytest.raises(BadFrame):
        next(stream)


def test_the_cap_holds_for_the_sender_too() -> None:
    """Nothing is packed that the far side would refuse."""
    with pytest.raises(BadFrame, match="is over"):
        framing.pack(framing.BLOB, bytes(framing.MAX_PAYLOAD + 1))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (framing.JSON, b""),
        (framing.JSON, b"{"),
        (framing.JSON, b"[]"),
        (framing.JSON, b'"text"'),
        (framing.JSON, b"7"),
        (framing.JSON, b"null"),
        (framing.JSON, b'{"a": "\xff"}'),
        (framing.JSON, b"\xff\xfe{\0}\0"),
        (framing.JSON, b"[" * 100_000),
        (framing.JSON, b'{"a":' * 100_000),
        (framing.ZLIB_JSON, b""),
        (framing.ZLIB_JSON, b"not zlib"),
        (framing.ZLIB_JSON, zlib.compress(b"{}")[:-1]),
        (framing.ZLIB_JSON, zlib.compress(b"[]")),
        (framing.BLOB, b"\0\1"),
    ],
)
def test_frames_that_hold_no_json_object_are_bad_frames(kind: bytes, payload: bytes) -> None:
    """One error for all of them, since all mean the same: nothing that follows can be trusted."""
    with pytest.raises(BadFrame):
        Frame(kind, payload).json()


def test_a_zlib_bomb_is_refused_without_being_inflated() -> None:
    """A few hundred kilobytes that claim much more than the cap cost no more memory than the cap."""
    bomb = zlib.compressobj(9)
    piece = b" " * (1 << 20)
    packed = b"".join(bomb.compress(piece) for _ in range(96)) + bomb.flush()
    assert len(packed) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(BadFrame, match="larger than"):
            Frame(framing.ZLIB_JSON, packed).json()
        assert tracemalloc.get_traced_memory()[1] < 3 * framing.MAX_PAYLOAD
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300))
def test_random_bytes_give_frames_or_bad_frame_and_nothing_else(data: bytes) -> None:
    """No input makes the decoder fail in another way, or invent bytes."""
    decoder = Decoder()
    try:
        for frame in decoder.feed(data):
            assert frame.payload in data
    except BadFrame:
        pass


@given(
    st.text("0123456789abcdef", min_size=32, max_size=32), st.binary(max_size=400), st.sampled_from(["have", "need"])
)
def test_the_greeting_is_found_behind_any_noise(nonce: str, noise: bytes, word: str) -> None:
    """Banner and .bashrc output come first; the nonce of this run marks where the program begins to speak."""
    mark = framing.answer(nonce, word)
    before, found, rest = (noise + mark + b"rest").partition(mark)
    assert (before, found, rest) == (noise, mark, b"rest")
    assert framing.greeting(nonce).endswith(nonce.encode() + b"\n")
    assert framing.greeting(nonce).rstrip() + b" " + word.encode() + b"\n" == mark


def test_json_crosses_as_ascii() -> None:
    """No terminal, log or locale between can change what was said."""
    packed = framing.pack_json({"grüße": "\u2028"})
    assert packed.isascii()
    assert json.loads(packed[5:]) == {"grüße": "\u2028"}
