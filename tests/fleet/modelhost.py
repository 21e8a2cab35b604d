"""A host in memory that answers as ``deploy/onhost/serve.py`` does: same requests, same journal, no disk, no process.

Its past is the real fold over the records it writes, and what recovery does is the real plan. What the real program
does with files and processes is here a few words: which releases are ill, which hooks fail, whether the way back works.
``tests/fleet/test_simulator.py`` holds the same conversations with a real host program and compares the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.onhost import facts, history, recovery, resume
from deploy.wire import commands, states
from deploy.wire import manifest as manifests
from deploy.wire.manifest import Manifest

Answer = dict[str, Any]
PROOF = "proven by the model"
PARSED: dict[str, Manifest] = {}
"""Manifests by release id: 300 hosts need not each parse the same one."""


class Killed(Exception):
    """The host program died in the middle of a request; nobody is left to settle anything."""


class Failed(Exception):
    """A step failed; the real program's StepFailed."""

    def __init__(self, step: str, cause: str) -> None:
        super().__init__(cause)
        self.step, self.cause = step, cause


class Stuck(Exception):
    """Neither forth nor back."""


class Busy(Exception):
    """Somebody else holds the lock."""


@dataclass
class ModelHost:
    """What lies on one host, and what is wrong with it."""

    name: str
    records: list[dict[str, Any]] = field(default_factory=list)
    releases: dict[str, Manifest] = field(default_factory=dict)
    """The complete ones."""
    broken: set[str] = field(default_factory=set)
    current: str | None = None
    holder: Conversation | None = None
    foreign: str = ""
    """Somebody else who holds the lock."""
    problems: list[str] = field(default_factory=list)
    ill: set[str] = field(default_factory=set)
    """Releases that do not become healthy here."""
    flapping: set[str] = field(default_factory=set)
    """Releases that are well when they start, and never again."""
    rotten: set[str] = field(default_factory=set)
    """Releases of which a byte has changed since they were staged, as the last check before the switch finds."""
    no_room: bool = False
    stages_badly: bool = False
    cannot_return: bool = False
    bad_hooks: set[str] = field(default_factory=set)
    hooks_ran: list[tuple[str, str]] = field(default_factory=list)
    before: str | None = None
    """What was live when the last run was granted the lock, or first asked."""
    fired: Counter[str] = field(default_factory=Counter)
    """What went wrong here, by kind."""

    _folded: tuple[int, history.History] | None = None

    @property
    def past(self) -> history.History:
        """What the journal says; folded once for as long as nothing is added."""
        if self._folded is None or self._folded[0] != len(self.records):
            self._folded = (len(self.records), history.fold(self.records))
        return self._folded[1]

    @property
    def pending(self) -> list[recovery.Action]:
        """What the next mutating command does first."""
        return recovery.plan(self.past, self.current, sorted(self.broken))  # type: ignore[arg-type]

    def append(self, run: str, what: str, **fields: Any) -> dict[str, Any]:
        """Write one record."""
        record = {"what": what, "seq": len(self.records) + 1, "run": run, "at": float(len(self.records)), **fields}
        self.records.append(record)
        return record

    def facts(self, but_run: str = "") -> Answer:
        """What ``deploy/onhost/facts.py`` says."""
        past = self.past
        complete: list[Any] = sorted(self.releases)
        unknown = [f"{point} hook `{text}` was cut off, its outcome is unknown" for point, text in past.unknown_hooks]
        return {
            "python": "3.11.2", "platform": "linux_x86_64", "user": "deploy", "uid": 1000, "clock": 0.0, "format": 1,
            "problems": list(self.problems), "free_bytes": 1 << 40, "free_inodes": 1 << 20, "env_keys": [],
            "current": self.current, "previous": None, "releases": self._rows(past),
            "freeze": None,
            "rollback_candidates": history.rollback_candidates(past, self.current, complete),  # type: ignore[arg-type]
            "gone": history.gone(past, self.current, complete),  # type: ignore[arg-type]
            "pending": [action.why for action in self.pending] + unknown,
            "unknown_hooks": [list(key) for key in past.unknown_hooks],
            "lease": facts._lease(past), "runs": facts._runs(past, but_run),
            "lock": self._lock_text(),
        }  # fmt: skip

    def _lock_text(self) -> Answer | None:
        if self.foreign:
            return {"by": self.foreign, "verb": "deploy"}
        return {"by": "tester", "run": self.holder.run} if self.holder else None

    def _rows(self, past: history.History) -> list[Answer]:
        rows: list[Answer] = []
        for release in sorted({*self.releases, *self.broken}):
            one = past.past(release)
            state = states.observed(
                directory=True, marker=release in self.releases, is_current=release == self.current,
                was_live=one.was_active,
            )  # fmt: skip
            rows.append({
                "release": release, "tag": one.tag or release[:-9], "commit": one.commit, "state": state.value,
                "bad": one.bad, "seq": max(one.live_seq, one.staged_seq), "live_seq": one.live_seq,
                "staged_at": one.staged_at, "live_at": one.live_at, "by": one.by, "sealed": one.sealed,
                "proof": one.proof, "pinned": None, "lived": one.live_seq > 0 or release in past.pruned,
            })  # fmt: skip
        return sorted(rows, key=lambda row: int(row["seq"]), reverse=True)


