"""One run for the whole fleet, however hosts are named; the user's own tasks keep Fabric's ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fab = Callable[..., Any]


@pytest.mark.parametrize(
    "words", [["-H", "a,b", "ship"], ["--hosts", "a,b", "ship"], ["ship", "-H", "a,b"], ["ship", "--hosts", "a,b"]]
)
def test_hosts_narrow_one_run(recording: Fab, words: list[str]) -> None:
    """`-H a,b` gives one run the list, instead of one run per host."""
    assert recording(*words).lines == ["ship | {'hosts': 'a,b'} | None | -"]


def test_a_stage_word_is_not_repeated_per_host(recording: Fab) -> None:
    """The stage is chosen once, also where -H names several hosts or none at all."""
    assert recording("-H", "a,b", "production", "ship").lines == ["ship | {'hosts': 'a,b'} | production | -"]
    assert recording("-H", ",", "production", "ship").lines == ["ship | {'hosts': ','} | production | -"]


def test_the_users_tasks_still_run_once_per_host(recording: Fab) -> None:
    """Beside a fleet task, an ordinary task keeps Fabric's per-host loop, in order."""
    assert recording("-H", "a,b", "plain", "ship", "plain").lines == [
        "plain | {'note': 'x'} | None | a",
        "plain | {'note': 'x'} | None | b",
        "ship | {'hosts': 'a,b'} | None | -",
        "plain | {'note': 'x'} | None | a",
        "plain | {'note': 'x'} | None | b",
    ]


def test_the_same_command_twice_runs_twice(recording: Fab) -> None:
    """Putting a fleet call back together never swallows a second one."""
    assert recording("-H", "a,b", "ship", "ship").lines == ["ship | {'hosts': 'a,b'} | None | -"] * 2


def test_a_fleet_task_before_a_users_task_is_narrowed_too(recording: Fab) -> None:
    """A pre-task must not quietly go to the whole fleet when -H names two hosts."""
    assert recording("-H", "a,b", "both").lines == [
        "ship | {'hosts': 'a,b'} | None | -",
        "both | {} | None | a",
        "both | {} | None | b",
    ]


def test_calling_a_fleet_task_once_per_host_is_refused(recording: Fab) -> None:
    """A user's task that calls one of ours may not be looped over hosts: that would repeat a fleet run."""
    assert recording("wraps").out == "ship | {'tag': 'v1'} | None | -\n"
    ended = recording("-H", "a,b", "wraps")
    assert (ended.code, ended.out) == (2, "")
    assert "runs once for the whole fleet" in ended.err


def test_a_stage_word_reaches_a_task_that_wraps_ours(recording: Fab) -> None:
    """The stage is the session's: `production wraps` gives it to what `wraps` calls."""
    assert recording("production", "wraps").out == "ship | {'tag': 'v1'} | production | -\n"


def test_yaml_keys_that_are_no_words_do_not_kill_fabric(project: Path, recording: Fab) -> None:
    """`on:` (true in YAML 1.1) and a stage called `1` reach the settings by name; Fabric would die of them."""
    (project / "fabric.yaml").write_text(
        "deploy:\n  hooks: {before_activate: {run: x, on: [deploy]}}\n"
        "  stages: {1: {hosts: [a]}, 'off': {hosts: [b]}}\n"
    )
    (project / "fabfile.py").write_text(
        "from deploy.tasks import namespace\nfrom fabric import task\n"
        "from deploy.tasks.commands import settings_of\n"
        "@task\ndef show(c):\n    print(settings_of(c), c.config.sealed_deploy.stage)\n"
        "ns = namespace(show)\n"
    )
    ended = recording("1", "show")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "{'hooks': {'before_activate': {'run': 'x', 'on': ['deploy']}}, "
        "'stages': {'off': {'hosts': ['b']}, '1': {'hosts': ['a']}}} 1\n"
    )


def test_an_environment_variable_that_fits_no_setting_is_exit_2(
    project: Path, recording: Fab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fabric cannot turn a variable into a list; that is a refusal, not a traceback."""
    (project / "fabric.yaml").write_text("deploy:\n  exclude: [a]\n")
    monkeypatch.setenv("FABRIC_DEPLOY_EXCLUDE", "b")
    ended = recording("ship")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("settings and environment variables disagree: ")
