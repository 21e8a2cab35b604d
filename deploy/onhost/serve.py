"""The conversation with the control side: a table of requests, one answer each, and what a dead line means.

Requests are ``{"t": "request", "op": OP, ...}``; answers ``{"t": "answer", "op": OP, "ok": true, ...}`` or, where it
failed, ``{"ok": false, "error": {"kind", "step", "cause", "next", "log", "switched", "current"}}``; ``switched: false``
says that no switch is open on this host. Between them go events and heartbeats.

    hello    run, operator, context, policy, means -> facts; with ``means`` (an operator) also whether those would run
    lock     holder                           -> seq, recovered, freeze (which lets this verb pass)
    resume   holder, seq                      -> seq, recovered, ending: what became of this run's switch
    offer    manifest, target, host_needs     -> need, problems
    (blobs)  {"t": "blob", sha256, size, zlib}, then B frames; {"t": "blobs-end"} -> received
    stage                                     -> facts of the release
    ready    release                          -> problems, the settings that its marker holds, recorded migrations
    hooks    release, point, once, verb       -> ran
    migrations  release, texts, undo, target  -> known, pending, failed; what the journal knows; how to undo
    record   release, known, unapplied        -> written down
    activate release, verb, operator          -> live | returned
    confirm | return                          -> settled
    probe    operator                         -> live
    verify   releases                         -> differences
    prune    keep, free, unit                 -> pruned, kept
    pin      releases, pinned                 -> changed
    freeze   reason, until, for_s             -> frozen
    thaw                                      -> was
    log      number                           -> records
    empty    (a ROOT for proof only)          -> emptied
    unlock                                    -> unlocked

``seq`` is the fencing number that ``lock`` granted; any request may carry it, and with another one it is refused.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from deploy.wire import framing
from deploy.wire import manifest as manifests
from deploy.wire.manifest import Manifest, Target
from deploy.wire.names import parse_release_id

from . import activate, facts, freeze, hooks, journal, log, marker, recovery, resume, seal, stage, sudo, switch, upkeep
from .channel import Channel, LineLost, from_standard_descriptors
from .children import become_subreaper
from .history import RunPast
from .hooks import Context
from .journal import Journal, NewerFormat
from .layout import Layout
from .lock import Busy, address
from .marker import NotARelease
from .migrations import answer as answer_about_migrations
from .migrations import record as record_migrations
from .readiness import answer as answer_readiness
from .receiving import Receiving
from .session import Policy, Session, StepFailed
from .store import hash_file

Answer = Dict[str, Any]

AS_ROOT = "logged in as root: use a deploy user, or set `allow_root: true` and `build_user`"


class NotNow(Exception):
    """The request does not fit what was said before: the control side has a bug, or is not ours."""


class Conversation:
    """One control side's requests on one host, in order."""

    def __init__(self, root: Path, channel: Channel, program_fd: int, program: str) -> None:
        self._session = Session(Layout(root), channel, program_fd, "", "", program)
        self._channel = channel
        self._context = Context("", "", (), "")
        self._manifest: Optional[Manifest] = None
        self._target: Optional[Target] = None
        self._live: Optional[Answer] = None
        self._settled: Optional[RunPast] = None
        self._seq: Optional[int] = None
        self._receiving = Receiving(self._session)
        self._requests: Dict[str, Callable[[Dict[str, Any]], Answer]] = {
            "hello": self._hello,
            "lock": self._lock,
            "resume": self._resume,
            "offer": self._offer,
            "blobs": self._blobs,
            "stage": self._stage,
            "ready": self._ready,
            "hooks": self._hooks,
            "migrations": self._migrations,
            "record": self._record,
            "activate": self._activate,
            "confirm": self._confirm,
            "return": self._return,
            "probe": self._probe,
            "verify": self._verify,
            "log": self._log,
            "empty": self._empty,
            "unlock": self._unlock,
            **dict.fromkeys(upkeep.REQUESTS, self._upkeep),
        }

    def run(self) -> None:
        """Answer until the control side ends or the line dies; then settle what is open."""
        try:
            while True:
                frame = self._channel.take()
                value = frame.json()
                if value.get("t") == "blob":
                    self._locked()
                    self._receiving.take(value)
                elif value.get("t") == "blobs-end":
                    self._answer({"op": "blobs"})
                else:
                    self._answer(value)
        except (LineLost, framing.BadFrame) as error:
            self._settle(str(error))

    def _answer(self, request: Dict[str, Any]) -> None:
        op = str(request.get("op"))
        answer: Answer = {"t": "answer", "op": op, "ok": True}
        try:
            if op not in self._requests:
                raise NotNow("unknown request %r" % op)
            if request.get("seq", self._seq) != self._seq and op not in ("hello", "resume"):
                raise resume.Fenced("sequence number %s is not the one granted" % request["seq"])
            answer.update(self._requests[op](request))
        except StepFailed as failure:
            answer.update(ok=False, error=dict(failure.to_json(), kind="failed"))
        except (Busy, freeze.Frozen) as held:
            answer.update(ok=False, error=held.to_json())
        except activate.Stuck as stuck:
            answer.update(_failed("stuck", "return", str(stuck), stuck.log))
        except resume.Fenced as fenced:
            answer.update(_failed("fenced", op, str(fenced)))
        except (NewerFormat, NotARelease, manifests.BadManifest, NotNow) as error:
            answer.update(_failed("refused", op, str(error)))
        except (LineLost, framing.BadFrame):
            raise
        except OSError as error:
            answer.update(_failed("failed", op, str(error)))
        except Exception as error:  # noqa: BLE001 - a bug must reach the operator
            answer.update(_failed("bug", op, repr(error), traceback.format_exc().splitlines()[-30:]))
        if not answer["ok"]:
            answer["error"]["switched"] = self._a_switch_is_open()
            answer["error"]["current"] = self._session.layout.link_target(self._session.layout.current)
        self._channel.send(answer)

    def _hello(self, request: Dict[str, Any]) -> Answer:
        session = self._session
        session.run, session.operator = str(request["run"]), str(request["operator"])
        session.policy = Policy(**request["policy"])
        context = request["context"]
        self._context = Context(context["stage"], context["host"], tuple(context["groups"]), context["verb"])
        found = facts.facts(session.layout)
        if found["uid"] == 0 and not session.policy.allow_root:
            found["problems"].append(AS_ROOT)
        if request.get("means") and not found["problems"]:
            found["problems"] += session.layout.exposed() + sudo.refusals(session, request["means"])
            if self._context.verb == "check":  # a deploy says later what exactly it needs
                found["problems"] += stage.room(session.layout)
        return {"facts": found}

    def _resume(self, request: Dict[str, Any]) -> Answer:
        holder = dict(request["holder"], **address())
        resume.take_lock(self._session, holder)
        granted = self._granted(holder, came_back_with=int(request["seq"]))
        past = self._session.book.history.run(self._session.run)
        self._settled = past if past.outcome == "live" else None
        return dict(granted, ending=resume.ending(past))

    def _lock(self, request: Dict[str, Any]) -> Answer:
        session = self._session
        if session.layout.is_for_proof and not Layout(session.layout.root.parents[1]).problems():
            session.layout.root.mkdir(mode=0o755, exist_ok=True)
        problems = session.layout.problems()
        if os.geteuid() == 0 and not session.policy.allow_root:
            problems.append(AS_ROOT)
        if problems:
            raise StepFailed("lock", "; ".join(problems), "`fab check` prints what to do")
        session.layout.make()
        holder = dict(request["holder"], **address())
        session.lock.take(holder)
        return self._granted(holder)

    def _granted(self, holder: Dict[str, Any], came_back_with: Optional[int] = None) -> Answer:
        """Open the journal, refuse whom somebody overtook, recover from earlier runs; with the lock just taken."""
        session = self._session
        try:
            session.journal = Journal(session.layout.journal, session.run)
            history = session.book.history
            frozen = freeze.standing(history)
            refused = {}
            if came_back_with is not None:
                resume.fence(history, session.run, came_back_with)
                mine = history.run(session.run)
                if mine.outcome == "stuck":
                    raise activate.Stuck(mine.cause)
            elif frozen and self._context.verb not in freeze.PASSES:
                refused = {"refused": "frozen"}
            self._seq = session.book.append("lock", **holder, **refused)["seq"]
            recovered = recovery.recover(session)  # a freeze never keeps a host unsettled
            if frozen and refused:
                raise freeze.Frozen(frozen)
        except BaseException:
            self._let_go()
            raise
        told = facts.facts(session.layout, session.book.history, but_run=session.run)
        return {"seq": self._seq, "recovered": recovered, "facts": told, "freeze": frozen}

    def _offer(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        self._manifest = manifests.from_bytes(manifests.canonical(request["manifest"]))
        self._target = self._manifest.targets[int(request["target"])]
        if self._manifest.release_id != request["release"]:
            raise NotNow("the manifest's digest names %s, not %s" % (self._manifest.release_id, request["release"]))
        if stage.is_present(self._session, self._manifest):
            return {"need": [], "problems": [], "present": True}
        asked: List[Dict[str, Any]] = request.get("host_needs") or []
        problems = stage.problems(self._session, self._manifest, self._target, asked)
        need = stage.needed(self._session, self._manifest, self._target)
        return {"need": need, "problems": problems, "present": False}

    def _blobs(self, _request: Dict[str, Any]) -> Answer:
        self._receiving.end()
        return {}

    def _stage(self, _request: Dict[str, Any]) -> Answer:
        self._locked()
        if self._manifest is None or self._target is None:
            raise NotNow("nothing was offered")
        # As a deploy does, also where a rollback stages something again: its hooks may be for deploys alone.
        context = self._context.doing("deploy")
        found = stage.stage(self._session, self._manifest, self._target, context)
        switch.leave_spare(self._session.layout, self._manifest.release_id)
        return {"facts": found}

    def _ready(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        return answer_readiness(self._session, self._context, parse_release_id(request["release"]))

    def _migrations(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        return answer_about_migrations(self._session, self._context, parse_release_id(request["release"]), request)

    def _record(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        return record_migrations(self._session, request["release"], request["known"], request["unapplied"])

    def _hooks(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        found = marker.read(self._session.layout, parse_release_id(request["release"]))
        context = self._context.doing(request["verb"])
        if request["point"] == "failed":
            activate.run_failed_hooks(self._session, context, found.id)
        else:
            hooks.run(self._session, context, found.manifest, request["point"], once=request["once"])
        return {}

    def _activate(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        if self._live is not None:
            raise NotNow("a switch is open")
        context = self._context.doing(request["verb"])
        outcome = activate.activate(self._session, context, parse_release_id(request["release"]), request["operator"])
        self._live = outcome if outcome["outcome"] == "live" else None
        return outcome

    def _confirm(self, _request: Dict[str, Any]) -> Answer:
        self._locked()
        if self._settled is not None:
            return {}  # it settled by itself, as well
        if self._live is None:
            raise NotNow("nothing is waiting to be confirmed")
        activate.confirm(self._session, self._live["proof"])
        self._live = None
        return {}

    def _return(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        if self._settled is not None:
            self._live = activate.reopen(self._session, self._settled)
            self._settled = None
        if self._live is None:
            raise NotNow("nothing is waiting to be returned")
        live, self._live = self._live, None
        if live["release"] == live["from"]:
            self._session.book.append("not-switched", release=live["release"], cause=request["why"])
            activate.run_failed_hooks(self._session, self._context, live["release"])
            return {"outcome": "unchanged", "release": live["release"], "from": live["from"]}
        return activate.give_back(self._session, StepFailed("fleet", str(request["why"])))

    def _probe(self, request: Dict[str, Any]) -> Answer:
        current = self._session.layout.link_target(self._session.layout.current)
        if current is None:
            return {"live": None, "well": False}
        found = marker.read(self._session.layout, current)
        well, proof = activate.probe_live(self._session, self._context, found, request["operator"])
        return {"live": proof, "well": well}

    def _verify(self, request: Dict[str, Any]) -> Answer:
        wrong: Dict[str, Any] = {}
        for name in request["releases"]:
            try:
                found = marker.read(self._session.layout, parse_release_id(name))
                wrong[name] = marker.differences(self._session.layout, found)
            except NotARelease as error:
                wrong[name] = [str(error)]
        return {"differences": wrong}

    def _upkeep(self, request: Dict[str, Any]) -> Answer:
        self._locked()
        if self._live is not None:
            raise NotNow("a switch is open")
        return upkeep.REQUESTS[request["op"]](self._session, request)

    def _log(self, request: Dict[str, Any]) -> Answer:
        return {"records": log.told(journal.read(self._session.layout.journal), int(request["number"]))}

    def _empty(self, _request: Dict[str, Any]) -> Answer:
        self._locked()
        self._session.layout.empty()
        return {}

    def _unlock(self, _request: Dict[str, Any]) -> Answer:
        if self._live is not None:
            raise NotNow("a switch is open")
        self._let_go()
        return {}

    def _let_go(self) -> None:
        """Give lock and journal back."""
        self._seq = None
        journal, self._session.journal = self._session.journal, None
        if journal is not None:
            journal.close()
        self._session.lock.release()

    def _locked(self) -> None:
        if not self._session.lock.is_held:
            raise NotNow("the lock is not held")

    def _a_switch_is_open(self) -> bool:
        book = self._session.journal
        return book is not None and book.history.open_switch is not None

    def _settle(self, why: str) -> None:
        """Nobody is there any more. An open switch is settled; received blobs stay; the lock goes with the process."""
        if self._live is not None:
            try:
                activate.settle(self._session, "the line was lost: %s" % why)
            except (activate.Stuck, OSError):
                pass  # journalled, if only as open; `status` shows it, and the next command goes on from there
        self._let_go()


def _failed(kind: str, step: str, cause: str, log: Sequence[str] = ()) -> Answer:
    error = {"kind": kind, "step": step, "cause": cause, "next": "", "log": list(log)}
    return {"ok": False, "error": error}


def program_digest(path: str) -> str:
    """The sha256 that this program was shipped under, from the file it runs from."""
    with open(path, "rb") as file:
        return hash_file(file)


def serve(root: str, program_fd: int) -> None:
    """Speak with the control side over descriptors 0 and 1 until it ends."""
    os.umask(0o022)
    os.chdir("/")
    channel = from_standard_descriptors()
    become_subreaper()
    seal.prctl(seal.PR_SET_DUMPABLE, 0)  # a sealed child of the same user must not write into this process's memory
    channel.start()
    Conversation(
        Path(os.path.realpath(root)), channel, program_fd, program_digest("/proc/self/fd/%d" % program_fd)
    ).run()
