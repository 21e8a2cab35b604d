"""Length-framed JSON and raw blobs over one byte stream, in both directions: data, never shell text. No I/O.

A frame is one kind byte, four bytes of length (big endian) and the payload:

    J  one JSON object (UTF-8)
    Z  one JSON object, zlib-compressed (RFC 1950)
    B  a piece of the blob that the last JSON frame announced
    .  a heartbeat, empty

Before the first frame both sides skip whatever a banner or a noisy ``.bashrc`` wrote, up to a per-run nonce:
the control side opens with ``greeting(nonce)``, the host answers ``answer(nonce, word)``.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Dict, Iterator, NamedTuple, cast

JSON, ZLIB_JSON, BLOB, BEAT = b"J", b"Z", b"B", b"."
PIECE = 256 * 1024
"""Blobs travel in pieces of this many bytes: Paramiko's sendall of one large buffer is quadratic."""
MAX_PAYLOAD = 64 * 1024 * 1024
COMPRESS_FROM = 512
MAGIC = b"sealed-deploy/1 "
_HEAD = struct.Struct(">cI")


class BadFrame(ValueError):
    """The far side broke the framing; nothing that follows can be trusted."""


class Frame(NamedTuple):
    """One frame as it arrived: ``kind`` is one of the module's constants."""

    kind: bytes
    payload: bytes

    def json(self, most: int = MAX_PAYLOAD) -> Dict[str, Any]:
        """The JSON object of a J or Z frame, of at most ``most`` bytes. Raises BadFrame where it is something else."""
        data = self.payload
        try:
            if self.kind == ZLIB_JSON:
                inflate = zlib.decompressobj()
                data = inflate.decompress(data, most)
                if inflate.unconsumed_tail or not inflate.eof:
                    raise BadFrame("compressed frame is larger than %d bytes or cut short" % most)
            value = json.loads(data.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
        except (ValueError, RecursionError, zlib.error) as error:
            raise BadFrame("not a JSON frame: %s" % error) from error
        if not isinstance(value, dict):
            raise BadFrame("a JSON frame holds one object")
        return cast("Dict[str, Any]", value)


def _no_number(text: str) -> float:
    """Refuse what RFC 8259 does not know, and what no other program could read again."""
    raise ValueError("%s is no number of JSON" % text)


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _no_number(text[:40])


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """Spell one frame."""
    if len(payload) > MAX_PAYLOAD:
        raise BadFrame("payload of %d bytes is over %d" % (len(payload), MAX_PAYLOAD))
    return _HEAD.pack(kind, len(payload)) + payload


def pack_json(value: Dict[str, Any]) -> bytes:
    """Spell one JSON frame, compressed where that is likely to pay."""
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    if len(data) < COMPRESS_FROM:
        return pack(JSON, data)
    return pack(ZLIB_JSON, zlib.compress(data, 6))


class Decoder:
    """Takes bytes in any pieces, gives whole frames of at most ``most`` bytes."""

    def __init__(self, most: int = MAX_PAYLOAD) -> None:
        self._held = bytearray()
        self._most = most

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each frame that is now complete. Raises BadFrame for an unknown kind or a length over the cap."""
        self._held += data
        while len(self._held) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._held)
            if kind not in (JSON, ZLIB_JSON, BLOB, BEAT) or length > self._most:
                raise BadFrame("unexpected bytes in the channel: %r" % bytes(self._held[:40]))
            if len(self._held) < _HEAD.size + length:
                return
            payload = bytes(self._held[_HEAD.size : _HEAD.size + length])
            del self._held[: _HEAD.size + length]
            yield Frame(kind, payload)


def greeting(nonce: str) -> bytes:
    """The control side's first line."""
    return MAGIC + nonce.encode("ascii") + b"\n"


def answer(nonce: str, word: str) -> bytes:
    """The host's first line: ``word`` is ``have`` or ``need`` (the host program)."""
    return MAGIC + nonce.encode("ascii") + b" " + word.encode("ascii") + b"\n"
