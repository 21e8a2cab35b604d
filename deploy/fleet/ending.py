"""What a host's journal tells a run that lost its line after the switch, as the answer it was waiting for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASK_AGAIN = None
"""The request did not get there, or it may be asked twice: say it again over the new line."""


class Differs(Exception):
    """The host's own decision makes the request void. ``outcome`` is ``returned``, ``unchanged`` or ``unknown``."""

    def __init__(self, outcome: str, cause: str) -> None:
        super().__init__(cause)
        self.outcome = outcome
        self.cause = cause


def answer_of(op: str, ending: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer to ``op`` that was lost on the way, or ASK_AGAIN. Raises Differs.

    ``ending`` is the answer to ``resume``: ``outcome`` (live, returned, or empty where nothing switched),
    ``release``, ``from``, ``cause``, ``proof``.
    """
    outcome = str(ending["outcome"])
    cause = str(ending["cause"] or "the host decided so by itself when the line was lost")
    if op == "activate":
        failure = {"step": "settle", "cause": cause}
        return {**ending, "ok": True, "failure": failure} if outcome else ASK_AGAIN
    if op == "return":
        done = {**ending, "ok": True, "outcome": outcome or "unchanged"}
        return ASK_AGAIN if outcome == "live" else done
    if outcome != "live":
        raise Differs(outcome or "unchanged", cause)
    if op == "hooks":
        raise Differs("unknown", "the line was lost while it ran, and so nobody here knows how it ended")
    return {"ok": True} if op == "confirm" else ASK_AGAIN
