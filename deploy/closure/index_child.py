"""A program run in a child process: asks the configured index which files it has, and downloads some of them.

The one place that touches pip's internals. pip has no public command that tells an sdist's hash or stores one
without running its build backend (``pip download`` prepares metadata even with ``--no-deps``); its finder and its
session are what carry proxies, certificates, mirrors, find-links and credentials. They fail loudly here if they move.

Started with ``argv`` PYTHON PLATFORM_TAG... (``3.11 manylinux_2_28_x86_64 ...``). One JSON object a line on stdin,
one answer a line on stdout, until stdin ends:

* ``"list": [NAME, ...]``: answers ``{"files": {NAME: [{"file", "version", "sha256" | null, "requires_python"}]}}``
  with the wheels that fit and all sdists, in the index's order;
* ``"download": [{"name", "file", "sha256" | null, "size" | null, "to"}], "store": URL | null``: goes on from what lies
  at ``to`` and answers ``{"errors": {FILE: WHY}, "unwritable": WHY | null}``. Without an error, what lies at ``to`` has
  the hash; with one, what was received so far, or nothing. ``store`` is asked for FILE before the index. Meanwhile come
  lines of ``{"progress": [FILE, DONE, TOTAL]}`` (bytes; TOTAL is 0 where nobody knows), ``{"note": TEXT}`` and, as soon
  as a file is whole, ``{"stored": FILE}``.

Both answers carry ``"log"``: pip's warnings, and why an index did not answer: pip's finder skips such a one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pip._internal.commands import create_command
from pip._internal.models.format_control import FormatControl
from pip._internal.models.target_python import TargetPython
from pip._internal.network.utils import HEADERS, response_chunks
from pip._vendor.requests.exceptions import HTTPError, RetryError

_AT_ONCE = 6
"""Requests under way; what pip's own pool of connections and a browser allow one server."""
_TIMEOUT_S = (5.0, 15.0)
"""To connect, and between two pieces. Like ``_RETRIES`` only where pip's configuration says nothing."""
_RETRIES = 1
_RESUMES = 3
"""How often a transfer that breaks is taken up again without having got any further; pip's retries where configured."""
_PAUSE_S = 0.2
"""Before the first of those; doubled each time."""
_DEAD_AFTER = 2
"""Requests in a row that a server leaves without any answer; then it is not asked again."""
_PIECE_BYTES = 1 << 15
_PROGRESS_S = 0.1

Tell = Callable[..., None]


class _Unwritable(Exception):
    """What was received cannot be written; every other file would fail alike."""


