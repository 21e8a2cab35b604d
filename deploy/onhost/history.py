"""What the journal says of each release: a pure fold over its records, ordered by sequence number alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from deploy.wire.names import ReleaseId, parse_release_id, tag_of

Record = Dict[str, Any]
MOST_GONE = 50


@dataclass
class Past:
    """One release's past. ``deployed_seq`` is its last activation by a deploy that was confirmed; 0 is never.

    ``tried_seq`` is its last one by a deploy that nobody confirmed: left there, it comes after all deployed before.
    """

    staged_seq: int = 0
    deployed_seq: int = 0
    tried_seq: int = 0
    live_seq: int = 0
    live_at: float = 0.0
    was_active: bool = False
    """``current`` has named it, confirmed or not."""
    bad: bool = False
    pinned: bool = False
    pinned_by: str = ""
    pinned_at: float = 0.0
    tag: str = ""
    commit: str = ""
    by: str = ""
    staged_at: float = 0.0
    sealed: str = ""
    proof: str = ""


TICK_S = 0.02
"""proc(5) tells the start of a process in hundredths: one that seems to begin with a switch may have begun before."""


class Life(NamedTuple):
    """``current`` was pointed at a release ``up_s`` after the boot ``boot``; older journals do not say when."""

    release: str
    boot: str
    up_s: float


@dataclass
class RunPast:
    """What became of one run here. ``outcome``: live, returned, stuck; empty of no switch, or one still open."""

    run: str
    verb: str = ""
    by: str = ""
    seq: int = 0
    """The fencing number of its last lock."""
    to: Optional[str] = None
    came_from: Optional[str] = None
    outcome: str = ""
    cause: str = ""
    proof: str = ""
    refused: bool = False
    """It was given the lock only to recover, and told that the host is frozen."""


@dataclass
class History:
    """All releases' pasts, the runs', and the switch that nobody has settled yet.

    Of that switch: whether it happened, which release was restarted last and in which boot, whether returning from it
    was begun, whether that failed, and how often recovery began to settle it.
    ``deleted``: what was pruned and not staged since. ``lives``: what ``current`` was pointed at, in order.
    ``unknown_hooks``: by point and text, each ``once`` hook that began and whose outcome nobody wrote down.
    ``freeze``: who froze this host and why, until somebody thawed it. ``pruned``: what was live and then deleted on
    purpose. ``known``: the migrations that each release lists. ``applied``: those that may be applied, in the order
    heard of.
    """

    releases: Dict[str, Past] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    open_switch: Optional[Record] = None
    switched: bool = False
    restarted: str = ""
    restarted_boot: str = ""
    returning: bool = False
    stuck: bool = False
    recoveries: int = 0
    deleted: Set[str] = field(default_factory=set)  # pyright: ignore[reportUnknownVariableType]
    lives: List[Life] = field(default_factory=list)  # pyright: ignore[reportUnknownVariableType]
    unknown_hooks: Dict[Tuple[str, str], Record] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    freeze: Optional[Record] = None
    pruned: Dict[str, Past] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    known: Dict[str, List[str]] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    applied: Dict[str, None] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    runs: Dict[str, RunPast] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]

    def past(self, release: str) -> Past:
        return self.releases.setdefault(release, Past())

    def was_live(self, release: str) -> bool:
        return self.past(release).live_seq > 0

    def run(self, run: str) -> RunPast:
        return self.runs.setdefault(run, RunPast(run))

    def switching(self, *, but: str) -> List[RunPast]:
        """Runs of a deploy or rollback that had the lock, the newest first, leaving out the run ``but``."""
        found = [run for run in self.runs.values() if run.verb in ("deploy", "rollback") and run.run != but]
        return sorted(found, key=lambda run: run.seq, reverse=True)

    def fenced(self, run: str, seq: int) -> Optional[RunPast]:
        """The run that had the lock after ``run`` was granted it under ``seq``, or None."""
        others = [other for other in self.runs.values() if other.run != run and not other.refused]
        return next((other for other in others if other.seq > seq), None)

    def live_since(self, boot: str, up_s: float) -> Set[str]:
        """Releases that ``current`` named at that moment of that boot or later; where nobody knows when, they count."""
        found: Set[str] = set()
        for life in reversed(self.lives):
            found.add(life.release)
            if life.boot and (life.boot != boot or life.up_s <= up_s - TICK_S):
                break
        return found


def fold(records: Sequence[Record]) -> History:
    """Read the whole journal. Unknown records are skipped: an older program may read a newer journal's extras."""
    history = History()
    operator = ""
    for record in records:
        what = record["what"]
        if what == "lock":
            operator = str(record.get("by", ""))
            past = history.run(str(record.get("run", "")))
            past.seq, past.by = record["seq"], operator
            past.refused = bool(record.get("refused"))
            past.verb = "" if past.refused else str(record.get("verb", ""))
        elif what in _READERS:
            _READERS[what](history, record, operator)
    return history


