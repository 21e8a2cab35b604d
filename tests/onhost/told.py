"""A plain reading of a host's journal, record by record, that believes nothing which the design forbids. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploy.onhost.recovery import MOST_RECOVERIES


@dataclass
class Open:
    """A switch that nobody has settled yet."""

    to: str
    came_from: str | None
    verb: str
    switched: bool = False
    returning: bool = False
    stuck: bool = False
    recoveries: int = 0


@dataclass
class Told:
    """What must be true of the host by what it wrote down. ``hear`` raises AssertionError at what may never happen."""

    seq: int = 0
    there: set[str] = field(default_factory=set[str])
    live: str | None = None
    order: list[str] = field(default_factory=list[str])
    """Releases that were confirmed, by their last deploy."""
    bad: set[str] = field(default_factory=set[str])
    open: Open | None = None
    untried: bool = False
    """What is live was deployed and never confirmed: it comes after all that was deployed before."""
    hurt: bool = False
    """A person must look: nobody promises that what ``current`` names also runs."""
    locks: dict[str, int] = field(default_factory=dict[str, int])
    """By run, the number that it was granted last."""
    hooks: dict[int, str] = field(default_factory=dict[int, str])
    """``once`` hooks that began and did not end, by sequence number."""

    def hear(self, record: dict[str, Any], current: str | None) -> None:
        """Take the next record; ``current`` is what the disk names by now."""
        assert record["seq"] > self.seq, "sequence numbers strictly increase"
        self.seq = record["seq"]
        readers = {
            "lock": self._lock, "staged": self._staged, "swept": self._swept, "switch": self._switch,
            "switched": self._switched, "returning": self._returning, "recovering": self._recovering,
            "confirmed": self._confirmed, "returned": self._returned, "stuck": self._stuck,
            "not-switched": self._not_switched, "pruned": self._pruned, "hook": self._hook,
            "hook-done": self._hook_done,
        }  # fmt: skip
        if record["what"] in readers:
            readers[record["what"]](record, current)

    def candidates(self) -> list[str]:
        """Where a bare rollback may go, newest first."""
        before = self.order
        if self.live in self.order and not self.untried:
            before = self.order[: self.order.index(self.live)]
        return [r for r in reversed(before) if r in self.there and r not in self.bad and r != self.live]

    def overtaken(self, run: str, seq: int) -> bool:
        """Whether another run had the lock after this one."""
        return any(other > seq for name, other in self.locks.items() if name != run)

    def _lock(self, record: dict[str, Any], current: str | None) -> None:
        self.locks[record["run"]] = record["seq"]

    def _staged(self, record: dict[str, Any], current: str | None) -> None:
        self.there.add(record["release"])

    def _swept(self, record: dict[str, Any], current: str | None) -> None:
        assert record["release"] not in (self.live, current), "what is live is never swept"
        if record["release"] in self.there:  # a prune that was killed had taken its marker, and not said so yet
            assert self.open is None or record["release"] not in (self.open.to, self.open.came_from)
            self.there.discard(record["release"])

    def _switch(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open is None, "one switch at a time"
        assert record["to"] in self.there
        assert self.live in (record["from"], record["to"])
        self.open = Open(record["to"], record["from"], record["verb"])

    def _switched(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open
        assert self.open.to == record["to"]
        self.open.switched = True

    def _returning(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open
        assert self.open.to == record["release"]
        self.open.returning = True

    def _recovering(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open
        assert self.open.to == record["release"]
        self.open.recoveries += 1
        assert self.open.recoveries <= MOST_RECOVERIES, "recovery is bounded"

    def _confirmed(self, record: dict[str, Any], current: str | None) -> None:
        release = record["release"]
        assert self.open
        assert self.open.to == release
        self.bad.discard(release)
        if self.open.verb == "deploy" or release not in self.order:
            self.order = [r for r in self.order if r != release] + [release]
        if self.open.verb == "rollback" and self.open.came_from not in (None, release):
            self.bad.add(str(self.open.came_from))
        self.live, self.open, self.hurt, self.untried = release, None, False, False

    def _returned(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open
        assert self.open.to == record["release"]
        assert self.open.came_from == record["to"]
        assert self.open.to != self.open.came_from, "there is nothing to return to"
        self.bad.add(self.open.to)
        if self.live != record["to"]:
            self.untried = False
        self.live, self.open, self.hurt = record["to"], None, False

    def _stuck(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open
        self.bad.add(self.open.to)
        self.open.stuck = self.hurt = True

    def _not_switched(self, record: dict[str, Any], current: str | None) -> None:
        assert self.open
        if self.open.stuck:
            assert current in (self.open.to, self.open.came_from)
            if current != self.live:
                self.untried = self.open.verb == "deploy"
            self.live = current
        self.hurt = self.hurt or (self.open.to == self.open.came_from and bool(record.get("cause")))
        self.open = None

    def _pruned(self, record: dict[str, Any], current: str | None) -> None:
        release = record["release"]
        assert self.open is None, "nothing is pruned while a switch is open"
        assert release not in (self.live, current), "what is live is never pruned"
        self.there.discard(release)
        self.bad.discard(release)
        self.order = [r for r in self.order if r != release]

    def _hook(self, record: dict[str, Any], current: str | None) -> None:
        assert not self.hooks, "a hook whose outcome is unknown is never run again"
        self.hooks[record["seq"]] = record["text"]

    def _hook_done(self, record: dict[str, Any], current: str | None) -> None:
        self.hooks.pop(record["intent"])
