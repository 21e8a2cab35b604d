"""What an interrupted run left behind, and what is done about it: a pure decision, then one action after the other.

``plan`` decides from journal and disk alone; ``recover`` acts, only under the lock, at the start of every mutating
command. Read-only commands show the plan. What acts may be killed at any instruction: the next one plans anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from deploy.wire.names import ReleaseId, parse_release_id

from . import activate, envs, hooks, marker, toolchain, wheels
from .children import ENDING_S
from .history import History
from .journal import Record
from .layout import Layout, remove_tree, unlink_if_there
from .processes import Process, describe, end_tree, is_foreign, left_running, started_s, survivors, unfinished, up_s
from .session import Session, StepFailed

MOST_RECOVERIES = 3
"""How often one switch is settled, and the service restarted for it, before a person must look."""


@dataclass(frozen=True)
class Action:
    """One thing to do: ``settle``, ``return``, ``give up`` or ``cancel`` a switch, or ``sweep`` a BROKEN release."""

    do: str
    release: str
    why: str


def plan(history: History, current: Optional[ReleaseId], broken: Sequence[ReleaseId]) -> List[Action]:
    """Decide what recovery does. Pure; the same answer however often it is asked."""
    found = [] if history.open_switch is None else [_of_the_switch(history, history.open_switch, current)]
    return found + [
        Action("sweep", release, "%s is half made: the next command sweeps it" % release)
        for release in broken
        if release != current
    ]


def _of_the_switch(history: History, switch: Record, current: Optional[ReleaseId]) -> Action:
    to, came_from = switch["to"], switch.get("from")
    if history.stuck:
        # Tried once and left to a person, who may now deploy what mends it.
        return Action("cancel", to, "stuck: neither %s nor the release before it came up" % to)
    if current not in (None, to, came_from):
        return Action("cancel", to, "`current` was pointed at %s by other hands" % current)
    if current == to and not history.returning:
        why = "unconfirmed: switched to %s, and nobody confirmed it"
        action = Action("settle", to, (why if to != came_from else "restarting %s was cut short") % to)
    elif history.switched or history.returning:
        # The link may be back, but nobody knows whether the service was restarted since.
        action = Action("return", to, "returning from %s was cut short" % to)
    else:
        return Action("cancel", to, "the switch to %s did not happen" % to)
    if history.recoveries < MOST_RECOVERIES:
        return action
    times = "settling it was begun %d times and cut off each time" % history.recoveries
    return Action("give up", to, "%s: %s" % (action.why, times))


def look(layout: Layout, history: History) -> List[Action]:
    """The plan for this host as it is now. Reads only. What prune had begun to delete is as good as BROKEN."""
    broken = [r for r in layout.present() if r in history.deleted or not marker.is_complete(layout, r)]
    return plan(history, layout.link_target(layout.current), broken)


def recover(session: Session) -> List[Dict[str, Any]]:
    """End what earlier runs left running, settle what they left open, sweep what they left half made. Bounded.

    Raises activate.Stuck where an open switch can be settled neither way, or never to the end; StepFailed where
    something runs that nobody here may end.
    """
    done: List[Dict[str, Any]] = []
    actions = [action for action in _looked(session) if action.do != "sweep"]
    for action in actions:
        if action.do == "give up":
            _give_up(session, action)
    _end_survivors(session, done)
    _sweep_scratch(session)
    done += [_settled(session, action) for action in actions]
    # Looked again: what was returned from may be half made as well.
    done += [_swept(session, action) for action in _looked(session)]
    _write_down_staged(session)
    activate.keep_previous(session)
    return done


def _write_down_staged(session: Session) -> None:
    """A run that was killed between a release's marker and its record had staged it all the same."""
    history = session.book.history
    for release in marker.complete(session.layout):
        past = history.releases.get(release)
        if past is not None and past.staged_at and not past.staged_seq:
            with contextlib.suppress(marker.NotARelease):
                facts = marker.read(session.layout, release).facts
                session.book.append("staged", release=release, sealed=facts.get("sealed", ""))


def _looked(session: Session) -> List[Action]:
    return look(session.layout, session.book.history)


def _settled(session: Session, action: Action) -> Dict[str, Any]:
    """Settle, return or cancel the open switch. Raises activate.Stuck."""
    session.tell("recover", "started", "%s %s: %s" % (action.do, action.release, action.why))
    if action.do == "cancel":
        session.book.append("not-switched", release=action.release, cause=action.why)
        return {"do": action.do, "release": action.release, "why": action.why}
    # Settling restarts the service: what kills the host program each time must not do so for ever.
    session.book.append("recovering", release=action.release, why=action.why)
    settled = activate.settle if action.do == "settle" else activate.finish_return
    found = settled(session, action.why)
    session.check = session.channel.check
    return found


def _swept(session: Session, action: Action) -> Dict[str, Any]:
    session.tell("recover", "started", "%s %s: %s" % (action.do, action.release, action.why))
    session.book.append("swept", release=action.release)
    _removing(session, lambda: session.layout.remove_release(parse_release_id(action.release)))
    return {"do": action.do, "release": action.release, "why": action.why}


def _give_up(session: Session, action: Action) -> None:
    """Leave the service and all that runs to a person, untouched. Raises activate.Stuck.

    What a restart left running is the service itself: no later run hunts it as the remains of a command.
    """
    intent = session.book.history.open_switch or {}
    session.book.append("stuck", release=action.release, to=intent.get("from"), cause=action.why)
    for record in unfinished(session.book.records):
        if record["label"] == "restart":
            session.book.note("child-done", child=record["seq"])
    raise activate.Stuck("%s; nothing was restarted this time" % action.why)


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


def _removing(session: Session, remove: Callable[[], None]) -> None:
    """What cannot be removed (somebody else wrote into it) is told, and keeps nobody from deploying or going back."""
    try:
        remove()
    except OSError as error:
        session.tell("recover", "warned", "cannot be removed, and is left: %s" % error)


def _sweep_scratch(session: Session) -> None:
    layout = session.layout
    for name in os.listdir(layout.tmp) if layout.tmp.exists() else []:
        _removing(session, lambda path=layout.tmp / name: remove_tree(path))  # type: ignore[misc]
    for folder, marks in ((layout.envs, (envs.MARKER, toolchain.MARKER)), (layout.wheels, (wheels.MARKER,))):
        for name in os.listdir(folder) if folder.exists() else []:
            if not any((folder / name / mark).exists() for mark in marks):
                _removing(session, lambda path=folder / name: remove_tree(path))  # type: ignore[misc]
    for name in os.listdir(layout.programs) if layout.programs.exists() else []:
        if not name.endswith(".pyz"):  # a loader's that was killed; one that lives goes on from memory
            unlink_if_there(layout.programs / name)
    for link in (layout.current, layout.previous):
        for temp in layout.root.glob(".%s.*" % link.name):
            unlink_if_there(temp)
