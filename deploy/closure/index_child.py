"""A program run in a child process: asks the configured index which files it has, and downloads some of them.

The one place that touches pip's internals. pip has no public command that tells an sdist's hash or stores one
without running its build backend (``pip download`` prepares metadata even with ``--no-deps``); its finder and its
session are what carry proxies, certificates, mirrors, find-links and credentials. They fail loudly here if they move.

One JSON object a line on stdin, one answer a line on stdout, until stdin ends:

* ``"tags": [TAG, ...]``: comes first; the wheel tags of all targets (``cp311-cp311-manylinux_2_28_x86_64``);
* ``"list": [NAME, ...]``: answers ``{"files": {NAME: [FILE, ...]}}``, each FILE
  ``{"file", "version", "sha256" | null, "requires_python", "yanked"}`` (``""`` where it is not): the wheels that fit
  and all sdists, in the index's order;
* ``"download": [{"name", "file", "sha256" | null, "size" | null, "to"}], "stores": [URL, ...]``: goes on from what lies
  at ``to`` and answers ``{"errors": {FILE: WHY}, "unwritable": WHY | null}``. Without an error, what lies at ``to``
  has the hash; with one, it is a beginning, or absent.
  ``stores`` are asked for FILE before the index. Meanwhile come lines of ``{"progress": [FILE, DONE, TOTAL]}`` (bytes;
  TOTAL is 0 where nobody knows), ``{"note": TEXT}`` and, as soon as a file is whole, ``{"stored": FILE}``.

All answers carry ``"log"``: pip's warnings, and why an index did not answer: pip's finder skips such a one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from pip._internal.commands import create_command
from pip._internal.models.format_control import FormatControl
from pip._internal.models.target_python import TargetPython
from pip._vendor.packaging.tags import Tag
from pip._vendor.requests.exceptions import RetryError

from .index_transfer import Downloads, words

_AT_ONCE = 6
"""Requests under way; what pip's own pool of connections and a browser allow one server."""
_TIMEOUT_S = (5.0, 10.0)
"""To connect, and between two pieces. Like ``_RETRIES`` only where pip's configuration says nothing."""
_RETRIES = 1
_RESUMES = 3
"""How often a transfer that breaks is taken up again without having got any further; pip's retries where configured."""
_DEAD_AFTER = 2
"""Requests in a row that a server leaves without any answer; then it is not asked again. One, if it never answered."""


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
        index = _Index(command, json.loads(sys.stdin.readline())["tags"], kept.lines.append)
        tell(log=[])
        for line in sys.stdin:
            request: dict[str, Any] = json.loads(line)
            kept.lines.clear()
            answer: dict[str, Any] = {}
            if "list" in request:
                answer["files"] = dict(zip(request["list"], pool.map(index.files, request["list"]), strict=True))
            else:
                run = Downloads(index, request["stores"], tell)
                failures = [(file, why) for file, why in pool.map(run.one, request["download"]) if why]
                answer = {"errors": dict(failures), "unwritable": run.unwritable}
            tell(**answer, log=list(dict.fromkeys(kept.lines)))


class _Index:
    """The configured index. Each thread asks by a session of its own: requests does not promise to share one safely."""

    def __init__(self, command: Any, tags: list[str], log: Callable[[str], None]) -> None:
        command.parser.set_defaults(timeout=_TIMEOUT_S, retries=None)
        self._command: Any = command
        self._options, _ = command.parse_args(["--no-deps", "nothing"])
        self.resumes = _RESUMES if self._options.retries is None else self._options.retries
        self._options.retries = _RETRIES if self._options.retries is None else self._options.retries
        # A configured no-binary or only-binary would hide files; which kind is used is the lock's policy.
        self._options.format_control = FormatControl(set(), set())
        self._target: Any = TargetPython()
        self._target._valid_tags_set = {Tag(*tag.split("-")) for tag in tags}  # noqa: SLF001
        self._log = log
        self._mine = threading.local()
        self._found: dict[str, list[Any]] = {}
        self._silent: dict[str, str] = {}
        self._answered: set[str] = set()
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
                self._silent.setdefault(name, self._mine.trouble)
            self._found[name] = found
        if name in self._silent:
            raise ConnectionError(self._silent[name])
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
                    "yanked": _yanked(candidate.link.yanked_reason),
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
            patience = _DEAD_AFTER if where in self._answered else 1
            if len(unanswered) >= patience and "Range" not in (kwargs.get("headers") or {}):
                raise unanswered[0]
            response = self._mine.request(method, url, *args, **kwargs)
        except Exception as error:
            self._trouble(f"{where or url}: {words(error)}")
            if where and not isinstance(error, RetryError):  # which is an answer, of status 5xx
                unanswered.append(error)
            raise
        unanswered.clear()
        self._answered.add(where)
        if response.status_code >= 400 and response.status_code not in {404, 416}:
            self._trouble(f"{where}: {response.status_code} {response.reason}")
        return response

    def _trouble(self, text: str) -> None:
        self._mine.trouble = text
        self._log(text)


def _yanked(reason: str | None) -> str:
    """Say why a file was withdrawn (PEP 592): no reason at all is not yanked, an empty one is."""
    return "" if reason is None else reason or "no reason given"
