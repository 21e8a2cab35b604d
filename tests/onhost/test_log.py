"""What the journal tells to people."""

from __future__ import annotations

from typing import Any

from deploy.onhost import log


def _records(*told: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"format": 1, "seq": n, "run": run, "at": 1e9 + n, "what": what, **fields}
        for n, (run, what, fields) in enumerate(told, 1)
    ]


def test_each_thing_is_told_with_who_ran_it_and_from_where() -> None:
    """Of runs one after the other each has its own; `from` of a switch is a release, of an operator an address."""
    records = _records(
        ("r1", "lock", {"by": "ann@laptop", "verb": "deploy", "tag": "v1", "from": "192.0.2.7"}),
        ("r1", "switch", {"to": "v1-aaaaaaaa", "from": None, "operator": {"restart": {"run": "secret"}}}),
        ("r2", "lock", {"by": "bob@ci", "verb": "rollback", "job": "https://ci.example/1"}),
        ("r2", "switched", {"to": "v0-aaaaaaaa"}),
    )
    told = log.told(records, 20)
    assert [(one["what"], one["by"], one["address"], one["job"]) for one in told] == [
        ("lock", "ann@laptop", "192.0.2.7", None),
        ("switch", "ann@laptop", "192.0.2.7", None),
        ("lock", "bob@ci", None, "https://ci.example/1"),
        ("switched", "bob@ci", None, "https://ci.example/1"),
    ]
    assert told[1]["from"] is None
    assert "secret" not in repr(told)


def test_a_run_that_waited_for_other_hosts_is_told_once() -> None:
    """It took the lock each time it tried; another run in between is not swallowed."""
    mine = ("r1", "lock", {"verb": "deploy", "by": "ann"})
    told = log.told(_records(mine, mine, ("r2", "lock", {"verb": "prune", "by": "bob"}), mine, mine), 20)
    assert [one["seq"] for one in told] == [2, 3, 5]


def test_the_last_ones_are_told_and_texts_are_short() -> None:
    """Records that say nothing to people, or that only a later version knows, are left out and do not count."""
    deeds = [("r", "frozen", {"reason": "x" * 5000, "until": n}) for n in range(30)]
    told = log.told(_records(*deeds, ("r", "child", {}), ("r", "blessed", {"by": "later"})), 5)
    assert [one["until"] for one in told] == [25, 26, 27, 28, 29]
    assert all(len(one["reason"]) == log.TEXT_CHARACTERS for one in told)
