"""Answers about a closure: what a person reads of an audit and of a change."""

from __future__ import annotations

import json

import pytest

from deploy import report
from deploy.closure import Audit, Change, Finding, Held, Holding, Licence, Standing
from deploy.closure.advisories import Advisory
from deploy.report.closures import audit_lines, change_line, vendor_line

FLAW = Advisory("django", "5.1", ("PYSEC-1", "CVE-1"), ("5.1.2", "5.2"), "A flaw")
OPEN = Finding(FLAW, "requirements/app.in:1 -> django >=5: 5.1", "")


def lines(*findings: Finding, unknown: tuple[str, ...] = (), outdated: tuple[str, ...] = ()) -> list[str]:
    """What an audit of these findings says."""
    return audit_lines(Audit("service osv", 12, findings, unknown, outdated), "app")


def test_a_finding_names_ids_way_out_and_who_needs_it() -> None:
    """One run-time package is upgraded by name; several, and build tools, by an upgrade of all."""
    assert lines(OPEN) == [
        "django 5.1: PYSEC-1 (CVE-1): fixed in 5.1.2, 5.2: A flaw",
        "  needed by requirements/app.in:1 -> django >=5: 5.1",
        "pins: 12; advisories about them: 1, and accepted ones: 0",
        "next: fab vendor.upgrade django; or accept one by a line in requirements/app.in: # audit: PYSEC-1 WHY",
    ]
    tool = Finding(Advisory("tool", "1.0", ("CVE-2",), (), ""), "lib 1.0 [build] -> tool: 1.0", "")
    assert lines(tool)[0] == "tool 1.0: CVE-2: no fixed version is known: no summary"
    for told in (lines(tool), lines(OPEN, tool)):
        assert "next: fab vendor.upgrade; or" in told[-1]


def test_accepted_ones_are_shown_and_what_was_not_judged_is_named() -> None:
    """Nothing is to be done then, and nothing is hidden."""
    accepted = Finding(FLAW, "", "never called")
    assert lines(accepted, unknown=("own 1.0",), outdated=("CVE-9",)) == [
        "django 5.1: accepted (never called): PYSEC-1 (CVE-1): fixed in 5.1.2, 5.2: A flaw",
        "  needed by nothing that requirements/ asks for",
        "note: not known there, so not judged: own 1.0",
        "note: accepted in requirements/app.in, and not found: CVE-9",
        "pins: 12; advisories about them: 0, and accepted ones: 1",
    ]


def test_changes_say_sizes_and_licences() -> None:
    """A licence that stayed is no news."""
    small, big, other = Held("1.0", 900, "MIT"), Held("2.0", 2_500_000, "MIT"), Held("2.0", 900, "BUSL-1.1")
    assert change_line(Change("lib", small, big)) == "lib 1.0 -> 2.0: 900 B -> 2.5 MB"
    assert change_line(Change("lib", small, other)) == "lib 1.0 -> 2.0: 900 B -> 900 B; licence: MIT -> BUSL-1.1"
    assert change_line(Change("lib", None, small)) == "lib (new) -> 1.0: 900 B, licence: MIT"
    assert change_line(Change("lib", small, None)) == "lib 1.0 -> (gone): 900 B, licence: MIT"
    assert vendor_line(Holding({}, 900), Holding({}, 23_400_000)) == "vendor/: 900 B -> 23.4 MB"


def test_tables_show_foreign_words_safely_and_leave_out_what_is_not_newer(capsys: pytest.CaptureFixture[str]) -> None:
    """A licence is an archive's own text."""
    report.show_licences([Licence("lib", "1.0", "MIT\x1b[2J", "build", "wheel")], "requirements/app", json=False)
    assert "lib      1.0      MIT\\x1b[2J  build  wheel" in capsys.readouterr().out
    found = [Standing("dep", "1.0", "1.0", "2.0"), Standing("lib", "1.0", "1.0", "1.0")]
    report.show_outdated(found, "requirements/app", json=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2:4] == [["dep", "1.0", "2.0"], ["lib", "1.0"]]
    assert " ".join(rows[4]) == "1 of 2 run-time packages have newer versions, 0 of them within bounds"
    report.show_audit(Audit("x", 1, (OPEN,), (), ()), "requirements/app", "app", 1, json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["exit_code"], document["findings"][0]["advisory"]["ids"]) == (1, ["PYSEC-1", "CVE-1"])
