"""Point ``current`` at a staged release, restart, check health, prove what is live, or point it back.

Deploy and rollback are one code path.
After the switch a lost line no longer stops the work: the host settles by itself (``settle``), keeps a healthy release
and returns from an unhealthy one. The switch's intent is journalled with all that settling needs.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any, Dict, List, Mapping, Sequence

from deploy.wire.names import ReleaseId, parse_release_id

from . import health, hooks, live, marker, readiness, switch
from .health import Answer
from .history import Record, RunPast, rollback_target
from .hooks import Configured, Context
from .layout import unlink_if_there
from .marker import NotARelease, Release
from .processes import boot_id, up_s
from .session import Session, StepFailed

Operator = Mapping[str, Any]
"""The control machine's settings for this host: ``restart``, ``stop`` (commands or None), ``health`` (or None)."""


RETURN_TRIES, RETURN_PAUSE_S = 3, 5.0
"""Restarts on the way back: systemd refuses a sixth start within ten seconds (systemd.unit(5), StartLimitIntervalSec),
which a release that dies at once has used up."""


class Stuck(Exception):
    """Returning failed as well: a person must look. Nothing is tried again, nothing is pruned."""

    def __init__(self, what: str, log: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.log = list(log)


def ready(session: Session, release: ReleaseId) -> Release:
    """Check that a release can be switched to: marker, every byte, an interpreter that runs. Raises StepFailed."""
    found, wrong = readiness.intact(session, release)
    if found is None or wrong:
        raise StepFailed("verify", "; ".join(wrong), readiness.AGAIN)
    return found


def activate(session: Session, context: Context, release: ReleaseId, operator: Operator) -> Dict[str, Any]:
    """Switch, restart, wait for health. Returns ``outcome`` live or returned; raises StepFailed where nothing switched.

    Raises Stuck where the way back failed too.
    """
    found = ready(session, release)
    came_from = session.layout.link_target(session.layout.current)
    session.book.append(
        "switch",
        to=release,
        verb=context.verb,
        operator=dict(operator),
        context=_context_json(context),
        **{"from": came_from},
    )
    session.check = _unheard
    try:
        if came_from != release:
            with session.step("switch", release):
                switch.point(session.layout, session.layout.current, release)
        session.book.append("switched", to=release, **_now())
        proof = (
            _bring_up(session, context, found, operator)
            if came_from != release
            else _renew(session, context, found, operator)
        )
    except Exception as error:  # a bug after the switch is given back like any other failure
        failure = _failure("switch", error)
        if came_from == release:
            raise _not_renewed(session, release, failure) from error
        return give_back(session, failure)
    return {"outcome": "live", "release": release, "from": came_from, "proof": proof}


def confirm(session: Session, proof: str, why: str = "") -> None:
    """Settle an open switch as good: the release counts as live from here on."""
    intent = _open(session)
    release = parse_release_id(intent["to"])
    session.book.append("confirmed", release=release, verb=intent["verb"], proof=proof, why=why)
    keep_previous(session)


def give_back(session: Session, failure: StepFailed) -> Dict[str, Any]:
    """Return from an open switch to the release it came from, restart that, check it. Raises Stuck."""
    intent = _open(session)
    session.check = _unheard
    release, came_from = parse_release_id(intent["to"]), intent.get("from")
    context = _context(intent["context"])
    operator: Operator = intent["operator"]
    session.tell("return", "started", "to %s" % (came_from or "nothing live, as before"), cause=failure.to_json())
    with contextlib.suppress(OSError):  # a full disk keeps nobody from returning
        session.book.append("returning", release=release, to=came_from)
    try:
        if came_from:
            old = marker.read(session.layout, parse_release_id(came_from))
            switch.point(session.layout, session.layout.current, old.id)
            _bring_up(session, context, old, operator, tries=RETURN_TRIES)
        else:
            _stop(session, context, release, operator)
            switch.withdraw(session.layout)
    except Exception as error:  # whatever it was, a person must look
        _note(session, "stuck", release=release, to=came_from, cause=str(error)[:1000])
        session.tell("return", "failed", str(error))
        what = "%s failed (%s), and returning to %s failed too: %s" % (release, failure, came_from, error)
        raise Stuck(what, failure.log + (error.log if isinstance(error, StepFailed) else [])) from error
    _note(session, "returned", release=release, to=came_from, cause=str(failure)[:1000], **_now())
    session.tell("return", "done", "to %s" % (came_from or "nothing live"))
    keep_previous(session)
    run_failed_hooks(session, context, release)
    return {"outcome": "returned", "release": release, "from": came_from, "failure": failure.to_json()}


def _now() -> Dict[str, Any]:
    """When ``current`` was pointed, to be compared with the start of processes."""
    return {"boot": boot_id(), "up_s": round(up_s(), 2)}


def _note(session: Session, what: str, **fields: Any) -> None:
    """Journal how a return ended. What became of the service is told even where that cannot be written."""
    try:
        session.book.append(what, **fields)
    except OSError as error:
        session.tell("journal", "warned", "%s was not written down, the next run returns once more: %s" % (what, error))


def settle(session: Session, why: str) -> Dict[str, Any]:
    """Decide an open switch without its operator: a healthy release stays, an unhealthy one goes back. Raises Stuck."""
    intent = _open(session)
    release = parse_release_id(intent["to"])
    session.check = _unheard
    history = session.book.history
    renewed = release == intent.get("from")
    # Killed before the restart, the process of the old release would answer, and be taken for the new one.
    restarted = history.restarted == release and history.restarted_boot in ("", boot_id())
    settled = _healthy if restarted else _renew if renewed else _bring_up
    try:
        if not history.switched:  # killed right after rename(2); from here on only a return undoes it
            session.book.append("switched", to=release, **_now())
        found = marker.read(session.layout, release)
        proof = settled(session, _context(intent["context"]), found, intent["operator"])
    except Exception as error:  # what cannot be shown to be well goes back
        if renewed:
            raise _not_renewed(session, release, _failure("settle", error)) from error
        return give_back(session, _failure("settle", error))
    confirm(session, proof, why)
    return {"outcome": "live", "release": release, "from": intent.get("from"), "proof": proof, "settled": why}


def _not_renewed(session: Session, release: ReleaseId, failure: StepFailed) -> Stuck:
    """Nothing was switched, so there is nothing to return to; its restart was tried: a person must say what runs."""
    session.book.append("not-switched", release=release, cause=str(failure)[:1000], stuck=True)
    return Stuck("%s is what `current` names, and it does not come up: %s" % (release, failure), failure.log)


def finish_return(session: Session, why: str) -> Dict[str, Any]:
    """Return once more from a switch whose return was cut short. Raises Stuck."""
    return give_back(session, StepFailed("recover", why))


def reopen(session: Session, past: RunPast) -> Dict[str, Any]:
    """Open a switch of this run again that settled by itself, so that it can be returned from; gives its outcome."""
    mine = [r for r in session.book.records if r["what"] == "switch" and r["run"] == past.run and r["to"] == past.to]
    intent = {name: mine[-1].get(name) for name in ("to", "verb", "operator", "context", "from")}
    # Whoever is killed from here on is followed by one that goes on with the return.
    session.book.append("switch", **intent, returning=past.to != past.came_from)
    session.book.append("switched", to=past.to, **_now())
    return {"outcome": "live", "release": past.to, "from": past.came_from, "proof": past.proof}


def run_failed_hooks(session: Session, context: Context, release: ReleaseId) -> None:
    """Tell the service's owner that something failed; a failing ``failed`` hook changes nothing any more."""
    try:
        hooks.run(session, context, marker.read(session.layout, release).manifest, "failed")
    except (StepFailed, NotARelease) as error:
        session.tell("failed", "warned", str(error))


def probe_live(session: Session, context: Context, release: Release, operator: Operator) -> tuple[bool, str]:
    """Ask once, for ``status``: whether the live release is well and what proves it. Changes nothing."""
    if not operator.get("health"):
        return True, live.UNPROVEN
    answer = _ask(session, context, release, operator, health.ONE_ANSWER_S)
    seen = _witnesses(operator, answer)
    wrong = live.contradiction(session.layout, release.id, answer, seen) if answer.ok else answer.text
    return wrong is None, wrong or live.proof(session.layout, release.id, answer, seen)


def _bring_up(session: Session, context: Context, release: Release, operator: Operator, *, tries: int = 1) -> str:
    if operator.get("restart"):
        _command(session, context, release, operator["restart"], "restart", tries=tries)
        session.book.append("restarted", release=release.id, boot=boot_id())
    return _healthy(session, context, release, operator)


def _renew(session: Session, context: Context, release: Release, operator: Operator) -> str:
    """The release asked for is live already: leave one alone that is proven well, restart any other."""
    well, proof = probe_live(session, context, release, operator)
    return proof if well and proof != live.UNPROVEN else _bring_up(session, context, release, operator)


def _healthy(session: Session, context: Context, release: Release, operator: Operator) -> str:
    settings = operator.get("health")
    if not settings:
        return live.UNPROVEN
    with session.step("health", settings.get("url") or settings.get("socket") or "command"):
        verdict = health.wait(
            settings,
            lambda within_s: _ask(session, context, release, operator, within_s),
            session.check,
            lambda answer: live.contradiction(session.layout, release.id, answer, _witnesses(operator, answer)),
        )
        if not verdict.ok:
            cause = "not healthy within %g s: %s" % (settings["timeout_s"], verdict.last.text)
            raise StepFailed("health", cause, _where_it_logs(operator))
    return live.proof(session.layout, release.id, verdict.last, _witnesses(operator, verdict.last))


def _where_it_logs(operator: Operator) -> str:
    restart: Mapping[str, Any] = operator.get("restart") or {"run": ""}
    text = restart["run"] if isinstance(restart["run"], str) else " ".join(map(str, restart["run"]))
    named = re.search(r"\bsystemctl (--user )?(?:try-)?(?:reload-or-)?restart ([\w@:.-]+)", text)
    if not named:
        return "read the service's own log on the host"
    return "on the host: journalctl %s-n 50 -u %s" % (named.group(1) or "", named.group(2))


def _ask(session: Session, context: Context, release: Release, operator: Operator, within_s: float) -> Answer:
    settings: Mapping[str, Any] = operator["health"]
    if not settings.get("command"):
        return health.ask_http(settings, str(session.layout.root), within_s)
    command = settings["command"]
    finished = hooks.configured(session, context, release.manifest, _configured(command, "health"))
    return Answer(finished.ok, "command: " + (finished.cause() if not finished.ok else "exit status 0"))


def _command(
    session: Session, context: Context, release: Release, command: Mapping[str, Any], step: str, *, tries: int = 1
) -> None:
    """Run one; where it ends by itself and badly, again after a pause, ``tries`` times at most. Raises StepFailed."""
    with session.step(step, str(command["run"])):
        while True:
            finished = hooks.configured(session, context, release.manifest, _configured(command, step))
            if finished.ok:
                return
            tries -= 1
            cause = "%s command `%s`: %s" % (step, command["run"], finished.cause())
            if tries <= 0 or finished.timed_out or finished.left:
                raise StepFailed(step, cause, _where_it_logs({"restart": command}), finished.tail(40))
            session.tell(step, "warned", "%s; again in %g s" % (cause, RETURN_PAUSE_S))
            time.sleep(RETURN_PAUSE_S)


def _stop(session: Session, context: Context, release: ReleaseId, operator: Operator) -> None:
    if operator.get("stop"):
        try:
            _command(session, context, marker.read(session.layout, release), operator["stop"], "stop")
        except (StepFailed, NotARelease) as error:
            session.tell("stop", "warned", str(error))


def keep_previous(session: Session) -> None:
    """Show people where a bare rollback would go. The journal decides; failing to write it is only told."""
    layout = session.layout
    complete = marker.complete(layout)
    target = rollback_target(session.book.history, layout.link_target(layout.current), complete)
    try:
        if target:
            if layout.link_target(layout.previous) != target:
                switch.point(layout, layout.previous, target)
        else:
            unlink_if_there(layout.previous)
    except (OSError, switch.NotSwitched) as error:
        session.tell("previous", "warned", str(error))
    try:
        switch.mend_spares(layout, complete)  # one that was exchanged in, then switched away from with room, has none
    except (OSError, switch.NotSwitched) as error:
        session.tell("previous", "warned", str(error))


def _failure(step: str, error: Exception) -> StepFailed:
    if isinstance(error, StepFailed):
        return error
    return StepFailed(
        step, str(error) if isinstance(error, (OSError, switch.NotSwitched, NotARelease)) else repr(error)
    )


def _unheard() -> None:
    """After the switch the host finishes or returns, whoever still listens."""


def _open(session: Session) -> Record:
    intent = session.book.history.open_switch
    if intent is None:
        raise RuntimeError("no switch is open")
    return intent


def _witnesses(operator: Operator, answer: Answer) -> List[int]:
    settings: Mapping[str, Any] = operator["health"]
    where = health.address(settings)
    here = where is not None and where[0] in ("127.0.0.1", "localhost", "::1")
    return live.witnesses(answer, port=where[1] if where and here else None, unit=settings.get("unit"))


def _configured(command: Mapping[str, Any], label: str) -> Configured:
    run = command["run"]
    argv = ["/bin/sh", "-c", run] if isinstance(run, str) else [str(word) for word in run]
    return Configured(argv, label, float(command["timeout_s"]), command.get("user"))


def _context_json(context: Context) -> Dict[str, Any]:
    return {"stage": context.stage, "host": context.host, "groups": list(context.groups), "verb": context.verb}


def _context(value: Mapping[str, Any]) -> Context:
    return Context(value["stage"], value["host"], tuple(value["groups"]), value["verb"])