def rollback_target(
    history: History, current: Optional[ReleaseId], complete: Sequence[ReleaseId]
) -> Optional[ReleaseId]:
    """Where a bare rollback goes: the newest good release that was deployed before the present one, or None."""
    return next(iter(rollback_candidates(history, current, complete)), None)


def rollback_candidates(
    history: History, current: Optional[ReleaseId], complete: Sequence[ReleaseId]
) -> List[ReleaseId]:
    """All good releases deployed before the present one, newest first."""
    limit = _limit(history, current)
    found = [
        r for r in complete if r != current and not history.past(r).bad and 0 < history.past(r).deployed_seq < limit
    ]
    return sorted(found, key=lambda release: history.past(release).deployed_seq, reverse=True)


def _limit(history: History, current: Optional[ReleaseId]) -> float:
    """What was deployed before the present release has a lower number, also where that was only tried."""
    present = history.past(current) if current else Past()
    return max(present.deployed_seq, present.tried_seq) or float("inf")


def gone(history: History, current: Optional[ReleaseId], complete: Sequence[ReleaseId]) -> List[Dict[str, Any]]:
    """Releases that were live here and are not whole on disk any more, the last one live first.

    ``wanted``: a bare rollback would go there, were it whole. What was pruned went on purpose, and is none.
    """
    target = rollback_target(history, current, complete)
    newer = history.past(target).deployed_seq if target else 0
    limit = _limit(history, current)
    pasts = {**history.pruned, **{name: past for name, past in history.releases.items() if name not in complete}}
    found = sorted(((past.live_seq, name) for name, past in pasts.items() if past.live_seq), reverse=True)
    return [
        {
            "release": name,
            "tag": tag_of(parse_release_id(name)),
            "commit": pasts[name].commit,
            "bad": pasts[name].bad,
            "wanted": name in history.releases and not pasts[name].bad and newer < pasts[name].deployed_seq < limit,
        }
        for _, name in found[:MOST_GONE]
        if name not in complete
    ]


def _stage(history: History, record: Record, operator: str) -> None:
    release = record["release"]
    history.deleted.discard(release)
    past = history.releases.setdefault(release, history.pruned.get(release) or Past())
    past.tag, past.commit, past.by = record.get("tag", ""), record.get("commit", ""), operator
    past.staged_at = record["at"]


def _staged(history: History, record: Record, _operator: str) -> None:
    past = history.past(record["release"])
    past.staged_seq, past.sealed = record["seq"], record.get("sealed", "")


def _switch(history: History, record: Record, _operator: str) -> None:
    history.open_switch, history.switched, history.stuck = record, False, False
    history.returning = bool(record.get("returning"))  # opened again, to be returned from
    history.restarted, history.restarted_boot, history.recoveries = "", "", 0
    history.deleted.discard(record["to"])
    run = history.run(str(record.get("run", "")))
    run.to, run.came_from, run.outcome = record["to"], record.get("from"), ""


def _ended(history: History, record: Record, outcome: str) -> None:
    """Write how a switch ended down for the run that began it, whoever settled it."""
    if history.open_switch is not None:
        run = history.run(str(history.open_switch.get("run", "")))
        run.outcome, run.cause, run.proof = outcome, str(record.get("cause", "")), str(record.get("proof", ""))