class Conversation:
    """One line's requests on a model host, as ``serve.Conversation`` answers them."""

    def __init__(self, host: ModelHost) -> None:
        self.host = host
        self.run = ""
        self.verb = ""
        self.levels: list[str] = []
        self.live: Answer | None = None
        self.settled: history.RunPast | None = None
        self.seq: int | None = None
        self.manifest: Manifest | None = None
        self.dies_in: str = ""
        """The point at which the program is killed: ``switch``, ``restart``, ``hook`` or ``return``."""
        self._requests: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "hello": self._hello, "lock": self._lock, "resume": self._resume, "offer": self._offer,
            "blobs": self._blobs, "stage": self._stage, "ready": self._ready, "hooks": self._hooks,
            "activate": self._activate, "confirm": self._confirm, "return": self._return, "probe": self._probe,
            "prune": self._prune, "unlock": self._unlock,
        }  # fmt: skip

    def answer(self, op: str, request: Mapping[str, Any]) -> Answer:
        """Answer one request; raises Killed where the program does not live to see its end."""
        answer: Answer = {"t": "answer", "op": op, "ok": True}
        error: Answer = {"kind": "failed", "step": op, "next": "", "log": []}
        try:
            self._fence(op, request)
            answer.update(self._requests[op](request))
            return answer
        except Failed as failure:
            error.update(step=failure.step, cause=failure.cause)
        except Busy:
            error = {"kind": "locked", "holder": self.host._lock_text()}
        except Stuck as stuck:
            error.update(kind="stuck", step="return", cause=str(stuck))
        except resume.Fenced as fenced:
            error.update(kind="fenced", cause=str(fenced))
        error["switched"] = self.host.past.open_switch is not None and self.host.holder is self
        error["current"] = self.host.current
        return {"t": "answer", "op": op, "ok": False, "error": error}

    def end(self) -> None:
        """The line is gone: settle what is open, free the lock."""
        if self.host.holder is not self:
            return
        try:
            if self.live is not None:
                self._settle("the line was lost")
        except (Stuck, Killed):
            pass
        self.host.holder = None
        self.live = None

    def kill(self) -> None:
        """Nobody settles anything."""
        self.live = None
        if self.host.holder is self:
            self.host.holder = None

    def _fence(self, op: str, request: Mapping[str, Any]) -> None:
        if request.get("seq", self.seq) != self.seq and op not in ("hello", "resume"):
            raise resume.Fenced(f"sequence number {request['seq']} is not the one granted")

    def _hello(self, request: Mapping[str, Any]) -> Answer:
        context = request["context"]
        self.run, self.verb = request["run"], context["verb"]
        self.host.fired["not fit"] += bool(self.host.problems)
        self.levels = commands.levels(context["stage"], context["groups"], context["host"])
        return {"facts": self.host.facts()}

    def _lock(self, request: Mapping[str, Any]) -> Answer:
        if self.host.problems:
            raise Failed("lock", "; ".join(self.host.problems))
        if self.host.foreign or self.host.holder not in (None, self):
            self.host.fired["locked"] += 1
            raise Busy
        self.host.holder = self
        return self._granted(request["holder"])

    def _resume(self, request: Mapping[str, Any]) -> Answer:
        if self.host.foreign:
            raise Busy
        if self.host.holder and self.host.holder.run == self.run:
            self.host.holder.end()  # time passes until it has settled
        if self.host.holder:
            raise Busy
        self.host.holder = self
        granted = self._granted(request["holder"], int(request["seq"]))
        past = self.host.past.run(self.run)
        self.settled = past if past.outcome == "live" else None
        return {**granted, "ending": resume.ending(past)}

    def _granted(self, holder: Mapping[str, Any], came_back_with: int | None = None) -> Answer:
        try:
            past = self.host.past
            if came_back_with is not None:
                resume.fence(past, self.run, came_back_with)
                if past.stuck:
                    raise Stuck(past.run(self.run).cause)
            self.seq = self.host.append(self.run, "lock", **{k: v for k, v in holder.items() if k != "run"})["seq"]
            recovered = self._recover()
            if came_back_with is None:
                self.host.before = self.host.current
        except BaseException:
            self.host.holder = None
            raise
        return {"seq": self.seq, "recovered": recovered, "facts": self.host.facts(self.run)}

    def _recover(self) -> list[Answer]:
        done: list[Answer] = []
        for action in self.host.pending:
            if action.do == "cancel":
                self.host.append(self.run, "not-switched", release=action.release, cause=action.why)
            elif action.do == "sweep":
                self.host.append(self.run, "swept", release=action.release)
                self.host.broken.discard(action.release)
            else:
                self.host.append(self.run, "recovering", release=action.release, why=action.why)
                done.append(self._settle(action.why) if action.do == "settle" else self._give_back(action.why))
                continue
            done.append({"do": action.do, "release": action.release, "why": action.why})
        return done

    def _offer(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        release = request["release"]
        if release not in PARSED:
            PARSED[release] = manifests.from_bytes(manifests.canonical(request["manifest"]))
        self.manifest = PARSED[release]
        if release in self.host.releases:
            return {"need": [], "problems": [], "present": True}
        self.host.fired["no room"] += self.host.no_room
        problems = ["no room: 32 MB are free, 64 MB are needed"] if self.host.no_room else []
        return {"need": sorted(self.manifest.sizes), "problems": problems, "present": False}

    def _stage(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        assert self.manifest
        release = self.manifest.release_id
        if release not in self.host.releases:
            self.host.append(self.run, "stage", release=release, tag=self.manifest.tag, commit=self.manifest.commit)
            if self.host.stages_badly:
                self.host.fired["staging failed"] += 1
                raise Failed("build", "exit status 1")
            self.host.append(self.run, "staged", release=release, sealed="kernel")
            self.host.releases[release] = self.manifest
        return {"facts": {}}

    def _ready(self, request: Mapping[str, Any]) -> Answer:
        found = self.host.releases.get(request["release"])
        problem = {"cause": f"{request['release']} is not a complete release", "next": "", "mends": True, "log": []}
        return {
            "problems": [] if found else [problem],
            "settings": dict(found.settings) if found else {},
            "migrations": {"known": None, "current": None, "applied": []},
        }

    def _hooks(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        point, once = request["point"], request["once"]
        settings = self.host.releases[request["release"]].settings
        for hook in commands.hooks_of(settings, point, request["verb"], self.levels):
            if hook.once == (once is not None) and (once is None or hook.text in once):
                self._hook(point, hook, request["release"])
        return {}

    def _hook(self, point: str, hook: commands.Hook, release: str) -> None:
        if hook.once and not hook.idempotent and (point, hook.text) in self.host.past.unknown_hooks:
            raise Failed(point, f"{point} hook `{hook.text}` began before and was cut off: its outcome is unknown")
        intent = self.host.append(self.run, "hook", point=point, text=hook.text, release=release, once=hook.once)
        self._die("hook")
        self.host.hooks_ran.append((point, hook.text))
        well = point not in self.host.bad_hooks
        self.host.append(
            self.run, "hook-done", intent=intent["seq"], point=point, outcome="ok" if well else "exit status 1"
        )
        if not well and point != "failed":
            self.host.fired["hook failed"] += 1
            raise Failed(point, f"{point} hook `{hook.text}`: exit status 1")

    def _activate(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        release = request["release"]
        if release in self.host.rotten:
            self.host.fired["refused before the switch"] += 1
            raise Failed("verify", f"{release} is not as it was staged: altered: src/app.py")
        if release not in self.host.releases:
            raise Failed("verify", f"{release} is not a complete release")
        came_from = self.host.current
        self.host.append(self.run, "switch", to=release, verb=request["verb"], **{"from": came_from})
        self._die("switch")
        self.host.current = release
        self.host.append(self.run, "switched", to=release)
        try:
            self._bring_up(release)
        except Failed as failure:
            if came_from == release:
                self.host.append(self.run, "not-switched", release=release, cause=failure.cause)
                raise Stuck(f"{release} does not come up: {failure}") from None
            return self._give_back(str(failure), failure)
        self.live = {"outcome": "live", "release": release, "from": came_from, "proof": PROOF}
        return self.live

    def _bring_up(self, release: str) -> None:
        self._die("restart")
        self.host.append(self.run, "restarted", release=release)
        if release in self.host.ill:
            self.host.fired["unhealthy"] += 1
            raise Failed("health", "not healthy within 60 s: status 500")

    def _give_back(self, why: str, failure: Failed | None = None) -> Answer:
        intent = self.host.past.open_switch
        assert intent
        release, came_from = intent["to"], intent["from"]
        self._die("return")
        if self.host.cannot_return:
            self.host.fired["return failed"] += 1
            self.host.append(self.run, "stuck", release=release, to=came_from, cause=why)
            self.live = None
            raise Stuck(f"{release} failed ({why}), and returning to {came_from} failed too")
        self.host.current = came_from
        self.host.append(self.run, "returned", release=release, to=came_from, cause=why)
        self.live = None
        failed = {"step": failure.step if failure else "fleet", "cause": why, "next": "", "log": []}
        return {"outcome": "returned", "release": release, "from": came_from, "failure": failed}

    def _settle(self, why: str) -> Answer:
        intent = self.host.past.open_switch
        assert intent
        if intent["to"] in self.host.ill | self.host.flapping:
            self.live = None
            return self._give_back(why)
        self._close(why)
        return {"outcome": "live", "release": intent["to"], "from": intent["from"], "proof": PROOF}

    def _close(self, why: str) -> None:
        intent = self.host.past.open_switch
        assert intent
        self.host.append(self.run, "confirmed", release=intent["to"], verb=intent["verb"], proof=PROOF, why=why)
        self.live = None

    def _confirm(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        if self.settled is None:
            self._close("")
        return {}

    def _return(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        if self.settled is not None:
            past, self.settled = self.settled, None
            self.host.append(self.run, "switch", to=past.to, verb=self.verb, **{"from": past.came_from})
            self.host.append(self.run, "switched", to=past.to)
            self.live = {"release": past.to, "from": past.came_from}
        assert self.live, "nothing is waiting to be returned"
        live, self.live = self.live, None
        if live["release"] == live["from"]:
            self.host.append(self.run, "not-switched", release=live["release"], cause=request["why"])
            return {"outcome": "unchanged", "release": live["release"], "from": live["from"]}
        return self._give_back(str(request["why"]))

    def _probe(self, request: Mapping[str, Any]) -> Answer:
        if self.host.current is None:
            return {"live": None, "well": False}
        well = self.host.current not in self.host.ill | self.host.flapping
        self.host.fired["unwell when asked again"] += not well
        return {"live": PROOF if well else "status 500", "well": well}

    def _blobs(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        return {}

    def _prune(self, request: Mapping[str, Any]) -> Answer:
        self._locked()
        return {"pruned": [], "kept": {}, "in_use": [], "free": 1 << 40}

    def _unlock(self, request: Mapping[str, Any]) -> Answer:
        self.host.holder = None
        return {}

    def _locked(self) -> None:
        assert self.host.holder is self, "the lock is not held"

    def _die(self, at: str) -> None:
        if self.dies_in == at:
            self.dies_in = ""
            raise Killed
