"""The journals of all hosts as one time line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy import report
from deploy.report import timeline


def _record(seq: int, at: str, what: str, run: str = "r1", **fields: Any) -> dict[str, Any]:
    asks = {"by": "ann@laptop", "address": "192.0.2.7", "job": None}
    return {"seq": seq, "at": f"2026-11-23T08:{at}+00:00", "run": run, "what": what, **asks, **fields}


def _answer(**hosts: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [{"host": name, "reachable": True, "error": None, "records": records} for name, records in hosts.items()]
    return {"format": 1, "stage": "production", "exit_code": 0, "hosts": rows}


def test_what_one_run_did_on_several_hosts_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    """With who asked and from where; another run's equal deed is a row of its own."""
    deed = [
        _record(1, "30:00", "lock", verb="deploy", tag="v2"),
        _record(2, "30:05", "confirmed", release="v2-aaaaaaaa", proof="unproven"),
    ]
    later = _record(3, "40:00", "lock", "r2", verb="deploy", tag="v2", refused="frozen")
    report.show_log(_answer(web1=[*deed, later], web2=deed), number=20, json=False)
    assert capsys.readouterr().out.splitlines() == [
        "log | stage production | 2 hosts: web1, web2 | OK",
        "WHEN                  HOST        WHO                        WHAT",
        "2026-11-23 08:30 UTC  web1, web2  ann@laptop from 192.0.2.7  deploy of v2 began",
        "2026-11-23 08:30 UTC  web1, web2  ann@laptop from 192.0.2.7  v2-aaaaaaaa confirmed, live: unproven",
        "2026-11-23 08:40 UTC  web1        ann@laptop from 192.0.2.7  deploy of v2 refused: frozen",
    ]


def test_a_clock_that_steps_back_never_turns_a_hosts_own_order() -> None:
    """Its journal's order stands, also where another host's equal rows came the other way round."""
    one = [_record(1, "30:00", "pinned", release="A"), _record(2, "10:00", "unpinned", release="A")]
    two = [_record(1, "05:00", "unpinned", release="A"), _record(2, "06:00", "pinned", release="A")]
    told = timeline.rows(_answer(web1=one, web2=two), 20)
    for host, deeds in (("web1", ["pinned A", "unpinned A"]), ("web2", ["unpinned A", "pinned A"])):
        assert [what for _, hosts, _, what in told if host in hosts] == deeds


def test_only_the_last_rows_are_told_and_no_text_acts(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason with an escape sequence is shown, not obeyed, and cut where it has no end."""
    records = [_record(n, f"{n:02}:00", "frozen", f"r{n}", reason="\x1b[2J" + "x" * 900) for n in range(1, 6)]
    told = timeline.rows(_answer(web1=records), 2)
    assert [when for when, *_ in told] == ["2026-11-23 08:04 UTC", "2026-11-23 08:05 UTC"]
    assert told[0][3].startswith("frozen until thawed: \\x1b[2Jxxx")
    assert len(told[0][3]) < 400
    report.show_log(_answer(web1=records), number=2, json=True)
    assert len(json.loads(capsys.readouterr().out)["hosts"][0]["records"]) == 5


def test_every_kind_of_record_has_its_words() -> None:
    """What the host tells is told in words, though every field be missing (an older journal)."""
    from deploy.onhost import log

    records = log.told([{"seq": n, "run": f"r{n}", "what": what} for n, what in enumerate(log.TOLD)], 99)
    assert set(log.TOLD) == set(timeline._TOLD)
    assert len(timeline.rows(_answer(web1=records), 99)) == len(log.TOLD)
