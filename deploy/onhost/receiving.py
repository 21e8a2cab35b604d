"""Blobs as they arrive: into the store, inflated where they came compressed. A failure is told when the stream ends."""

from __future__ import annotations

import zlib
from typing import Any, Dict, Iterator, Optional

from deploy.wire import framing
from deploy.wire.names import sha256

from .session import Session, StepFailed, advice
from .store import WrongContent


class Receiving:
    """One stream of blobs after the other. Nobody can be told of a failure before a stream ends."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._failure: Optional[StepFailed] = None

    def take(self, head: Dict[str, Any]) -> None:
        """Read one announced blob to its end, and keep it unless something failed before. Raises LineLost, BadFrame."""
        sent = self._session.channel.blob(int(head["size"]))
        try:
            if self._failure is None:
                pieces: Iterator[bytes] = inflate(sent, int(head["length"])) if head.get("zlib") else sent
                self._session.store.receive(sha256(head["sha256"]), pieces)
        except (OSError, WrongContent) as error:
            self._failure = StepFailed("receive", str(error), advice(error) if isinstance(error, OSError) else "")
        for _ in sent:
            pass

    def end(self) -> None:
        """The stream is over. Raises StepFailed where one of its blobs could not be kept."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def inflate(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """Undo zlib (RFC 1950), giving at most ``length`` bytes whatever the sender packed. Raises framing.BadFrame."""
    packed = zlib.decompressobj()
    for piece in pieces:
        while piece:
            out = packed.decompress(piece, framing.PIECE)
            length -= len(out)
            if length < 0:
                raise framing.BadFrame("a blob inflates to more than was announced")
            yield out
            piece = packed.unconsumed_tail
    yield packed.flush()
