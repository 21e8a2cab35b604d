"""What the journal says: a pure fold, checked against a plain model over any sequence of deploys and rollbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from deploy.onhost import prune, recovery
from deploy.onhost.history import History, fold, rollback_candidates, rollback_target
from deploy.onhost.layout import Layout
from deploy.wire.names import ReleaseId

A, B, C, D = (ReleaseId(f"v{number}-0000000{number}") for number in range(1, 5))


class Book:
    """Records as a host writes them."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def add(self, what: str, **fields: Any) -> None:
        seq = len(self.records) + 1
        self.records.append({"format": 1, "seq": seq, "run": "r", "at": 1e9 - seq, "what": what, **fields})

    def deploy(self, release: str, came_from: str | None, verb: str = "deploy") -> None:
        self.add("switch", to=release, verb=verb, **{"from": came_from})
        self.add("switched", to=release)
        self.add("confirmed", release=release, verb=verb, proof="p")

    @property
    def history(self) -> History:
        return fold(self.records)


def book(*steps: tuple[str, str | None, str]) -> Book:
    """A journal of confirmed switches: (release, from, verb)."""
    made = Book()
    for release, came_from, verb in steps:
        made.deploy(release, came_from, verb)
    return made


def test_a_bare_rollback_goes_to_the_newest_good_release_before() -> None:
    """By sequence numbers, though the clock ran backwards all the time."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (C, B, "deploy"))
    assert rollback_target(made.history, C, [A, B, C]) == B
    assert rollback_candidates(made.history, C, [A, B, C]) == [B, A]


def test_a_second_bare_rollback_goes_further_back_and_a_third_is_refused() -> None:
    """Never forth again: what was rolled away from is bad."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (C, B, "deploy"), (B, C, "rollback"))
    assert made.history.past(C).bad
    assert rollback_target(made.history, B, [A, B, C]) == A
    made.deploy(A, B, "rollback")
    assert rollback_target(made.history, A, [A, B, C]) is None


def test_a_confirmed_activation_clears_the_mark() -> None:
    """Deployed again after the mend that was outside of it."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (A, B, "rollback"), (B, A, "deploy"))
    assert not made.history.past(B).bad
    assert rollback_target(made.history, B, [A, B]) == A


def test_rolling_back_does_not_make_a_release_newer() -> None:
    """After A, B, C and back to A, deploying C again: before C comes B, not A... unless B was marked."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (C, B, "deploy"), (A, C, "rollback"), (C, A, "deploy"))
    assert rollback_candidates(made.history, C, [A, B, C]) == [B, A]


def test_a_returned_release_is_bad_and_was_never_live() -> None:
    """Neither a target of a bare rollback nor counted among those to keep."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    made.add("switched", to=B)
    made.add("returned", release=B, to=A, cause="unhealthy")
    assert made.history.open_switch is None
    assert made.history.past(B).bad
    assert not made.history.was_live(B)
    assert rollback_target(made.history, A, [A, B]) is None


def test_what_was_staged_and_never_live_is_no_target() -> None:
    """Nobody has seen it serve."""
    made = book((A, None, "deploy"))
    made.add("lock", by="ann")
    made.add("stage", release=B, tag="v2", commit="c")
    made.add("staged", release=B, sealed="kernel")
    assert rollback_target(made.history, A, [A, B]) is None
    past = made.history.past(B)
    assert (past.by, past.tag, past.commit, past.sealed) == ("ann", "v2", "c", "kernel")


def test_a_pruned_release_starts_anew() -> None:
    """Staged again later, it has no past."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (A, B, "rollback"))
    made.add("pruned", release=B)
    assert not made.history.past(B).bad