class _Kept(logging.Handler):
    """Keeps pip's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends all threads at once; what was written stays
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever pip prints is not an answer
    one_at_a_time = threading.Lock()

    def tell(**answer: object) -> None:
        with one_at_a_time:
            try:
                answers.write(json.dumps(answer) + "\n")
                answers.flush()
            except BrokenPipeError:
                os._exit(1)

    kept = _Kept()
    logging.getLogger("pip").addHandler(kept)
    logging.getLogger("pip").propagate = False
    command: Any = create_command("download")
    with command.main_context(), ThreadPoolExecutor(_AT_ONCE) as pool:
        index = _Index(command, kept.lines.append)
        for line in sys.stdin:
            request: dict[str, Any] = json.loads(line)
            kept.lines.clear()
            answer: dict[str, Any] = {}
            if "list" in request:
                answer["files"] = dict(zip(request["list"], pool.map(index.files, request["list"]), strict=True))
            else:
                run = _Downloads(index, request.get("store"), tell)
                failures = [(file, why) for file, why in pool.map(run.one, request["download"]) if why]
                answer = {"errors": dict(failures), "unwritable": run.unwritable}
            tell(**answer, log=list(dict.fromkeys(kept.lines)))


class _Index:
    """The configured index. Each thread asks by a session of its own: requests does not promise to share one safely."""

    def __init__(self, command: Any, log: Callable[[str], None]) -> None:
        command.parser.set_defaults(timeout=_TIMEOUT_S, retries=None)
        self._command = command
        self._options, _ = command.parse_args(["--no-deps", "nothing"])
        self.resumes = _RESUMES if self._options.retries is None else self._options.retries
        self._options.retries = _RETRIES if self._options.retries is None else self._options.retries
        # A configured no-binary or only-binary would hide files; which kind is used is the lock's policy.
        self._options.format_control = FormatControl(set(), set())
        python = tuple(int(part) for part in sys.argv[1].split("."))
        self._target = TargetPython(sys.argv[2:], python, implementation="cp")
        self._log = log
        self._mine = threading.local()
        self._found: dict[str, list[Any]] = {}
        self._unanswered: dict[str, list[Exception]] = {}

    @property
    def session(self) -> Any:
        """The session of the calling thread."""
        if not hasattr(self._mine, "session"):
            session = self._command._build_session(self._options)  # noqa: SLF001
            self._mine.session, self._mine.request = session, session.request
            session.request = self._request
        return self._mine.session

    def candidates(self, name: str) -> list[Any]:
        """What the index offers of one package. Raises ConnectionError where that is nothing, for want of an answer."""
        if name not in self._found:
            if not hasattr(self._mine, "finder"):
                make = self._command._build_package_finder  # noqa: SLF001
                self._mine.finder = make(self._options, self.session, self._target, ignore_requires_python=True)
            self._mine.trouble = ""
            found = self._mine.finder.find_all_candidates(name)
            if self._mine.trouble and not found:
                raise ConnectionError(self._mine.trouble)
            self._found[name] = found
        return self._found[name]

    def files(self, name: str) -> list[dict[str, Any]]:
        """Answer for one name of a ``list``."""
        with contextlib.suppress(ConnectionError):  # which is in the log
            return [
                {
                    "file": str(candidate.link.filename),
                    "version": str(candidate.version),
                    "sha256": candidate.link.hash if candidate.link.hash_name == "sha256" else None,
                    "requires_python": candidate.link.requires_python or "",
                }
                for candidate in self.candidates(name)
            ]
        return []

    def _request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """Ask by pip's session, but not for ever: a server that is down would be waited for once for each file."""
        where = urlsplit(url).netloc.rpartition("@")[2]
        unanswered = self._unanswered.setdefault(where, [])
        try:
            # What was begun may still go on: a server that restarts is back in a moment.
            if len(unanswered) >= _DEAD_AFTER and "Range" not in (kwargs.get("headers") or {}):
                raise unanswered[0]
            response = self._mine.request(method, url, *args, **kwargs)
        except Exception as error:
            self._trouble(f"{where or url}: {_words(error)}")
            if where and not isinstance(error, RetryError):  # which is an answer, of status 5xx
                unanswered.append(error)
            raise
        unanswered.clear()
        if response.status_code >= 400 and response.status_code not in {404, 416}:
            self._trouble(f"{where}: {response.status_code} {response.reason}")
        return response

    def _trouble(self, text: str) -> None:
        self._mine.trouble = text
        self._log(text)


class _Downloads:
    """The files of one request, several at a time."""

    def __init__(self, index: _Index, store: str | None, tell: Tell) -> None:
        self._index = index
        self._store = store
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
            return f"the index does not answer: {_words(error)}"
        return why

    def _passed_over(self, url: str, why: str) -> None:
        """Say, once for each reason, that the store did not help."""
        if self._store and url.startswith(self._store) and not why.startswith("404") and why not in self._told:
            self._told.add(why)
            self._tell(note=f"{url.rpartition('/')[0]}: {why}; asking the index instead")

    def _places(self, want: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Where the file is offered, and under which sha256, if that is told."""
        if self._store:
            yield f"{self._store.rstrip('/')}/{quote(want['file'])}", None
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
                return _words(error)
            except _Unwritable:
                raise
            except Exception as error:  # noqa: BLE001 - the session raises many types, and all mean "broken off"
                vain = 0 if _size(to) > furthest else vain + 1
                furthest = max(furthest, _size(to))
                if not furthest:  # and pip's session has asked more than once
                    return f"no answer: {_words(error)}"
                if vain > self._index.resumes:
                    return f"broken off after {furthest} bytes: {_words(error)}"
                self._tell(note=f"{want['file']}: broken off after {_size(to)} bytes ({_words(error)}); trying again")
                time.sleep(_PAUSE_S * 2**vain)
                continue
            digest = _sha256(to)
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
                    if time.monotonic() - shown > _PROGRESS_S:
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _words(error: Exception) -> str:
    text = " ".join((str(error) or type(error).__name__).split())
    return text.rpartition("(Caused by ")[2][:300]


if __name__ == "__main__":
    main()
