"""Hooks and environment of one host: the narrowest level that speaks decides."""

from __future__ import annotations

from typing import Any

from deploy.wire import commands
from deploy.wire.commands import Hook

LEVELS = commands.levels("production", ["web", "eu"], "web-1")


def hook(run: Any, **other: Any) -> dict[str, Any]:
    """One hook as the manifest carries it."""
    filled = {"once": False, "on": ["deploy", "rollback"], "timeout_s": 600, "idempotent": False, "user": None}
    return {"run": run, "sealed": False, **filled, **other}


def runs(
    settings: dict[str, Any], point: str = "prepare", verb: str = "deploy", levels: list[str] | None = None
) -> list:
    """What would be run."""
    return [found.run for found in commands.hooks_of(settings, point, verb, levels or LEVELS)]


def test_levels_go_from_wide_to_narrow_groups_in_the_hosts_order() -> None:
    """App, stage, each group as the host lists them, host; stage names keep equal names of two stages apart."""
    assert LEVELS == ["app", "stage:production", "group:production/web", "group:production/eu", "host:production/web-1"]


def test_a_narrower_level_replaces_a_point_and_leaves_other_points_alone() -> None:
    """One level's `prepare` replaces the wider `prepare`, whole; `probe` still comes from where it stands."""
    settings = {
        "hooks": {
            "app": {"prepare": [hook("a"), hook("b")], "probe": [hook("p")]},
            "group:production/web": {"prepare": [hook("c")]},
            "host:production/web-2": {"prepare": [hook("other host")]},
            "stage:staging": {"prepare": [hook("other stage")]},
        }
    }
    assert runs(settings) == ["c"]
    assert runs(settings, "probe") == ["p"]
    assert runs(settings, levels=commands.levels("staging", [], "x")) == ["other stage"]
    assert runs(settings, levels=commands.levels("test", [], "x")) == ["a", "b"]


def test_an_empty_point_takes_a_wider_levels_hooks_away() -> None:
    """[] is something said: this host runs nothing there."""
    settings = {"hooks": {"app": {"prepare": [hook("a")]}, "host:production/web-1": {"prepare": []}}}
    assert runs(settings) == []


def test_the_last_group_wins_and_the_host_wins_over_it() -> None:
    """Groups count in the order the host lists them."""
    settings: dict[str, Any] = {
        "hooks": {"group:production/eu": {"probe": [hook("eu")]}, "group:production/web": {"probe": [hook("web")]}}
    }
    assert runs(settings, "probe") == ["eu"]
    settings["hooks"]["host:production/web-1"] = {"probe": [hook("host")]}
    assert runs(settings, "probe") == ["host"]


def test_a_hook_runs_only_for_its_verbs() -> None:
    """A migration that says `on: [deploy]` does not run when an earlier release is activated."""
    settings = {"hooks": {"app": {"before_activate": [hook("migrate", on=["deploy"]), hook("warm")]}}}
    assert runs(settings, "before_activate") == ["migrate", "warm"]
    assert runs(settings, "before_activate", "rollback") == ["warm"]


def test_text_runs_in_a_shell_and_a_list_is_an_argv() -> None:
    """A list never meets a shell; both read as they were written in messages."""
    settings = {"hooks": {"app": {"prepare": [hook("a && b"), hook(["x", "y z"])]}}}
    first, second = commands.hooks_of(settings, "prepare", "deploy", LEVELS)
    assert (first.argv, first.text) == (["/bin/sh", "-c", "a && b"], "a && b")
    assert (second.argv, second.text) == (["x", "y z"], "x y z")


def test_every_field_of_a_hook_is_taken() -> None:
    """Nothing that settings say of a hook is lost on the way to the host."""
    value = hook("m", once=True, on=["deploy"], timeout_s=7, idempotent=True, user="app", sealed=True)
    (found,) = commands.hooks_of({"hooks": {"app": {"probe": [value]}}}, "probe", "deploy", LEVELS)
    assert found == Hook("m", True, ("deploy",), 7.0, True, "app", True)


def test_environment_is_laid_key_over_key() -> None:
    """Unlike hooks, a narrower environment adds to the wider one and overrides single names."""
    settings = {
        "environment": {
            "app": {"A": "1", "B": "1"},
            "stage:production": {"B": "2"},
            "host:production/web-1": {"C": "3"},
            "host:production/web-2": {"A": "9"},
        }
    }
    assert commands.environment_of(settings, LEVELS) == {"A": "1", "B": "2", "C": "3"}


def test_settings_without_hooks_or_environment_give_none() -> None:
    """A release made before a key existed still resolves."""
    assert runs({}) == []
    assert commands.environment_of({}, LEVELS) == {}