def test_what_prune_was_killed_over_is_deleted_by_the_next_command(tmp_path: Path) -> None:
    """Its record was written, its marker still there: no release without a past comes back from that."""
    made, layout = book((A, None, "deploy"), (B, A, "deploy")), Layout(tmp_path)
    layout.release(A).mkdir(parents=True)
    layout.marker(A).touch()
    assert recovery.look(layout, made.history) == []
    made.add("pruned", release=A)
    assert [(action.do, action.release) for action in recovery.look(layout, made.history)] == [("sweep", A)]
    made.add("stage", release=A)
    assert recovery.look(layout, made.history) == []


def test_releases_that_are_gone_from_disk_are_no_targets() -> None:
    """The journal remembers more than the disk holds."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (C, B, "deploy"))
    assert rollback_target(made.history, C, [A, C]) == A


def test_records_of_later_programs_are_skipped() -> None:
    """Extra words and fields change nothing that an older program reads."""
    made = book((A, None, "deploy"))
    made.add("blessed", release=A, by="somebody")
    made.records[-2]["mood"] = "good"
    made.deploy(B, A)
    assert made.history.was_live(B)


def test_nothing_open_and_nothing_broken_means_nothing_to_do() -> None:
    """The usual case."""
    assert recovery.plan(book((A, None, "deploy")).history, A, []) == []


def acts(made: Book, current: ReleaseId | None, broken: list[ReleaseId] | None = None) -> list[tuple[str, str]]:
    """What recovery would do."""
    return [(action.do, action.release) for action in recovery.plan(made.history, current, broken or [])]


def test_a_switch_that_nobody_confirmed_is_settled() -> None:
    """`current` names the new release: keep it if it is well, else go back."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    assert acts(made, B) == [("settle", B)]  # killed between rename(2) and its record
    made.add("switched", to=B)
    assert acts(made, B) == [("settle", B)]


def test_a_switch_that_did_not_happen_is_cancelled() -> None:
    """Killed between the intent and rename(2): nothing was restarted either."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    assert acts(made, A) == [("cancel", B)]


def test_a_return_that_was_cut_short_is_finished() -> None:
    """`current` is back already, but nobody knows whether the old release was restarted: the new one may still run."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    made.add("switched", to=B)
    assert acts(made, A) == [("return", B)]


def test_a_withdrawal_that_was_cut_short_is_finished() -> None:
    """The same for the first release ever: `current` is gone, its marks are not written."""
    made = Book()
    made.add("switch", to=A, verb="deploy", **{"from": None})
    made.add("switched", to=A)
    assert acts(made, None) == [("return", A)]


def test_a_switch_that_can_be_settled_neither_way_is_tried_once() -> None:
    """Then a person looks; what they deploy to mend it is not kept from them by trying the same again."""
    for current in (A, B):
        made = book((A, None, "deploy"))
        made.add("switch", to=B, verb="deploy", **{"from": A})
        made.add("switched", to=B)
        made.add("stuck", release=B, to=A, cause="restart failed")
        assert acts(made, current) == [("cancel", B)]
        assert made.history.past(B).bad


def test_renewing_the_live_release_is_finished() -> None:
    """Asked for again while live: its restart may have been cut in half, so it is brought up; nothing to go back to."""
    made = book((A, None, "deploy"))
    made.add("switch", to=A, verb="deploy", **{"from": A})
    assert acts(made, A) == [("settle", A)]
    made.add("switched", to=A)
    assert acts(made, A) == [("settle", A)]


def test_a_return_that_was_begun_is_finished_though_current_still_names_the_new_release() -> None:
    """Its intent is written down: another host failed, or the first release ever was stopped already."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    made.add("switched", to=B)
    made.add("returning", release=B, to=A)
    assert acts(made, B) == acts(made, A) == [("return", B)]


def test_where_current_was_pointed_elsewhere_by_hand_it_stays_there() -> None:
    """Whoever did that meant it; the open switch is forgotten."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    made.add("switched", to=B)
    assert acts(made, C) == [("cancel", B)]


