"""A run that lost its line after a switch comes back: it waits for its old host program to settle, and is fenced.

The lock tells whether that program still is at work; the journal tells what became of the switch. Whoever had the lock
meanwhile has a higher sequence number, and then nothing is done for the run that comes late.
"""

from __future__ import annotations

import time
from typing import Any, Dict

from .history import History, RunPast
from .lock import Busy
from .session import Session

_LOOK_S = 0.2


class Fenced(Exception):
    """Somebody else had the lock since: what this run asks for is refused, whatever it still believes."""


def take_lock(session: Session, holder: Dict[str, Any]) -> None:
    """Take the lock, waiting while this very run's old host program holds it: all that it does has deadlines.

    Raises lock.Busy with another holder, at once; LineLost.
    """
    told = False
    while True:
        try:
            return session.lock.take(holder)
        except Busy as busy:
            if (busy.holder or {}).get("run") != session.run:
                raise
        if not told:
            told = True
            session.tell("settle", "started", "the host still settles what the lost line left open")
        session.check()
        time.sleep(_LOOK_S)


def fence(history: History, run: str, seq: int) -> None:
    """Refuse a run that was granted the lock under ``seq`` where another one had it since. Raises Fenced."""
    other = history.fenced(run, seq)
    if other is not None:
        words = (other.by or "somebody", other.verb or "something", other.seq, seq)
        raise Fenced("%s ran %s here since (sequence number %d, this run has %d)" % words)


def ending(past: RunPast) -> Dict[str, Any]:
    """What became of the run's switch, as it crosses the line."""
    return {
        "outcome": past.outcome,
        "release": past.to,
        "from": past.came_from,
        "cause": past.cause,
        "proof": past.proof,
    }
