"""A freeze: deploys, prunes and pins are refused on this host until somebody thaws it, or it expires. Decides only.

It lives in the journal, so that every operator and every CI job meets it. Its end is the one thing that a clock decides
(the host's own); a clock that is off must not end it early: within one boot the time since is counted as well, by a
clock that nobody sets.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from .history import History, Record
from .processes import boot_id, up_s

PASSES = ("rollback", "freeze", "thaw")
"""What a freeze does not stop: it must not keep a service down, and has to be ended."""


class Frozen(Exception):
    """The host is frozen; ``freeze`` says by whom, why, since when and until when."""

    def __init__(self, freeze: Dict[str, Any]) -> None:
        super().__init__("frozen")
        self.freeze = freeze

    def to_json(self) -> Dict[str, Any]:
        """As it crosses the line."""
        return {"kind": "frozen", "freeze": self.freeze}


def terms(reason: str, until: Optional[float], for_s: Optional[float]) -> Dict[str, Any]:
    """What is journalled of a freeze: ``until`` in seconds since 1970 (UTC), ``for_s`` as the operator's clock saw it.

    Raises ValueError where this host's clock is past its end already.
    """
    if until is not None and time.time() >= until:
        raise ValueError("this host's clock is past that end already: mend its clock, or freeze without an end")
    return {"reason": reason[:500], "until": until, "for_s": for_s, "boot": boot_id(), "up_s": round(up_s(), 2)}


def standing(history: History) -> Optional[Dict[str, Any]]:
    """The freeze that holds now, for people: ``by``, ``reason``, ``since``, ``until``; or None."""
    record = history.freeze
    if record is None or is_over(record, now=time.time(), boot=boot_id(), up=up_s()):
        return None
    return {"by": record["by"], "reason": record.get("reason"), "since": record["at"], "until": record.get("until")}


def is_over(record: Record, *, now: float, boot: str, up: float) -> bool:
    """Whether a freeze has expired. Pure; in doubt it has not."""
    until, for_s = record.get("until"), record.get("for_s")
    if until is None or now < until:
        return False
    return record.get("boot") != boot or up - float(record.get("up_s") or 0) >= float(for_s or 0)