def test_recovery_that_was_cut_off_too_often_is_given_up() -> None:
    """Status shows it before the next command says it; what did not happen is cancelled all the same."""
    made = book((A, None, "deploy"))
    made.add("switch", to=B, verb="deploy", **{"from": A})
    for _ in range(recovery.MOST_RECOVERIES):
        made.add("recovering", release=B)
    assert acts(made, A) == [("cancel", B)]
    made.add("switched", to=B)
    assert acts(made, A) == acts(made, B) == [("give up", B)]


def test_a_release_that_was_left_unconfirmed_comes_after_all_before() -> None:
    """Stuck on it, a bare rollback goes to what was live right before, also where it had been deployed long ago."""
    made = book((B, None, "deploy"), (A, B, "deploy"))
    for release in (B, C):
        made.add("switch", to=release, verb="deploy", **{"from": A})
        made.add("switched", to=release)
        made.add("stuck", release=release, to=A)
        made.add("not-switched", release=release)
    assert rollback_target(made.history, C, [A, B, C]) == A
    assert rollback_target(made.history, B, [A, B, C]) == A


def test_broken_releases_are_swept_but_never_the_one_that_current_names() -> None:
    """A live release that lost its marker is for a person to look at."""
    assert acts(book((A, None, "deploy")), A, [A, B]) == [("sweep", B)]


def keep(made: Book, complete: list[ReleaseId], number: int, *anyway: str) -> list[ReleaseId]:
    """What stays."""
    gone = prune.chosen(made.history, complete, number, set(anyway))
    return [release for release in complete if release not in gone]


def test_good_releases_are_counted_by_when_they_were_last_live() -> None:
    """Not by name or time: A was live again after B."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (A, B, "deploy"), (C, A, "deploy"))
    assert keep(made, [A, B, C], 2, C) == [A, C]


def test_bad_ones_do_not_count_and_only_the_newest_stays() -> None:
    """The evidence of what went wrong last; a row of failures does not push good releases out."""
    made = book((A, None, "deploy"))
    for release in (B, C, D):
        made.add("switch", to=release, verb="deploy", **{"from": A})
        made.add("staged", release=release)
        made.add("returned", release=release, to=A)
    assert keep(made, [A, B, C, D], 1, A) == [A, D]


def test_current_and_previous_stay_whatever_is_kept() -> None:
    """Even with one to keep and both of them old."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (C, B, "deploy"), (A, C, "rollback"))
    assert keep(made, [A, B, C], 1, A, C) == [A, C]


def test_a_pinned_release_stays() -> None:
    """Exempt from pruning, whatever its age."""
    made = book((A, None, "deploy"), (B, A, "deploy"), (C, B, "deploy"))
    history = made.history
    history.past(A).pinned = True
    assert A not in prune.chosen(history, [A, B, C], 1, {C})


def test_what_a_process_may_have_started_from() -> None:
    """What was live at that moment or later; an older boot is before any process; an undated switch may be any time."""
    made = Book()
    for release, when in ((A, ("old", 900.0)), (B, ("now", 10.0)), (C, ("now", 20.0)), (D, ("now", 30.0))):
        made.add("switch", to=release, verb="deploy", **{"from": None})
        made.add("switched", to=release, boot=when[0], up_s=when[1])
    assert made.history.live_since("now", 31.0) == {D}
    assert made.history.live_since("now", 25.0) == {C, D}
    assert made.history.live_since("now", 5.0) == {A, B, C, D}
    made.add("returned", release=D, to=C, cause="unhealthy", boot="now", up_s=40.0)
    assert made.history.live_since("now", 41.0) == {C}
    assert made.history.live_since("now", 35.0) == {C, D}
    made.add("switched", to=B)
    assert made.history.live_since("now", 41.0) == {B, C}


