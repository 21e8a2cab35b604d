"""The commands against the real pipeline, on hosts that are folders of this machine (``local: true``).

What reaches a host runs as a program of its own, like an operator's; what is refused before that, in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fab = Callable[..., Any]


@pytest.fixture
def shop(project: Path) -> Path:
    """A repository with two stages of local hosts, on which nothing was ever deployed."""
    root = os.getuid() == 0
    (project / "fabric.yaml").write_text(
        f"""\
deploy:
  app: shop
  python: "{sys.version_info[0]}.{sys.version_info[1]}"
  allow_root: {str(root).lower()}
  stages:
    staging: {{root: "{project}/s", hosts: {{s1: {{local: true}}}}}}
    production:
      hosts:
        web-1: {{local: true, root: "{project}/w1", python: "{sys.executable}"}}
        web-2: {{local: true, root: "{project}/w2", python: "{sys.executable}"}}
"""
    )
    for folder in ("s", "w1", "w2"):
        (project / folder).mkdir()
    for words in (["init", "-q"], ["add", "fabfile.py", "fabric.yaml"], ["commit", "-q", "-m", "one"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=project, check=True, stdin=subprocess.DEVNULL)
    return project


def test_status_as_json_is_one_document_for_the_stage_asked(shop: Path, fab_program: Fab) -> None:
    """`fab production status --json` answers for both hosts on stdout, and nothing else is there."""
    ended = fab_program("production", "status", "--json")
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out)
    assert answer["stage"] == "production"
    assert [(host["host"], host["reachable"], host["current"]) for host in answer["hosts"]] == [
        ("web-1", True, None),
        ("web-2", True, None),
    ]


@pytest.mark.parametrize("words", [["-H", "web-2"], ["--hosts", "web-2"]])
def test_hosts_narrow_the_fleet(shop: Path, fab_program: Fab, words: list[str]) -> None:
    """`-H web-2` before and `--hosts web-2` after the command ask that host alone."""
    line = [*words, "releases", "--stage", "production"] if words[0] == "-H" else ["production", "releases", *words]
    ended = fab_program(*line)
    assert (ended.code, ended.lines[0]) == (0, "releases | stage production | 1 host: web-2 | OK"), ended.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("status", "no stage was named"),
        ("production status -H web-3", "no host 'web-3'"),
        ("production status -H ,", "list of hosts is empty"),
        ("status --stage prod", "production"),
        ("production deploy:v9", "no tag v9"),
        ("production deploy", "tag"),
        ("production deploy --wait -5", "--wait -5 is negative"),
        ("production prune --free much", "'much' is no amount of space"),
        ("production freeze audit --for 2x", "'2x' is no time span"),
        ("production freeze audit --until tomorrow", "'tomorrow' is no moment"),
        ("production freeze audit --until 2020-01-01T08:00", "2020-01-01T08:00 is past"),
        ("production freeze audit --until 2099-01-01T08:00 --for 2h", "--until and --for"),
        ("production log -n 0", "-n 0"),
        ("production pin:v1 --wait -1", "--wait -1 is negative"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_host(shop: Path, fab: Fab, line: str, words: str) -> None:
    """Exit 2 with what, why and the next command; no host was touched."""
    ended = fab(*line.split())
    assert (ended.code, ended.out) == (2, "")
    what, *rest = ended.err.splitlines()
    assert "contacted" in what
    assert words in ended.err
    assert rest[0].startswith("why: ")
    assert rest[-1].startswith("next: ")
    assert not list((shop / "w1").iterdir())


def test_a_rollback_with_nowhere_to_go_fails_on_every_host(shop: Path, fab_program: Fab) -> None:
    """The run's exit code is fab's; each failing host is listed; first and last lines say where."""
    ended = fab_program("production", "rollback")
    where = "rollback | stage production | 2 hosts: web-1, web-2"
    assert ended.code == 1
    assert ended.lines[0] == where
    assert ended.lines[-1].startswith(f"{where} | FAILED (exit 1) | ")
    assert [line[:9] for line in ended.lines if line.startswith("  - ")] == ["  - web-1", "  - web-2"]


@pytest.mark.parametrize("words", [["pin"], ["unpin"], ["freeze"]])
def test_a_pin_needs_its_tag_and_a_freeze_its_reason(shop: Path, fab: Fab, words: list[str]) -> None:
    """Nothing is guessed: exit 2."""
    ended = fab("production", *words)
    assert (ended.code, ended.out) == (2, "")
    assert "did not receive" in ended.err
    assert fab("production", "freeze", " \x1b ").code == 2


@pytest.mark.parametrize("words", [["pin:v1"], ["pin", "v1"], ["unpin", "--tag", "v1"]])
def test_a_tag_that_no_host_has_is_not_pinned(shop: Path, fab_program: Fab, words: list[str]) -> None:
    """Every form of a tag is read; each host says what it has."""
    ended = fab_program("production", *words)
    assert ended.code == 1, ended.err
    assert "  - web-2: choose: v1 is not on this host; here are: none" in ended.lines


def test_a_freeze_is_one_reason_whatever_signs_it_holds(shop: Path, fab_program: Fab) -> None:
    """Commas, colons and the names of tasks are text; it is told by status, log and the next deploy, until thawed."""
    reason = "deploy: 1, 2\x1b[2J and log"
    ended = fab_program("production", "freeze", reason, "--for", "1d12h")
    assert ended.code == 0, ended.err
    assert "undo: fab thaw --stage production" in ended.lines
    shown = fab_program("production", "status").lines[1]
    assert shown.startswith("web-1, web-2: frozen by ")
    assert shown.endswith(": deploy: 1, 2 [2J and log")
    freeze = json.loads(fab_program("production", "status", "--json").out)["hosts"][0]["freeze"]
    assert freeze["reason"] == "deploy: 1, 2 [2J and log"
    assert fab_program("production", "prune").code == 5
    assert fab_program("production", "thaw").code == 0
    assert fab_program("production", "prune").code == 0
    log = fab_program("production", "log", "-n", "4").lines
    assert [line.split("  ")[-1] for line in log[2:]] == [
        "prune refused: frozen", "thaw began", "thawed", "prune began",
    ]  # fmt: skip
    assert all("web-1, web-2" in line for line in log[2:])


def test_events_as_json_lines(shop: Path, fab_program: Fab) -> None:
    """`check --json` gives a machine every event, the last being the end with its exit code."""
    ended = fab_program("production", "check", "--json")
    records = [json.loads(line) for line in ended.lines]
    assert records[0]["event"] == "run_started"
    assert records[-1]["event"] == "run_ended"
    assert records[-1]["exit_code"] == ended.code


def test_a_setting_from_the_command_line_counts(shop: Path, fab_program: Fab) -> None:
    """Fabric's own precedence: `-f other.yaml` wins over the project's file."""
    (shop / "other.yaml").write_text("deploy: {default_stage: staging}\n")
    assert fab_program("-f", "other.yaml", "status").lines[0] == "status | stage staging | 1 host: s1 | OK"


def test_several_mistakes_in_the_settings_are_reported_at_once(shop: Path, fab: Fab) -> None:
    """Every mistake with its path, exit 2; the stage words and `fab --list` still work."""
    text = (shop / "fabric.yaml").read_text()
    (shop / "fabric.yaml").write_text(text + "  kep: 5\n  keep: many\n")
    ended = fab("production", "status")
    assert (ended.code, ended.out) == (2, "")
    assert "did you mean 'keep'?" in ended.err
    assert sum(line.startswith("  - ") for line in ended.err.splitlines()) == 2
    assert "production" in fab("--list").out


def test_the_sandbox_tasks_answer(shop: Path, fab: Fab) -> None:
    """Without a sandbox, status names the command that starts one; a count that makes no sense is exit 2."""
    assert fab("sandbox.status").out == "no sandbox host; start three: fab sandbox.up\n"
    assert fab("sandbox.up", "--hosts", "0").code == 2


def test_a_closure_that_was_never_locked_is_exit_2(shop: Path, fab: Fab) -> None:
    """`fab vendor.check` says what is missing and which command makes it."""
    ended = fab("vendor.check")
    assert ended.code == 2
    assert "fab vendor.lock" in ended.err