def _switched(history: History, record: Record, _operator: str) -> None:
    history.switched = True
    past = history.past(record["to"])
    past.was_active = True
    past.tried_seq = record["seq"] if (history.open_switch or {}).get("verb") == "deploy" else 0
    _points_at(history, record)


def _points_at(history: History, record: Record) -> None:
    if record.get("to"):
        history.lives.append(Life(record["to"], str(record.get("boot") or ""), float(record.get("up_s") or 0)))


def _restarted(history: History, record: Record, _operator: str) -> None:
    history.restarted, history.restarted_boot = record["release"], str(record.get("boot") or "")


def _returning(history: History, _record: Record, _operator: str) -> None:
    history.returning = True


def _recovering(history: History, _record: Record, _operator: str) -> None:
    history.recoveries += 1


def _stuck(history: History, record: Record, _operator: str) -> None:
    _points_at(history, record)
    history.past(record["release"]).bad = True
    history.stuck = True
    _ended(history, record, "stuck")


def _confirmed(history: History, record: Record, _operator: str) -> None:
    past = history.past(record["release"])
    switch = history.open_switch
    past.live_seq, past.live_at, past.bad, past.tried_seq = record["seq"], record["at"], False, 0
    past.proof = record.get("proof", "")
    if past.deployed_seq == 0 or record.get("verb") == "deploy":
        past.deployed_seq = record["seq"]
    came_from = switch.get("from") if switch else None
    if record.get("verb") == "rollback" and came_from and came_from != record["release"]:
        history.past(came_from).bad = True
    _ended(history, record, "live")
    history.open_switch = None


def _returned(history: History, record: Record, _operator: str) -> None:
    _points_at(history, record)
    history.past(record["release"]).bad = True
    if record.get("to"):  # a switch that settled by itself had marked it, and was opened again
        history.past(record["to"]).bad = False
    _ended(history, record, "returned")
    history.open_switch = None


def _cancelled(history: History, record: Record, _operator: str) -> None:
    if record.get("stuck"):
        _ended(history, record, "stuck")
    history.open_switch, history.stuck = None, False


def _pruned(history: History, record: Record, _operator: str) -> None:
    past = history.releases.pop(record["release"], None)
    if past is not None and past.live_seq:
        history.pruned[record["release"]] = past
    history.deleted.add(record["release"])


def _migrations(history: History, record: Record, _operator: str) -> None:
    release = record.get("release")
    if release:
        history.known[release] = record.get("known") or history.known.get(record.get("as", ""), [])
        history.applied.update(dict.fromkeys(history.known[release]))
    for name in record.get("unapplied", []):
        history.applied.pop(name, None)


def _pinned(history: History, record: Record, operator: str) -> None:
    past = history.past(record["release"])
    past.pinned, past.pinned_by, past.pinned_at = True, operator, record["at"]


def _unpinned(history: History, record: Record, _operator: str) -> None:
    history.past(record["release"]).pinned = False


def _frozen(history: History, record: Record, operator: str) -> None:
    history.freeze = dict(record, by=operator)


def _thawed(history: History, _record: Record, _operator: str) -> None:
    history.freeze = None


def _hook(history: History, record: Record, _operator: str) -> None:
    if record.get("once"):
        history.unknown_hooks[record["point"], record["text"]] = record


def _hook_done(history: History, record: Record, _operator: str) -> None:
    for key, intent in list(history.unknown_hooks.items()):
        if intent["seq"] == record.get("intent"):
            del history.unknown_hooks[key]


_READERS = {
    "hook": _hook,
    "hook-done": _hook_done,
    "stage": _stage,
    "staged": _staged,
    "switch": _switch,
    "switched": _switched,
    "restarted": _restarted,
    "returning": _returning,
    "recovering": _recovering,
    "stuck": _stuck,
    "confirmed": _confirmed,
    "returned": _returned,
    "not-switched": _cancelled,
    "pruned": _pruned,
    "pinned": _pinned,
    "unpinned": _unpinned,
    "frozen": _frozen,
    "thawed": _thawed,
    "migrations": _migrations,
}
