"""Downloads of the child process behind ``index``: several at a time, each gone on with where it broke off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from pip._internal.network.utils import HEADERS, response_chunks
from pip._vendor.requests.exceptions import HTTPError, RetryError

from .index import sha256_of

_PAUSE_S = 0.2
"""Before the first of those; doubled each time."""
_PIECE_BYTES = 1 << 15
_PROGRESS_S = 0.1

Tell = Callable[..., None]


class Index(Protocol):
    """Where files come from; each thread has a session of its own."""

    resumes: int
    """How often a transfer that breaks is taken up again without having got any further."""

    @property
    def session(self) -> Any: ...

    def candidates(self, name: str) -> list[Any]:
        """What is offered of one package. Raises whatever the finder does."""
        ...


class _Unwritable(Exception):
    """What was received cannot be written; every other file would fail alike."""


class Downloads:
    """The files of one request, several at a time."""

    def __init__(self, index: Index, stores: Sequence[str], tell: Tell) -> None:
        self._index = index
        self._stores = tuple(stores)
        self._tell = tell
        self._told: set[str] = set()
        self.unwritable: str | None = None

    def one(self, want: dict[str, Any]) -> tuple[str, str]:
        """Download one file; give its name and why it failed, or nothing."""
        return want["file"], self._one(want)

    def _one(self, want: dict[str, Any]) -> str:
        why = "the index has no such file"
        try:
            for url, expected in self._places(want):
                if self.unwritable:
                    return self.unwritable
                if expected and want["sha256"] not in {None, expected}:
                    why = "the index has other bytes under this name"
                    continue
                why = self._bring(url, want, want["sha256"] or expected)
                if not why:
                    self._tell(stored=want["file"])
                    return ""
                self._passed_over(url, why)
        except _Unwritable as error:
            self.unwritable = str(error)
            return self.unwritable
        except Exception as error:  # noqa: BLE001 - the finder raises many types, and all mean "not downloaded"
            return f"the index could not be asked: {words(error)}"
        return why

    def _passed_over(self, url: str, why: str) -> None:
        """Say, once for each reason, that a store did not help."""
        if url.startswith(self._stores) and not why.startswith("404") and why not in self._told:
            self._told.add(why)
            self._tell(note=f"{url.rpartition('/')[0]}: {why}; asking elsewhere")

    def _places(self, want: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Where the file is offered, and under which sha256, if that is told."""
        yield from ((f"{store.rstrip('/')}/{quote(want['file'])}", None) for store in self._stores)
        for candidate in self._index.candidates(want["name"]):
            link = candidate.link
            if str(link.filename) == want["file"]:
                yield link.url_without_fragment, link.hash if link.hash_name == "sha256" else None

    def _bring(self, url: str, want: dict[str, Any], expected: str | None) -> str:
        to = Path(want["to"])
        furthest, vain, again = _size(to), 0, False
        while True:
            resumed = bool(_size(to))
            try:
                self._receive(url, want, expected)
            except (HTTPError, RetryError) as error:  # answers, and pip's session has asked more than once
                return words(error)
            except _Unwritable:
                raise
            except Exception as error:  # noqa: BLE001 - the session raises many types, and all mean "broken off"
                vain = 0 if _size(to) > furthest else vain + 1
                furthest = max(furthest, _size(to))
                if not furthest:  # and pip's session has asked more than once
                    return f"no answer: {words(error)}"
                if vain > self._index.resumes:
                    return f"broken off after {furthest} bytes: {words(error)}"
                self._tell(note=f"{want['file']}: broken off after {_size(to)} bytes ({words(error)}); trying again")
                time.sleep(_PAUSE_S * 2**vain)
                continue
            digest = sha256_of(to)
            if not expected or digest == expected:
                return ""
            to.unlink()
            if again or not resumed:
                return f"other bytes were sent (sha256 {digest[:12]}..., expected {expected[:12]}...)"
            again = True  # pieces of two different files make neither

    def _receive(self, url: str, want: dict[str, Any], expected: str | None) -> None:
        """Receive one file, or the rest of it (RFC 9110, section 14). Raises as the session does, and _Unwritable."""
        to, size = Path(want["to"]), want["size"]
        have = _size(to) if expected else 0
        if size and have >= size:
            return
        asked = {"Range": f"bytes={have}-"} if have else {}
        with contextlib.closing(self._index.session.get(url, headers={**HEADERS, **asked}, stream=True)) as response:
            if response.status_code == 416:
                to.unlink()
                raise ConnectionError("the server has no such range")
            if response.status_code >= 400:
                raise HTTPError(f"{response.status_code} {response.reason}")
            goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if response.status_code != 206 or not goes_on:
                have = 0
            length = response.headers.get("Content-Length")
            total = size or (have + int(length) if length else 0)
            shown = 0.0
            with _file(to, append=have > 0) as write:
                for piece in response_chunks(response, _PIECE_BYTES):
                    write(piece)
                    have += len(piece)
                    if have != total and time.monotonic() - shown > _PROGRESS_S:
                        self._tell(progress=[want["file"], min(have, total), total])
                        shown = time.monotonic()
                    if size and have > size:  # not ours, and maybe without an end
                        break
        if have < total:
            raise ConnectionError(f"the connection ended {total - have} bytes early")
        self._tell(progress=[want["file"], have, have])


@contextlib.contextmanager
def _file(path: Path, *, append: bool) -> Generator[Callable[[bytes], None]]:
    """Give what writes to ``path`` unbuffered: a killed process leaves all it was given. Raises _Unwritable."""
    try:
        file = path.open("ab" if append else "wb", buffering=0)
    except OSError as error:
        raise _Unwritable(error.strerror) from None

    def write(piece: bytes) -> None:
        left = memoryview(piece)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            raise _Unwritable(error.strerror) from None

    with file:
        yield write


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def words(error: Exception) -> str:
    """Say in one line what went wrong; pip's own errors keep that apart from what they advise."""
    said = str(getattr(error, "context", None) or error) or type(error).__name__
    text = " ".join(said.split())
    return text.rpartition("(Caused by ")[2][:300]
