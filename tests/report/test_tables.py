"""Tables of status and releases, and their JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy import report


def _release(tag: str, seq: int, state: str, *, bad: bool = False, pinned: str = "") -> dict[str, Any]:
    return {
        "release": f"{tag}-aaaaaaaa",
        "tag": tag,
        "commit": "0123456789abcdef",
        "state": state,
        "bad": bad,
        "pinned": {"by": pinned, "since": "2026-11-23T08:30:00+00:00"} if pinned else None,
        "seq": seq,
        "deployed_at": "2026-11-23T08:30:00+00:00",
        "by": "ann@bastion",
        "sealed": "kernel",
    }


OLD, NEW, BROKEN = (
    _release("v9", 3, "RETIRED", pinned="bob"),
    _release("v10", 7, "ACTIVE"),
    _release("v11", 5, "RETIRED", bad=True),
)
ANSWER: dict[str, Any] = {
    "format": 1,
    "stage": "production",
    "exit_code": 4,
    "hosts": [
        {
            "host": "web-1",
            "reachable": True,
            "error": None,
            "next_step": None,
            "current": NEW,
            "previous": OLD,
            "releases": [BROKEN, NEW, OLD],
            "lock": {
                "by": "bob@laptop",
                "verb": "deploy",
                "run": "5f",
                "tag": "v10",
                "from": "192.0.2.7",
                "held_s": 150.2,
            },
            "pending": "unconfirmed: v10",
            "live": "proven by the unit's cgroup",
            "notes": ["a release of another program: x\x1b[2J"],
        },
        {
            "host": "web-2",
            "reachable": False,
            "error": "connect: refused",
            "next_step": "ssh web-2",
            "current": None,
            "previous": None,
            "releases": [],
            "lock": None,
            "pending": None,
            "live": None,
            "notes": [],
        },
    ],
}


def test_releases_newest_first_by_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    """The journal's numbers order the list (v10 after v9, a bad v11 between), the live one is marked."""
    report.show_releases(ANSWER, json=False)
    assert capsys.readouterr().out == (
        "releases | stage production | 2 hosts: web-1, web-2 | MIXED (exit 4)\n"
        "HOST       TAG          RELEASE       STATE    BAD  PIN  COMMIT      BY           WHEN\n"
        "web-1  ->  v10          v10-aaaaaaaa  ACTIVE             0123456789  ann@bastion  2026-11-23 08:30 UTC\n"
        "web-1      v11          v11-aaaaaaaa  RETIRED  bad       0123456789  ann@bastion  2026-11-23 08:30 UTC\n"
        "web-1      v9           v9-aaaaaaaa   RETIRED       bob  0123456789  ann@bastion  2026-11-23 08:30 UTC\n"
        "web-2      unreachable\n"
        "web-1: locked, bob@laptop runs deploy of v10 from 192.0.2.7, for 2 min\n"
        "web-1: pending: unconfirmed: v10\n"
        "web-1: note: a release of another program: x\\x1b[2J\n"
        "web-2: unreachable: connect: refused\n"
        "web-2: next: ssh web-2\n"
    )


def test_status_says_what_is_live_and_how_that_is_proven(capsys: pytest.CaptureFixture[str]) -> None:
    """One row per host; an unreachable host is a row too, never left out."""
    report.show_status(ANSWER, json=False)
    head, columns, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head == "status | stage production | 2 hosts: web-1, web-2 | MIXED (exit 4)"
    assert columns.split() == ["HOST", "LIVE", "PROOF", "PREVIOUS", "BY", "WHEN", "SEAL"]
    assert first.startswith("web-1  v10-aaaaaaaa  proven by the unit's cgroup  v9-aaaaaaaa  ann@bastion")
    assert first.endswith("kernel")
    assert second == "web-2  unreachable"


def test_json_is_the_answer_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints the whole document and nothing else, ASCII only."""
    for show in (report.show_status, report.show_releases):
        show(ANSWER, json=True)
        out = capsys.readouterr().out
        assert out.isascii()
        assert json.loads(out) == ANSWER


def test_a_host_without_a_release_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first deploy nothing is live, and that is shown in words."""
    host = {"host": "web-1", "reachable": True, "current": None, "previous": None, "releases": [], "live": None}
    report.show_status({"stage": "staging", "exit_code": 0, "hosts": [host]}, json=False)
    assert capsys.readouterr().out.splitlines()[2] == "web-1  nothing"


def test_a_host_without_releases_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer is shown as one, not as a missing host."""
    report.show_releases({"stage": "staging", "exit_code": 0, "hosts": [{"host": "web-1", "releases": []}]}, json=False)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["web-1", "none"]


def test_sandbox_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    """The sandbox's table names where to look; without hosts it names the command that starts them."""
    host = {"name": "sandbox-1", "address": "127.0.0.1", "port": 2201, "root": "/p/.sandbox/host-1/root"}
    report.show_sandbox([host, {**host, "name": "sandbox-2", "ssh": False, "live": "v1-aaaaaaaa"}])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["sandbox-1", "127.0.0.1:2201", "nothing", "/p/.sandbox/host-1/root"]
    assert second.split() == ["sandbox-2", "down", "v1-aaaaaaaa", "/p/.sandbox/host-1/root"]
    report.show_sandbox([])
    report.show_stopped([host])
    assert capsys.readouterr().out == "no sandbox host; start three: fab sandbox.up\nstopped 1 host: sandbox-1\n"


def test_hosts_that_differ_are_named_with_what_makes_them_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A MIXED status says why; while somebody is at work, hosts may differ for a moment."""
    hosts: list[dict[str, Any]] = [
        {"host": name, "reachable": True, "current": live, "releases": [], "lock": None}
        for name, live in (("web-1", NEW), ("web-2", OLD), ("web-3", NEW))
    ]
    answer = {"format": 1, "stage": "production", "exit_code": 4, "hosts": hosts}
    report.show_status(answer, json=False)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "the hosts differ: v10-aaaaaaaa on web-1, web-3; v9-aaaaaaaa on web-2",
        "next: fab deploy:TAG --stage production makes them one, or fab rollback:TAG --stage production",
    ]
    hosts[0]["lock"] = {"by": "ann", "verb": "deploy"}
    report.show_status(answer, json=False)
    assert "differ" not in capsys.readouterr().out


def test_a_freeze_stands_above_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Who, why, since, until, and how it ends, told once for hosts that share it; what it says cannot act."""
    freeze = {"by": "ann@laptop", "reason": "audit\x1b[2J", "since": "2026-11-23T08:00:00+00:00", "until": None}
    frozen = {"web-1": freeze, "web-2": freeze, "web-3": None}
    hosts = [{"host": name, "reachable": True, "releases": [], "freeze": one} for name, one in frozen.items()]
    for show in (report.show_status, report.show_releases):
        show({"stage": "production", "exit_code": 0, "hosts": hosts}, json=False)
        assert capsys.readouterr().out.splitlines()[1:3] == [
            "web-1, web-2: frozen by ann@laptop since 2026-11-23 08:00 UTC, until somebody thaws it: audit\\x1b[2J",
            "next: fab thaw --stage production  # ends the freeze",
        ]


def test_a_next_command_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Half of a command cannot be typed."""
    step = "ssh -i " + "/a/long/way" * 30 + " deploy@web-1"
    host = {"host": "web-1", "reachable": False, "error": "refused", "next_step": step, "releases": []}
    report.show_status({"format": 1, "stage": "s", "exit_code": 4, "hosts": [host]}, json=False)
    assert f"web-1: next: {step}\n" in capsys.readouterr().out
