"""Recovery's decision, over every prefix of any journal and whatever ``current`` names: total, and soon at rest."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.onhost import recovery
from deploy.onhost.history import fold
from deploy.wire.names import ReleaseId

RELEASES = tuple(ReleaseId(f"v{number}-0000000{number}") for number in range(1, 4))
POINTS = (None, *RELEASES)

some = st.sampled_from(RELEASES)
point = st.sampled_from(POINTS)
verb = st.sampled_from(("deploy", "rollback"))


def written(*what: str, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """One record of these kinds with these fields."""
    return st.fixed_dictionaries({"what": st.sampled_from(what), **fields})


record = st.one_of(
    written("lock", by=st.just("ann")),
    written("stage", "staged", "pruned", "swept", "recovering", "restarted", "returning", release=some),
    written("switch", to=some, verb=verb, **{"from": point}),
    written("switched", to=some),
    written("confirmed", release=some, verb=verb),
    written("returned", "stuck", release=some, to=point),
    written("not-switched", release=some),
    written("a record of a later program"),
)


def journal(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number them as a host does; its clock stands still."""
    return [{"seq": seq, "run": "r", "at": 0.0, **record} for seq, record in enumerate(records, 1)]


class Rehearsal:
    """Recovery carried out on paper: each action leaves the records and the link that the host leaves."""

    def __init__(self, records: list[dict[str, Any]], current: ReleaseId | None, broken: set[ReleaseId]) -> None:
        self.records, self.current, self.broken = list(records), current, set(broken)

    def plan(self) -> list[recovery.Action]:
        return recovery.plan(fold(self.records), self.current, sorted(self.broken))

    def write(self, what: str, **fields: Any) -> None:
        self.records += [{"seq": len(self.records) + 1, "run": "r", "at": 0.0, "what": what, **fields}]

    def act(self, action: recovery.Action, ending: str) -> None:
        switch = fold(self.records).open_switch or {}
        came_from = switch.get("from")
        if action.do == "sweep":
            self.broken.discard(ReleaseId(action.release))
        elif action.do == "cancel":
            self.write("not-switched", release=action.release)
        elif action.do == "give up" or ending == "stuck":
            self.write("stuck", release=action.release, to=came_from)
        elif ending == "killed":
            self.write("recovering", release=action.release)
        elif action.do == "settle" and ending == "well":
            self.write("confirmed", release=action.release, verb=switch["verb"])
        elif action.release == came_from:
            self.write("not-switched", release=action.release)
        else:
            self.current = came_from
            self.write("returned", release=action.release, to=came_from)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    records=st.lists(record, max_size=14).map(journal),
    broken=st.sets(some),
    endings=st.lists(st.sampled_from(("well", "ill", "stuck", "killed")), min_size=1, max_size=6),
)
def test_every_prefix_of_any_journal_has_a_plan_that_comes_to_rest(
    records: list[dict[str, Any]], broken: set[ReleaseId], endings: list[str]
) -> None:
    """Line 8: the same answer each time, what is live is never swept, and no more rounds than are allowed."""
    for cut in range(len(records) + 1):
        for current in POINTS:
            host = Rehearsal(records[:cut], current, broken)
            rounds = 0
            while host.plan():
                actions = host.plan()
                assert actions == host.plan()
                assert all(action.why for action in actions)
                assert [action.do for action in actions[1:]] == ["sweep"] * (len(actions) - 1)
                for action in actions:
                    assert action.do != "sweep" or action.release != host.current
                host.act(actions[0], endings[rounds % len(endings)])
                rounds += 1
                assert rounds <= recovery.MOST_RECOVERIES + 2 + len(broken)
            assert fold(host.records).open_switch is None
            assert host.broken <= {host.current}
