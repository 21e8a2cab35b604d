"""Two operators, kills anywhere, reboots, lost lines and fencing, against the real host program; beside a plain model.

``SEALED_DEPLOY_MACHINE=2000`` runs so many histories, with a fresh seed each time, where CI runs the same few.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from deploy.onhost import marker
from deploy.onhost.history import fold, rollback_candidates
from deploy.onhost.journal import read
from deploy.onhost.layout import Layout, remove_tree
from tests.onhost.mortal_host import put
from tests.onhost.mortal_line import OPERATOR, Crash, Died, HostLine, World, manifest_of
from tests.onhost.told import Open, Told

TOP = Path(__file__).parents[2]
ON_DEMAND = int(os.environ.get("SEALED_DEPLOY_MACHINE", "0"))
TAGS = ("v1", "v2", "v3", "v4")
RELEASE = {tag: str(manifest_of(tag)[0].release_id) for tag in TAGS}
TAG = {release: tag for tag, release in RELEASE.items()}

tags = st.sampled_from(TAGS)
names = st.sampled_from(("ann", "bob"))
verbs = st.sampled_from(("deploy", "deploy", "rollback"))
CALLS = {"lock": 24, "stage": 46, "hooks": 4, "activate": 22, "confirm": 6, "return": 12, "prune": 20, "settle": 14}
"""How many calls each request makes that change the disk, about: kills are spread over all of them."""
KILL_RECOVERY = 0.6
kills = st.sampled_from((True, True, False))
fired: Counter[str] = Counter()


@dataclass
class Operator:
    """One of the two: the line, what was granted on it, and what waits to be confirmed."""

    name: str
    line: HostLine | None = None
    verb: str = "deploy"
    seq: int | None = None
    to: str | None = None
    late: tuple[str, str, int] | None = None
    """Run, verb and sequence number of a line that was lost and may come back."""


class TwoOperators(RuleBasedStateMachine):
    """Anything that two people and a machine can do to one host."""

    ground: Path

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=self.ground))
        self.layout = Layout(self.home / "root")
        self.layout.root.mkdir(mode=0o755)
        self.world = World(str(self.ground / "socket"), self.layout.root, self.ground / "diary")
        self.operators = {name: Operator(name) for name in ("ann", "bob")}
        self.told = Told()
        self.heard = 0
        self.runs = 0
        self.granted = 0
        self.dice = random.Random(0)

    def teardown(self) -> None:
        """Whatever happened: once nothing is ill any more, the next deploy succeeds with no clean-up."""
        for operator in self.operators.values():
            self._gone(operator, cut=True)
        for path in self.layout.shared.glob("*-v?"):
            path.unlink()
        last = Operator("last")
        for _ in range(2):  # once stuck it is told once, and the next command goes on
            self._connect(last, "deploy")
            if self._lock(last, False) == "ok":
                break
        self._stage(last, "v4", False)
        self._activate(last, "v4", "deploy", False)
        self._confirm(last, False)
        assert self._current() == self._running() == RELEASE["v4"]
        self._gone(last, cut=True)
        remove_tree(self.home)

    # -- what is there

    def _current(self) -> str | None:
        return self.layout.link_target(self.layout.current)

    def _running(self) -> str | None:
        path = self.layout.shared / "running"
        return path.read_text() if path.exists() else None

    def _well(self, release: str | None) -> bool:
        if release is None:
            return True
        return not any((self.layout.shared / f"{how}-{TAG[release]}").exists() for how in ("ill", "deaf"))

    def _holder(self) -> Operator | None:
        holders = [operator for operator in self.operators.values() if operator.seq is not None]
        assert len(holders) <= 1, "never two holders"
        return holders[0] if holders else None

    def _migrated(self) -> int:
        path = self.layout.shared / "migrated"
        return len(path.read_text().split()) if path.exists() else 0

    def _hear(self) -> None:
        """Read what the host wrote down meanwhile."""
        records = read(self.layout.journal)
        for record in records[self.heard :]:
            self.told.hear(record, self._current())
        self.heard = len(records)

    def _point(self, op: str) -> Crash:
        """Where in a request its host program is killed."""
        return self.dice.randint(1, CALLS.get(op, 10)), self.dice.choice(("before", "after", "torn"))

    def _gone(self, operator: Operator, *, cut: bool = False, crash: bool = False) -> None:
        """The operator's line is no more; with ``cut`` the host program ends by itself, unless it is killed in that."""
        if cut and operator.line:
            try:
                operator.line.cut(self._point("settle") if crash else None)
            except Died:
                fired["settle"] += 1
        if operator.line and operator.seq is not None:
            operator.late = (operator.line.run, operator.verb, operator.seq)
        operator.line = operator.seq = operator.to = None
        self._hear()

    def _ask(self, operator: Operator, op: str, crash: bool, /, **fields: Any) -> dict[str, Any] | None:
        """Ask on the operator's line; None where the host program died of it."""
        assert operator.line
        at = self._point(op) if crash else None
        try:
            answer = operator.line.stage(fields["tag"], at) if op == "stage" else operator.line.ask(op, at, **fields)
        except Died:
            assert crash, "the host program ended by itself"
            fired[op] += 1
            self._gone(operator)
            return None
        if crash:
            fired["not fired"] += 1
        self._hear()
        return answer

    # -- what operators do

    def _connect(self, operator: Operator, verb: str, run: str | None = None) -> None:
        self.runs += 1
        operator.line = HostLine(self.world, run or f"run-{self.runs}", operator.name)
        operator.verb = verb
        facts = operator.line.hello(verb)
        holder = self._holder()
        assert facts["current"] == self._current()
        assert (facts["lock"] or {}).get("by") == (holder.name if holder else None)
        if holder is None:
            assert bool(facts["pending"]) >= bool(self.told.open or self.told.hooks)

    def _lock(self, operator: Operator, crash: bool, op: str = "lock", **fields: Any) -> str:
        assert operator.line
        holder, before = self._holder(), self.told.open
        was, ran = self._current(), self._running()
        who = {"by": operator.name, "run": operator.line.run, "verb": operator.verb, "since": 1}
        answer = self._ask(operator, op, crash, holder=who, **fields)
        if answer is None:
            return "died"
        if holder is not None:
            error = answer["error"]
            assert error["kind"] == "locked"
            assert (error["holder"]["by"], error["holder"]["verb"]) == (holder.name, holder.verb)
            assert (self._current(), self._running()) == (was, ran)
            return "locked"
        if not answer["ok"]:
            return self._not_granted(answer["error"], before, was, ran)
        operator.seq = answer["seq"]
        assert operator.seq is not None
        assert operator.seq > self.granted, "each grant has a higher number"
        self.granted = operator.seq
        assert self.told.open is None, "after recovery nothing is open"
        assert len(answer["facts"]["pending"]) == len(self.told.hooks), "nor half made"
        if before:
            self._check_recovery(before, was, ran)
        return "ok"

    def _not_granted(self, error: dict[str, Any], before: Open | None, was: str | None, ran: str | None) -> str:
        if error["kind"] == "fenced":
            assert (self._current(), self._running()) == (was, ran)
            return "fenced"
        assert error["kind"] == "stuck", error
        if before is None:  # who comes back is told how the restart of what was live already had ended, and no more
            assert (self._current(), self._running()) == (was, ran)
            assert any(run.outcome == "stuck" for run in fold(read(self.layout.journal)).runs.values())
            return "stuck"
        if "cut off each time" in error["cause"]:
            assert (self._current(), self._running()) == (was, ran), "the service is untouched"
        elif not before.stuck:
            assert not self._well(before.to) or before.returning or was != before.to
            assert not self._well(before.came_from)
        return "stuck"

    def _check_recovery(self, before: Open, was: str | None, ran: str | None) -> None:
        """An open switch was settled by the book: a well release stays, another goes back, a return is finished."""
        to, came_from, now = before.to, before.came_from, self._current()
        if before.stuck:
            assert (now, self._running()) == (was, ran)
        elif to == came_from:
            assert now == to
        elif was == to and not before.returning:
            assert now == (to if self._well(to) else came_from)
        else:
            assert now == came_from
            if not before.switched and not before.returning:
                assert self._running() == ran, "what did not happen needs no restart"

    def _stage(self, operator: Operator, tag: str, crash: bool) -> None:
        answer = self._ask(operator, "stage", crash, tag=tag)
        if answer is not None:
            assert answer["ok"], answer
            assert marker.is_complete(self.layout, manifest_of(tag)[0].release_id)

    def _activate(self, operator: Operator, tag: str, verb: str, crash: bool) -> None:
        to, came_from = RELEASE[tag], self._current()
        complete = marker.is_complete(self.layout, manifest_of(tag)[0].release_id)
        answer = self._ask(operator, "activate", crash, release=to, verb=verb, operator=OPERATOR)
        if answer is None:
            return
        if not complete:
            assert not answer["ok"]
            assert self._current() == came_from
        elif answer["ok"] and answer["outcome"] == "live":
            assert self._well(to)
            assert self._current() == self._running() == to
            operator.to = to
        elif answer["ok"]:
            assert not self._well(to)
            assert self._well(came_from)
            assert self._current() == self._running() == came_from
        else:
            assert answer["error"]["kind"] == "stuck", answer
            assert not self._well(to)
            assert came_from == to or not self._well(came_from)
            self._gone(operator, cut=True)

    def _confirm(self, operator: Operator, crash: bool) -> None:
        to = operator.to
        answer = self._ask(operator, "confirm", crash)
        if answer is not None:
            assert answer["ok"], answer
            assert self.told.open is None
            assert self._current() == self.told.live == to
            operator.to = None

    def _is(self, *, held: bool, waits: bool = False) -> bool:
        """Whether somebody holds the lock, and a switch waits there to be confirmed."""
        holder = self._holder()
        return (holder is not None) is held and bool(holder and holder.to) is waits

    @property
    def holder(self) -> Operator:
        """Who holds the lock; asked where somebody does."""
        holder = self._holder()
        assert holder
        return holder

    # -- the rules

    @initialize(first=tags, seed=st.integers(0, 2**32))
    def something_is_live(self, first: str, seed: int) -> None:
        self.dice = random.Random(seed)
        ann = self.operators["ann"]
        self._connect(ann, "deploy")
        self._lock(ann, False)
        self._stage(ann, first, False)
        self._activate(ann, first, "deploy", False)
        self._confirm(ann, False)
        self._gone(ann, cut=True)

    @rule(name=names, verb=verbs, crash=kills)
    def connect_and_lock(self, name: str, verb: str, crash: bool) -> None:
        operator = self.operators[name]
        if operator.line is None:
            self._connect(operator, verb)
        if operator.seq is None:
            self._lock(operator, crash)

    @precondition(lambda self: self._is(held=True))
    @rule(tag=tags, crash=kills)
    def stage(self, tag: str, crash: bool) -> None:
        self._stage(self.holder, tag, crash)

    @precondition(lambda self: self._is(held=True))
    @rule(tag=tags, crash=kills)
    def activate(self, tag: str, crash: bool) -> None:
        self._activate(self.holder, tag, self.holder.verb, crash)

    @precondition(lambda self: self._is(held=False))
    @rule(name=names, tag=tags, crash=kills, at=st.sampled_from(("lock", "stage", "activate", "confirm", "return")))
    def deploy(self, name: str, tag: str, crash: bool, at: str) -> None:
        """As it usually goes, cut off in one place at most."""
        operator = self._begun(name, "deploy", at == "lock" and crash)
        if operator.seq is not None:
            self._stage(operator, tag, at == "stage" and crash)
        self._switched(operator, tag, crash, at)

    @precondition(lambda self: self._is(held=False))
    @rule(name=names, tag=tags, crash=kills, at=st.sampled_from(("lock", "activate", "confirm", "return")))
    def rollback(self, name: str, tag: str, crash: bool, at: str) -> None:
        """The same, of what is staged already."""
        self._switched(self._begun(name, "rollback", at == "lock" and crash), tag, crash, at)

    def _begun(self, name: str, verb: str, crash: bool) -> Operator:
        operator = self.operators[name]
        self._gone(operator, cut=True)
        self._connect(operator, verb)
        # What is found open is settled here, and that is killed as well, again and again.
        self._lock(operator, crash or (self.told.open is not None and self.dice.random() < KILL_RECOVERY))
        return operator

    def _switched(self, operator: Operator, tag: str, crash: bool, at: str) -> None:
        if operator.seq is not None:
            self._activate(operator, tag, operator.verb, at == "activate" and crash)
        if operator.to is not None:
            if at == "return":
                self._give_back(operator, crash)
            else:
                self._confirm(operator, at == "confirm" and crash)

    @precondition(lambda self: self._is(held=True, waits=True))
    @rule(crash=kills)
    def confirm(self, crash: bool) -> None:
        self._confirm(self.holder, crash)

    @precondition(lambda self: self._is(held=True, waits=True))
    @rule(crash=kills)
    def give_back(self, crash: bool) -> None:
        self._give_back(self.holder, crash)

    def _give_back(self, holder: Operator, crash: bool) -> None:
        switch = self.told.open
        answer = self._ask(holder, "return", crash, why="another host failed")
        if answer is None:
            return
        came_from = switch.came_from if switch else self._current()
        holder.to = None
        if answer["ok"]:
            assert self.told.open is None
            assert self._current() == came_from
        else:
            assert answer["error"]["kind"] == "stuck"
            assert not self._well(came_from)
            self._gone(holder, cut=True)

    @precondition(lambda self: self._is(held=True))
    @rule(tag=tags, crash=kills)
    def migrate(self, tag: str, crash: bool) -> None:
        """The hook that must run once: where nobody knows how it ended, it is never begun again."""
        if RELEASE[tag] not in self.told.there:
            return
        before, unknown = self._migrated(), bool(self.told.hooks)
        fields = {"release": RELEASE[tag], "point": "before_activate", "once": ["migrate"], "verb": "deploy"}
        answer = self._ask(self.holder, "hooks", crash, **fields)
        if answer is not None:
            assert answer["ok"] is not unknown
            assert self._migrated() == before + (0 if unknown else 1)

    @precondition(lambda self: self._holder() is not None)
    @rule(keep=st.integers(1, 3), crash=kills)
    def prune(self, keep: int, crash: bool) -> None:
        holder = self.holder
        good = [r for r in self.told.order if r in self.told.there and r not in self.told.bad]
        answer = self._ask(holder, "prune", crash, keep=keep)
        if answer is not None:
            assert answer["ok"] is (holder.to is None), answer
            assert len([r for r in good if r in self.told.there]) >= min(keep, len(good))

    @precondition(lambda self: self._is(held=True))
    @rule()
    def unlock(self) -> None:
        holder = self.holder
        answer = self._ask(holder, "unlock", False)
        assert answer
        assert answer["ok"]
        holder.seq = None

    @precondition(lambda self: self._is(held=True, waits=True))
    @rule(crash=kills)
    def lose_the_line(self, crash: bool) -> None:
        """After a switch the host settles by itself, unless it is killed in that."""
        switch = self.told.open
        self._gone(self.holder, cut=True, crash=crash)
        if not crash and switch:
            settled = self.told.open is None
            assert settled or (not self._well(switch.to) and not self._well(switch.came_from))

    @precondition(lambda self: any(one.late and not one.line for one in self.operators.values()))
    @rule(name=names)
    def come_back(self, name: str) -> None:
        """With the number of a line that was lost: refused where anybody had the lock since, else told what became."""
        operator = self.operators[name]
        if operator.late is None or operator.line is not None:
            return
        (run, verb, seq), operator.late = operator.late, None
        overtaken, stuck = self.told.overtaken(run, seq), bool(self.told.open and self.told.open.stuck)
        self._connect(operator, verb, run)
        verdict = self._lock(operator, False, "resume", seq=seq, wait_s=0)
        if verdict == "locked":
            return
        assert (verdict == "fenced") is overtaken
        if not overtaken and stuck:
            assert verdict == "stuck"

    @precondition(lambda self: any(one.line for one in self.operators.values()))
    @rule(name=names, op=st.sampled_from(("stage", "activate", "confirm", "return", "prune", "hooks")))
    def barge_in(self, name: str, op: str) -> None:
        """Without the lock, or under a number that was not granted, nothing is done."""
        operator = self.operators[name]
        if operator.line is None:
            return
        release = RELEASE["v1"]
        fields: dict[str, Any] = {"release": release, "verb": "deploy", "operator": OPERATOR, "why": "", "keep": 1}
        fields.update(point="before_activate", once=["migrate"], holder={"by": "x"})
        if operator.seq is not None:
            fields["seq"] = operator.seq - 1
        heard = self.heard
        error = operator.line.ask(op, **fields)["error"]
        self._hear()
        assert error["kind"] == ("refused" if operator.seq is None else "fenced")
        assert self.heard == heard

    # -- what happens to the machine

    @precondition(lambda self: any(one.line for one in self.operators.values()))
    @rule(name=names)
    def kill_nine(self, name: str) -> None:
        operator = self.operators[name]
        if operator.line:
            operator.line.kill()
            self._gone(operator)

    @rule(starts=st.booleans())
    def reboot(self, starts: bool) -> None:
        """Pids mean nothing any more; the service comes up with the machine, or it does not."""
        for name in self.operators:
            self.kill_nine(name)
        self.world.boot += 1
        current = self._current()
        (self.layout.shared / "running").unlink(missing_ok=True)
        if starts and current:
            put(self.layout.shared / "running", current)
        else:
            self.told.hurt = True

    @rule(tag=tags, how=st.sampled_from(("ill", "deaf")), begins=st.booleans())
    def change_health(self, tag: str, how: str, begins: bool) -> None:
        path = self.layout.shared / f"{how}-{tag}"
        path.touch() if begins else path.unlink(missing_ok=True)

    @precondition(lambda self: self._is(held=False))
    @rule(junk=st.sampled_from((b'{"format":1,"seq":999999,"what":"confi', b"\0" * 64, b"{}\n", b"\xff\n\n")))
    def power_cut(self, junk: bytes) -> None:
        """A reboot with a clock ten years back, and what lay behind the last record."""
        self.reboot(starts=True)
        self.world.clock -= 10 * 365 * 86400.0
        with self.layout.journal.open("ab") as file:
            file.write(junk)

    # -- what always holds

    @invariant()
    def old_or_new_and_complete(self) -> None:
        current = self._current()
        if current is None:
            assert not os.path.lexists(self.layout.current)
        else:
            assert marker.differences(self.layout, marker.read(self.layout, current)) == []  # type: ignore[arg-type]
        switch = self.told.open
        assert current in ((switch.to, switch.came_from) if switch else (self.told.live,))
        assert all(marker.is_complete(self.layout, release) for release in self.told.there)  # type: ignore[arg-type]

    @invariant()
    def what_is_live_runs(self) -> None:
        if self.told.open is None and not self.told.hurt:
            assert self._running() == self._current()

    @invariant()
    def the_fold_agrees(self) -> None:
        history = fold(read(self.layout.journal))
        assert (history.open_switch is None) is (self.told.open is None)
        if self.told.open is None:
            complete = [release for release in self.layout.present() if marker.is_complete(self.layout, release)]
            current = self.layout.link_target(self.layout.current)
            assert rollback_candidates(history, current, complete) == self.told.candidates()


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A folder, in memory where the system has such, and a mortal host's listener in it."""
    shm = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    command = [sys.executable, "-m", "tests.onhost.mortal_host", str(base / "socket")]
    host = subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE)
    try:
        assert host.stdout
        assert host.stdout.readline() == b"ready\n"
        yield base
    finally:
        host.kill()
        host.communicate()
        for path in base.iterdir():
            if path.is_dir():
                remove_tree(path)
        shutil.rmtree(base)


def test_two_operators_and_kills_anywhere(ground: Path) -> None:
    """Lines 1, 5, 8, 23, 43 and 45: the old release or the new one, and never two at work, whatever happens."""
    TwoOperators.ground = ground
    fired.clear()
    run_state_machine_as_test(
        TwoOperators,
        settings=settings(
            max_examples=ON_DEMAND or 40,
            stateful_step_count=25,
            derandomize=not ON_DEMAND,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shrinking takes minutes: a failing history is printed as it is
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    points = Counter((ground / "diary").read_text().splitlines())
    print(f"killed at {sum(points.values())} points, {len(points)} of them different; {dict(fired)}")
    assert sum(points.values()) >= 40
