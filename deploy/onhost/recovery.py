"""What an interrupted run left behind, and what is done about it: a pure decision, then one action after the other.

``plan`` decides from journal and disk alone; ``recover`` acts, only under the lock, at the start of every mutating
command. Read-only commands show the plan.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Set

from deploy.wire.names import ReleaseId

from . import activate, envs, hooks, marker, toolchain, wheels
from .children import ENDING_S
from .history import History, fold
from .journal import Record
from .layout import Layout, remove_tree, unlink_if_there
from .processes import Process, describe, end_tree, is_foreign, left_running, started_s, survivors, unfinished, up_s
from .session import Session, StepFailed

MOST_RECOVERIES = 3
"""How often one switch is settled, and the service restarted for it, before a person must look."""


@dataclass(frozen=True)
class Action:
    """One thing to do: ``settle``, ``return`` or ``cancel`` the open switch, or ``sweep`` a BROKEN release."""

    do: str
    release: str
    why: str


def plan(history: History, current: Optional[ReleaseId], broken: Sequence[ReleaseId]) -> List[Action]:
    """Decide what recovery does. Pure; the same answer however often it is asked."""
    actions: List[Action] = []
    switch = history.open_switch
    if switch is not None:
        to, came_from = switch["to"], switch.get("from")
        if history.stuck:
            # Tried once and left to a person, who may now deploy what mends it.
            actions.append(Action("cancel", to, "stuck: neither %s nor the release before it came up" % to))
        elif to == came_from:
            actions.append(Action("cancel", to, "%s was live before and still is" % to))
        elif current == to:
            actions.append(Action("settle", to, "unconfirmed: switched to %s, and nobody confirmed it" % to))
        elif history.switched:
            # The link is back, but nobody knows whether the service was restarted since.
            actions.append(Action("return", to, "returning from %s was cut short" % to))
        else:
            actions.append(Action("cancel", to, "the switch to %s did not happen" % to))
    actions += [
        Action("sweep", release, "%s is half made: the next command sweeps it" % release)
        for release in broken
        if release != current
    ]
    return actions


def look(layout: Layout, history: History) -> List[Action]:
    """The plan for this host as it is now. Reads only."""
    broken = [release for release in layout.present() if not marker.is_complete(layout, release)]
    return plan(history, layout.link_target(layout.current), broken)


def recover(session: Session) -> List[Dict[str, Any]]:
    """End what earlier runs left running, settle what they left open, sweep what they left half made. Bounded.

    Raises activate.Stuck where an open switch can be settled neither way, or never to the end; StepFailed where
    something runs that nobody here may end.
    """
    done: List[Dict[str, Any]] = []
    history = fold(session.book.records)
    actions = look(session.layout, history)
    _end_survivors(session, done)
    _sweep_scratch(session.layout)
    for action in actions:
        session.tell("recover", "started", "%s %s: %s" % (action.do, action.release, action.why))
        if action.do == "cancel":
            session.book.append("not-switched", release=action.release, cause=action.why)
        elif action.do in ("settle", "return"):
            _count(session, action, history)
            settled = activate.settle if action.do == "settle" else activate.finish_return
            done.append(settled(session, action.why))
            session.check = session.channel.check
            continue
        else:
            session.book.append("swept", release=action.release)
            remove_tree(session.layout.releases / action.release)
        done.append({"do": action.do, "release": action.release, "why": action.why})
    return done


def _count(session: Session, action: Action, history: History) -> None:
    """Write down that the switch is being settled once more. Raises activate.Stuck where that was cut off too often.

    Settling restarts the service: what kills the host program each time must not do so for ever.
    """
    if history.recoveries < MOST_RECOVERIES:
        session.book.append("recovering", release=action.release, why=action.why)
        return
    cause = "settling it was begun %d times and cut off each time" % history.recoveries
    intent = history.open_switch or {}
    session.book.append("stuck", release=action.release, to=intent.get("from"), cause=cause)
    raise activate.Stuck("%s: %s; nothing was restarted this time" % (action.why, cause))


def _end_survivors(session: Session, done: List[Dict[str, Any]]) -> None:
    """End what dead runs left: builds at once, a migration after its deadline, its outcome then unknown.

    Raises StepFailed naming what lives on: nothing may start beside it, and the journal must not call it ended.
    """
    _await_deadlines(session)
    found = survivors(session.book.records, str(session.layout.root))
    for kind in ("build", "hook"):
        ended = [pid for process in found[kind] for pid in end_tree(process)]
        if ended:
            session.book.append("ended", kind=kind, pids=ended[:50])
            done.append({"do": "end", "kind": kind, "pids": ended[:50]})
    left = left_running(session.book.records)
    living = {record["seq"] for record, _ in left}
    for record in unfinished(session.book.records):
        if record["seq"] not in living:
            session.book.note("child-done", child=record["seq"])
    if left:
        what = sorted({"%s, started by %s" % (describe(process), record["label"]) for record, process in left})
        cause = "an interrupted run's command is past its deadline and cannot be ended: %s" % "; ".join(what)
        raise StepFailed("recover", cause, "end it on the host as its user or root, then run the same command again")


def _await_deadlines(session: Session) -> None:
    """Wait while a command runs that must not be cut short, or may not be by this user, until its deadline."""
    told: Set[int] = set()
    while True:
        awaited = [
            (record, process)
            for record, process in left_running(session.book.records)
            if _remaining_s(record) > 0 and (record["label"] in hooks.TO_THEIR_END or is_foreign(process))
        ]
        if not awaited:
            return
        for record, process in awaited:
            if record["seq"] not in told:
                told.add(record["seq"])
                detail = "%s of an interrupted run still runs, for %.0f s at most: %s"
                words = (record["label"], _remaining_s(record), describe(process))
                session.tell("recover", "started", detail % words)
        session.check()
        time.sleep(0.1)


def _remaining_s(record: Record) -> float:
    """Until a child's deadline, and the moment that timeout(1) needs after it, by its own start time."""
    return float(record["deadline_s"]) + ENDING_S + started_s(Process(record["pid"], record["start"])) - up_s()


def _sweep_scratch(layout: Layout) -> None:
    for name in os.listdir(layout.tmp) if layout.tmp.exists() else []:
        remove_tree(layout.tmp / name)
    for folder, marks in ((layout.envs, (envs.MARKER, toolchain.MARKER)), (layout.wheels, (wheels.MARKER,))):
        for name in os.listdir(folder) if folder.exists() else []:
            if not any((folder / name / mark).exists() for mark in marks):
                remove_tree(folder / name)
    for link in (layout.current, layout.previous):
        for temp in layout.root.glob(".%s.*" % link.name):
            unlink_if_there(temp)