class Host(RuleBasedStateMachine):
    """Deploys, rollbacks, failures, kills and prunes in any order, beside a model that remembers plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.live: ReleaseId | None = None
        self.order: list[ReleaseId] = []  # live releases by their last deploy
        self.bad: set[ReleaseId] = set()
        self.there: set[ReleaseId] = set()
        self.open: tuple[ReleaseId, ReleaseId | None] | None = None
        self.before_pruned: list[ReleaseId] = []  # as ``order``, pruned ones included: one staged again has its past
        self.bad_when_pruned: set[ReleaseId] = set()

    releases = st.sampled_from([A, B, C, D])

    @precondition(lambda self: self.open is None)
    @rule(release=releases)
    def stage(self, release: ReleaseId) -> None:
        self.book.add("stage", release=release, tag="t", commit="c")
        self.book.add("staged", release=release)
        if release not in self.there and release in self.before_pruned:
            self.order = [r for r in self.before_pruned if r in self.order or r == release]
            self.bad |= {release} & self.bad_when_pruned
        self.there.add(release)

    @precondition(lambda self: self.open is None)
    @rule(release=releases, verb=st.sampled_from(["deploy", "rollback"]), ending=st.sampled_from(["ok", "bad", "kill"]))
    def activate(self, release: ReleaseId, verb: str, ending: str) -> None:
        if release not in self.there or release == self.live:
            return
        came_from = self.live
        self.book.add("switch", to=release, verb=verb, **{"from": came_from})
        self.book.add("switched", to=release)
        if ending == "bad":
            self.book.add("returned", release=release, to=came_from)
            self.bad.add(release)
            return
        self.live = release
        if ending == "kill":
            self.open = (release, came_from)
            return
        self._confirmed(release, came_from, verb)

    def _confirmed(self, release: ReleaseId, came_from: ReleaseId | None, verb: str) -> None:
        self.book.add("confirmed", release=release, verb=verb, proof="")
        self.bad.discard(release)
        if verb == "deploy" or release not in self.order:
            self.order = [r for r in self.order if r != release] + [release]
            self.before_pruned = [r for r in self.before_pruned if r != release] + [release]
        if verb == "rollback" and came_from:
            self.bad.add(came_from)

    @precondition(lambda self: self.open is not None)
    @rule(well=st.booleans())
    def recover(self, well: bool) -> None:
        assert self.open
        release, came_from = self.open
        (action,) = recovery.plan(self.book.history, self.live, [])
        assert (action.do, action.release) == ("settle", release)
        self.open = None
        if well:
            verb = self.book.history.open_switch
            assert verb
            self._confirmed(release, came_from, verb["verb"])
        else:
            self.live = came_from
            self.book.add("returned", release=release, to=came_from)
            self.bad.add(release)

    @precondition(lambda self: self.open is None)
    @rule(number=st.integers(1, 3))
    def prune(self, number: int) -> None:
        anyway = {str(self.live)}
        history = self.book.history
        gone = prune.chosen(history, sorted(self.there), number, anyway)
        good = [r for r in self.order if r in self.there and r not in self.bad]
        assert self.live not in gone
        assert len([r for r in good if r not in gone]) >= min(number, len(good))
        for release in gone:
            self.book.add("pruned", release=release)
            self.there.discard(release)
            self.bad_when_pruned -= {release}
            self.bad_when_pruned |= {release} & self.bad
            self.bad.discard(release)
            self.order = [r for r in self.order if r != release]

    @invariant()
    def a_bare_rollback_goes_to_the_newest_good_release_before_the_live_one(self) -> None:
        if self.open:
            return
        before = self.order[: self.order.index(self.live)] if self.live and self.live in self.order else self.order
        expected = [r for r in reversed(before) if r in self.there and r not in self.bad and r != self.live]
        assert rollback_candidates(self.book.history, self.live, sorted(self.there)) == expected

    @invariant()
    def deciding_again_decides_the_same(self) -> None:
        history = self.book.history
        assert recovery.plan(history, self.live, []) == recovery.plan(self.book.history, self.live, [])
        assert bool(history.open_switch) == bool(self.open)


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, database=None)
