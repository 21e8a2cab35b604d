"""Ask the service whether it is well: HTTP over TCP or a unix socket, or a command; N answers in a row in time.

Asked from the host itself. Redirects are answers, not followed. Returns what it saw; decides nothing else.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, cast
from urllib.parse import urlsplit

EXCERPT_CHARS = 160
ONE_ANSWER_S = 10.0
_LEAST_S = 1.0
"""Even the last answer before the deadline gets this long to arrive."""


@dataclass(frozen=True)
class Answer:
    """One answer: whether it counts, in words, and what it says of who answered."""

    ok: bool
    text: str
    release: Optional[str] = None
    pid: Optional[int] = None
    peer: Optional[int] = None
    """Who holds the unix socket that was asked (unix(7), SO_PEERCRED)."""


@dataclass(frozen=True)
class Verdict:
    """The end of the wait. ``last`` is the answer that decided."""

    ok: bool
    last: Answer
    asked: int


def wait(
    settings: Mapping[str, Any],
    ask: Callable[[float], Answer],
    check: Callable[[], None],
    accept: Callable[[Answer], Optional[str]],
) -> Verdict:
    """Ask until ``successes`` answers in a row are good, or ``timeout_s`` is over. Raises what ``check`` raises.

    ``ask`` is told how many seconds one answer may take, so that one that hangs does not outlast the deadline.
    ``accept`` may say why a good answer does not count (it came from the old process).
    """
    deadline = time.monotonic() + float(settings["timeout_s"])
    in_a_row, asked = 0, 0
    while True:
        check()
        answer = ask(min(ONE_ANSWER_S, max(_LEAST_S, deadline - time.monotonic())))
        asked += 1
        refused = accept(answer) if answer.ok else None
        if refused:
            answer = Answer(False, refused, answer.release, answer.pid)
        in_a_row = in_a_row + 1 if answer.ok else 0
        if in_a_row >= int(settings["successes"]):
            return Verdict(True, answer, asked)
        if time.monotonic() >= deadline:
            return Verdict(False, answer, asked)
        time.sleep(min(float(settings["interval_s"]), max(0.0, deadline - time.monotonic())))


def ask_http(settings: Mapping[str, Any], root: str, within_s: float = ONE_ANSWER_S) -> Answer:
    """Ask once over HTTP. Every failure to get a whole answer in time is an answer that does not count."""
    from .http_get import get  # http.client is a fifth of what starting the host program costs: only who asks pays

    try:
        status, headers, body, peer = get(settings, address(settings), root, within_s)
    except (OSError, ValueError) as error:
        return Answer(False, "no answer: %s" % (error or type(error).__name__))
    release, pid = _who(headers, body)
    if status in settings["expect_status"]:
        return Answer(True, "HTTP %d" % status, release, pid, peer)
    return Answer(False, "HTTP %d: %s" % (status, _excerpt(body)), release, pid, peer)


def address(settings: Mapping[str, Any]) -> Optional[Tuple[str, int]]:
    """The TCP address that is asked, or None where it is a socket or a command."""
    if not settings.get("url"):
        return None
    parts = urlsplit(str(settings["url"]))
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


def _excerpt(body: bytes) -> str:
    """What an answer says, short enough for one line; of a page its title."""
    text = body[:4096].decode("utf-8", "replace")
    title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title is None and re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
        return "a page without a title"
    return " ".join((title.group(1) if title else text).split())[:EXCERPT_CHARS]


def _who(headers: Mapping[str, str], body: bytes) -> Tuple[Optional[str], Optional[int]]:
    """What the answer says of itself: header ``X-Release``, or ``release`` and ``pid`` of a JSON object."""
    release: Optional[str] = headers.get("x-release")
    pid: Any = None
    try:
        value = json.loads(body.decode("utf-8"))
        if isinstance(value, dict):
            said = cast("Dict[str, Any]", value)
            release = release or (str(said["release"]) if said.get("release") else None)
            pid = said.get("pid")
    except (ValueError, RecursionError):
        pass
    return release, pid if type(pid) is int else None
