"""One host in a run: its line, what it said of itself, each request as one method. Decides nothing about the fleet."""

from __future__ import annotations

import shlex
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.errors import DeployError
from deploy.events import Emit, HostBytes, HostStep
from deploy.fleet.contact import Contact, Opener, Run
from deploy.fleet.ending import Differs, answer_of
from deploy.fleet.holders import freeze_in_words, lock_in_words
from deploy.fleet.outcomes import HostOutcome, Outcome
from deploy.link.line import Counters
from deploy.link.pipe import LinkLost
from deploy.settings import HostSettings
from deploy.wire import names
from deploy.wire.manifest import Manifest
from deploy.wire.names import Sha256

UPKEEP = ("prune", "pin", "unpin", "freeze", "thaw")
"""Verbs that change what lies on a host, and nothing that is live."""
COMEBACKS = 3
"""How often one request is asked over a new line; a host that loses every line is unknown."""


class HostFailed(Exception):
    """One host did not do what was asked. Carries the outcome that it leaves this host with."""

    def __init__(self, outcome: HostOutcome) -> None:
        super().__init__(outcome.problem)
        self.outcome = outcome


@dataclass
class Host:
    """One host of one run. Methods raise HostFailed; used by one thread at a time."""

    settings: HostSettings
    run: Run
    emit: Emit
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    may_have_switched: bool = False
    confirmed: str | None = None
    """The release that this run made live here for good."""
    _asked: str | None = None

    def __post_init__(self) -> None:
        self._contact = Contact(self.settings, self.run, self.emit)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def current(self) -> str | None:
        """The release that was live when the host was asked last."""
        return self.facts.get("current")

    @property
    def pending(self) -> str:
        """What an interrupted run left there to be settled; nothing while somebody's run is at work on it."""
        return "" if self.facts.get("lock") else "; ".join(self.facts.get("pending") or [])

    @property
    def counters(self) -> Counters:
        return self._contact.counters

    def connect(self, opener: Opener, exec_line: str) -> dict[str, Any]:
        """Open the line, start the host program, learn the host's facts."""
        began = time.monotonic()
        try:
            self._contact.call(opener, exec_line)
        except LinkLost as error:
            self.close()
            raise HostFailed(self._unreached(error)) from error
        asks_sudo = self.run.verb in ("deploy", "rollback", "check")
        try:
            answer = self._contact.hello(self.operator_json() if asks_sudo else None)
        except LinkLost as error:
            raise HostFailed(self._lost("hello", error)) from error
        self.facts = self._check("hello", answer)["facts"]
        detail = "would connect" if self.facts.get("dry") else f"python {self.facts['python']}"
        self.emit(HostStep(self.name, "connect", "done", detail, time.monotonic() - began))
        return self.facts

    def lock(self) -> dict[str, Any]:
        """Take the host's lock at once or not at all; the host recovers from earlier runs as it grants it."""
        answer = self._ask("lock", holder=self._contact.holder())
        self.facts, self._contact.seq = answer["facts"], answer["seq"]
        return answer

    def unlock(self) -> None:
        """Give the lock back."""
        self._ask("unlock")
        self._contact.seq = None

    def offer(self, manifest: Manifest, target: int, host_needs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Say what would be staged; learn what the host lacks and what stands in the way."""
        offered = {"manifest": manifest.to_json(), "target": target, "release": manifest.release_id}
        return self._ask("offer", **offered, host_needs=list(host_needs))

    def send(self, needed: Iterable[Sha256], sizes: Mapping[Sha256, int], read: Callable[[Sha256], bytes]) -> int:
        """Send the blobs that the host lacks; returns their bytes."""
        digests = list(needed)
        total, sent = sum(sizes[digest] for digest in digests), 0

        def on_sent(size: int) -> None:
            nonlocal sent
            sent += size
            self.emit(HostBytes(self.name, sent, total))

        try:
            answer = self._contact.blobs([(digest, lambda d=digest: read(d)) for digest in digests], on_sent)
        except LinkLost as error:
            raise HostFailed(self._lost("send", error)) from error
        except DeployError as error:  # the bytes cannot be had on this side
            self.close()
            failed = HostOutcome(self.name, Outcome.FAILED, self.serves, "send", error.why, error.next_step)
            raise HostFailed(failed) from error
        self._check("send", answer)
        return total

    def stage(self) -> dict[str, Any]:
        """Make the offered release complete on the host."""
        facts: dict[str, Any] = self._ask("stage")["facts"]
        return facts

    def ready(self, release: str) -> dict[str, Any]:
        """Learn all that keeps a release from being switched to; of one that is whole also settings and tag."""
        return self._ask("ready", release=release)

    def migrations(
        self, release: str, texts: Sequence[str] | None, *, undo: Sequence[str] = (), target: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Run a release's commands that list migrations (None: all of them); a command that fails is an answer, too.

        ``undo`` asks for the commands that take those migrations back to what ``target`` knows.
        """
        texts = None if texts is None else list(texts)
        return self._ask("migrations", release=release, texts=texts, undo=list(undo), target=list(target))

    def record(self, release: str | None, known: Sequence[str] | None, unapplied: Sequence[str]) -> None:
        """Have the host write down what a release knows, and what is not applied after all."""
        self._ask("record", release=release, known=known and list(known), unapplied=list(unapplied))

    def hooks(self, release: str, point: str, *, once: Sequence[str] | None) -> None:
        """Run the hooks of one point: those ``once`` for the fleet that fell to this host, or (None) its own."""
        self._ask("hooks", release=release, point=point, once=None if once is None else list(once), verb=self.run.verb)

    def activate(self, release: str) -> dict[str, Any]:
        """Switch, restart, wait for health; the host returns by itself where it is not well. Raises HostFailed then."""
        self.may_have_switched, self._asked = True, release
        answer = self._ask("activate", release=release, verb=self.run.verb, operator=self.operator_json())
        if answer["outcome"] == "returned":
            self.may_have_switched = False
            raise HostFailed(self._returned(answer))
        return answer

    def confirm(self) -> None:
        """Tell the host that the whole fleet is well: the switch is settled."""
        self._ask("confirm")
        self.may_have_switched, self.confirmed = False, self._asked
        self.facts["current"] = self._asked

    def give_back(self, why: str) -> HostOutcome:
        """Return a switched host to its own previous release, because another host failed."""
        answer = self._ask("return", why=why)
        self.may_have_switched = False
        if answer["outcome"] == "unchanged":
            return HostOutcome(self.name, Outcome.UNCHANGED, f"{answer['release']} was live before and still is")
        return HostOutcome(self.name, Outcome.RETURNED, f"back on {answer['from'] or 'nothing live, as before'}")

    def probe(self) -> dict[str, Any]:
        """Ask whether the live release is well, and what proves it."""
        return self._ask("probe", operator=self.operator_json())

    def verify(self, releases: list[str]) -> dict[str, list[str]]:
        """Hash releases again; returns how each differs from its marker."""
        found: dict[str, list[str]] = self._ask("verify", releases=releases)["differences"]
        return found

    def prune(self, free: int | None = None) -> dict[str, Any]:
        """Delete what no kept release needs; or the oldest releases, until ``free`` bytes are free."""
        unit = self.settings.health.unit if self.settings.health else None
        return self._ask("prune", keep=self.settings.keep, free=free, unit=unit)

    def pin(self, releases: Sequence[str], *, pinned: bool) -> list[str]:
        """Exempt releases from pruning, or no longer; returns those for which that changed anything."""
        changed: list[str] = self._ask("pin", releases=list(releases), pinned=pinned)["changed"]
        return changed

    def freeze(self, reason: str, until: float | None, for_s: float | None) -> dict[str, Any]:
        """Stop deploys, prunes and pins there; returns the freeze."""
        frozen: dict[str, Any] = self._ask("freeze", reason=reason, until=until, for_s=for_s)["frozen"]
        return frozen

    def thaw(self) -> dict[str, Any] | None:
        """End a freeze; returns the one that stood."""
        was: dict[str, Any] | None = self._ask("thaw")["was"]
        return was

    def log(self, number: int) -> list[dict[str, Any]]:
        """The last things that its journal tells, oldest first."""
        records: list[dict[str, Any]] = self._ask("log", number=number)["records"]
        return records

    def empty(self) -> None:
        """Remove what a ROOT for proof holds."""
        self._ask("empty")

    def close(self) -> None:
        """Let go; the host settles what is open and frees its lock."""
        self._contact.close()

    def left(self) -> HostOutcome:
        """What an interrupted run leaves here, as far as this side can know."""
        if self.may_have_switched:
            return HostOutcome(
                self.name, Outcome.UNKNOWN, "it settles by itself: keeps a healthy release, returns from another"
            )
        if self.confirmed:
            return HostOutcome(self.name, Outcome.LIVE, f"{self.confirmed}, confirmed")
        if self.run.verb in UPKEEP and self._contact.seq is not None:
            return HostOutcome(self.name, Outcome.UNKNOWN, self._may_be_done)
        return HostOutcome(self.name, Outcome.UNCHANGED, self.serves)

    def broken(self, bug: Exception) -> HostOutcome:
        """What a bug on this side leaves here."""
        left = self.left()
        outcome = Outcome.FAILED if left.outcome is Outcome.UNCHANGED else left.outcome
        log = tuple(line.rstrip() for line in traceback.format_exception(type(bug), bug, bug.__traceback__))
        return replace(left, outcome=outcome, step="bug", cause=f"a bug in sealed-deploy: {bug!r}", log=log)

    def operator_json(self) -> dict[str, Any]:
        """What the control machine's settings say of bringing this host up."""
        settings = self.settings
        return {
            "restart": settings.restart.to_json() if settings.restart else None,
            "stop": settings.stop.to_json() if settings.stop else None,
            "health": settings.health.to_json() if settings.health else None,
        }

    def _ask(self, op: str, /, **fields: Any) -> dict[str, Any]:
        for number in range(COMEBACKS + 1):
            try:
                return self._check(op, self._contact.ask(op, **fields))
            except LinkLost as error:
                if not self.may_have_switched or number == COMEBACKS:
                    raise HostFailed(self._lost(op, error)) from error
                lost = error
            try:
                answer = answer_of(op, self._come_back(op, lost))
            except Differs as differs:
                raise HostFailed(self._decided(op, differs)) from differs
            if answer is not None:
                return answer
        raise AssertionError("the last line either answers or is lost")

    def _come_back(self, op: str, lost: LinkLost) -> dict[str, Any]:
        """Learn from the host's journal what became of the switch. Raises HostFailed where it stays away."""
        try:
            answer = self._check("resume", self._contact.come_back(lost))
        except LinkLost as error:
            raise HostFailed(self._lost(op, error)) from error
        self.facts = answer["facts"]
        ending: dict[str, Any] = answer["ending"]
        return ending

    def _check(self, op: str, answer: dict[str, Any]) -> dict[str, Any]:
        if answer.get("ok"):
            return answer
        error: dict[str, Any] = answer["error"]
        kind = error["kind"]
        if self.facts and "current" in error:
            self.facts["current"] = error["current"]  # taking the lock may have settled what an earlier run left
        if kind == "locked":
            locked = self._locked(error.get("holder") or {})
            raise HostFailed(self._overtaken(locked.cause) if self.may_have_switched else locked)
        if kind == "fenced":
            raise HostFailed(self._overtaken(str(error["cause"])))
        if kind == "frozen":
            why, thaw = freeze_in_words(error["freeze"]), f"fab thaw {self.run.where}  # ends the freeze"
            raise HostFailed(HostOutcome(self.name, Outcome.FROZEN, self.serves, "lock", why, thaw))
        if op == "activate" and error.get("switched") is False and kind != "stuck":
            self.may_have_switched = False  # only the host's own word counts; an error of another kind proves nothing
        outcome = Outcome.UNKNOWN if self.may_have_switched else Outcome.FAILED
        detail = "switched, not confirmed" if self.may_have_switched else self.serves
        next_step = str(error.get("next") or "")
        if kind == "stuck":
            named = error.get("current")
            outcome, detail = Outcome.STUCK, f"`current` names {named or 'nothing'}; whether it serves is not known"
            go_on = f"fab rollback:{names.tag_of(names.parse_release_id(named))}" if named else "fab deploy:TAG"
            next_step = f"mend the service on {self.name}, then: {go_on} {self._where}"
        log = tuple(str(line) for line in error.get("log") or ())
        raise HostFailed(
            HostOutcome(self.name, outcome, detail, str(error["step"]), str(error["cause"]), next_step, log)
        )

    @property
    def serves(self) -> str:
        """What is live there, as far as the host was asked."""
        if not self.facts:
            return "not asked, not changed"
        if self.run.verb == "prove":
            return "what is live was not touched"
        return f"still serves {self.current}" if self.current else "nothing live, as before"

    @property
    def _may_be_done(self) -> str:
        return f"whether {self.run.verb} was done there is not known; {self.serves}"

    @property
    def _where(self) -> str:
        """The options that name this host alone."""
        return f"--stage {self.run.stage} --hosts {shlex.quote(self.name)}"

    def _unreached(self, error: LinkLost) -> HostOutcome:
        outcome = Outcome.FAILED if error.reached else Outcome.UNREACHABLE
        return HostOutcome(self.name, outcome, "not changed", "connect", error.why, error.next_step)

    def _lost(self, op: str, error: LinkLost) -> HostOutcome:
        cause = f"line lost: {error.why}"
        if self.may_have_switched:
            return HostOutcome(
                self.name,
                Outcome.UNKNOWN,
                "it settles by itself: keeps a healthy release, returns from another",
                op,
                cause,
                f"fab status {self._where}",
            )
        if op in UPKEEP:
            return HostOutcome(self.name, Outcome.UNKNOWN, self._may_be_done, op, cause, error.next_step)
        return HostOutcome(self.name, Outcome.FAILED, self.serves, op, cause, error.next_step)

    def _overtaken(self, cause: str) -> HostOutcome:
        """Somebody else was faster than this run's new line: nothing more is asked of this host."""
        detail = "somebody else's run came after this one's switch"
        return HostOutcome(self.name, Outcome.UNKNOWN, detail, "reconnect", cause, f"fab status {self._where}")

    def _decided(self, op: str, differs: Differs) -> HostOutcome:
        """What the host decided while nobody spoke with it, where that makes the request void."""
        current = self.facts.get("current")
        words = {
            "returned": (Outcome.RETURNED, f"back on {current or 'nothing live, as before'}"),
            "unchanged": (Outcome.FAILED, self.serves),
            "unknown": (Outcome.UNKNOWN, f"{current} is live there"),
        }
        outcome, detail = words[differs.outcome]
        self.may_have_switched = outcome is Outcome.UNKNOWN
        return HostOutcome(self.name, outcome, detail, op, differs.cause)

    def _locked(self, holder: Mapping[str, Any]) -> HostOutcome:
        who = lock_in_words(holder)
        if holder.get("run") == self.run.id:
            who = "this very run holds it: the same machine and root are listed under two names"
        serves = "not changed by this run"  # the holder may be switching at this very moment
        by = str(holder.get("run") or holder.get("by") or "")
        return HostOutcome(self.name, Outcome.LOCKED, serves, "lock", who, "wait, or add --wait SECONDS", holder=by)

    def _returned(self, answer: Mapping[str, Any]) -> HostOutcome:
        failure: dict[str, Any] = answer["failure"]
        return HostOutcome(
            self.name,
            Outcome.RETURNED,
            f"back on {answer['from'] or 'nothing live, as before'}",
            str(failure["step"]),
            str(failure["cause"]),
            str(failure.get("next") or ""),
            tuple(str(line) for line in failure.get("log") or ()),
        )
