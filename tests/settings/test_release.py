"""Release settings: the tag's own file to frozen values, every problem at once."""

from __future__ import annotations

import json

import pytest

from deploy.errors import ExitCode, Refused
from deploy.settings import release_from_text, release_of
from deploy.wire import commands

MINIMAL = 'deploy:\n  app: demo\n  python: "3.11"\n'


def problems_of(text: str) -> tuple[str, ...]:
    """Give the problems that a file's text is refused with, without its name."""
    with pytest.raises(Refused) as refused:
        release_from_text(text)
    assert refused.value.exit_code is ExitCode.REFUSED
    return tuple(problem.removeprefix("fabric.yaml: ") for problem in refused.value.problems)


def test_defaults_are_filled_in() -> None:
    """Two keys are enough; the manifest holds every default and is plain JSON."""
    made = release_from_text(MINIMAL).to_manifest()
    assert json.loads(json.dumps(made)) == made
    assert made == {
        "requirements": "app",
        "python": "3.11",
        "shared": {"dirs": [], "files": []},
        "env_files": [],
        "site_packages": "link",
        "environment": {},
        "hooks": {},
    }


def test_a_full_file() -> None:
    """Every release key arrives; operator keys of the same file are left alone, whatever they hold."""
    made = release_from_text(
        MINIMAL + "  requirements: prod\n  subdirectory: ./services/shop/\n  exclude: [docs, '*.md']\n"
        "  shared: {dirs: [media], files: [local.cfg]}\n  env_files: [shared/.env, /etc/demo.env]\n"
        "  site_packages: copy\n  root: [not, a, root]\n  keep: many\n"
    )
    assert (made.requirements, made.subdirectory, made.exclude) == ("prod", "services/shop", ("docs", "*.md"))
    assert (made.shared_dirs, made.shared_files) == (("media",), ("local.cfg",))
    assert (made.env_files, made.site_packages) == (("shared/.env", "/etc/demo.env"), "copy")


def test_targets_are_the_pythons_and_platforms_that_hosts_have() -> None:
    """Without any, `python` alone; with some, it must be one of them; what names no target is told."""
    assert release_from_text(MINIMAL).locked_for == ("3.11",)
    several = release_from_text(MINIMAL + '  targets: [3.10-linux_aarch64, "3.11.2-manylinux_2_34_x86_64"]\n')
    assert several.locked_for == ("3.10-linux_aarch64", "3.11.2-manylinux_2_34_x86_64")
    assert problems_of(MINIMAL + '  targets: ["3.1", "3.12-linux_x86_64"]\n') == (
        "targets: `python` is '3.11', which is none of them",
    )
    for wrong in ("[3.11]", "[3.11-windows]", "[2.7-linux_x86_64]", "[3.11-macosx_11_0_arm64]"):
        assert "targets.0: expected Pythons and platforms" in problems_of(MINIMAL + f"  targets: {wrong}\n")[0]


def test_hooks_at_every_level_reach_the_host_that_runs_them() -> None:
    """Hooks and environment of app, stage, group and host travel by level, and the host's side resolves them."""
    made = release_from_text(
        MINIMAL
        + """
  environment: {A: app, B: app}
  hooks: {prepare: collect, before_activate: {run: [python, manage.py, migrate], once: true}}
  stages:
    live:
      hooks: {prepare: [stage-1, [stage-2, arg], {run: stage-3, timeout_s: 5, user: www, sealed: true}]}
      groups: {web: {environment: {B: group}}}
      hosts: {web-1: {groups: [web], hooks: {after_activate: warm, prepare: null}}, web-2: null}
"""
    ).to_manifest()
    levels = commands.levels("live", ["web"], "web-1")
    assert set(made["hooks"]) == {"app", "stage:live", "host:live/web-1"}
    assert commands.environment_of(made, levels) == {"A": "app", "B": "group"}
    assert commands.hooks_of(made, "prepare", "deploy", levels) == []
    second = commands.hooks_of(made, "prepare", "deploy", commands.levels("live", [], "web-2"))
    assert [hook.argv for hook in second] == [
        ["/bin/sh", "-c", "stage-1"],
        ["stage-2", "arg"],
        ["/bin/sh", "-c", "stage-3"],
    ]
    assert (second[2].timeout_s, second[2].user, second[2].sealed) == (5.0, "www", True)


def test_before_activate_runs_on_deploy_alone_by_default() -> None:
    """A migration does not run on rollback unless it says so; other points run on both."""
    made = release_from_text(MINIMAL + "  hooks: {before_activate: migrate, after_activate: warm}\n").to_manifest()
    assert [hook["on"] for hook in made["hooks"]["app"]["before_activate"]] == [["deploy"]]
    assert [hook["on"] for hook in made["hooks"]["app"]["after_activate"]] == [["deploy", "rollback"]]


@pytest.mark.parametrize("key", ["on", '"on"', "'on'"])
def test_the_key_on_survives_yaml_1_1(key: str) -> None:
    """YAML 1.1 reads a bare `on` as true; it is the hook's key all the same."""
    made = release_from_text(MINIMAL + f"  hooks: {{probe: {{run: x, {key}: rollback}}}}\n").to_manifest()
    assert made["hooks"]["app"]["probe"][0]["on"] == ["rollback"]


MISTAKES = """
deploy:
  python: 3.10
  requirement: x
  subdirectory: ../up
  site_packages: lnik
  shared: {dirs: [media, media/x, /abs], filez: []}
  env_files: [.env, shared/../x]
  environment: {DEBUG: on, BAD-NAME: x, PORT: 8000}
  hooks:
    prepar: x
    probe: {run: "", onec: true, on: [deploi], timeout_s: -1, idempotent: 1}
    failed: [[], {user: "a b", run: x}]
  stages:
    live: {requirements: y, hosts: {web-1: {keep: 3, exclude: []}}}
"""

FOUND = """
app: required: a word
env_files: '.env' must lie in shared/ or be absolute: releases hold no secrets
env_files: expected a path below ROOT or an absolute one, got 'shared/../x'
environment.'BAD-NAME': not a variable name
environment.DEBUG: expected text, got True; put it in quotes
environment.PORT: expected text, got 8000; put it in quotes
hooks.failed.0.run: expected a command: text for /bin/sh, or a list of program and arguments
hooks.failed.1.user: expected a user name, got 'a b'
hooks.prepar: unknown key; did you mean 'prepare'?
hooks.probe.idempotent: expected true or false, got 1
hooks.probe.on: expected deploy or rollback, got 'deploi'; did you mean 'deploy'?
hooks.probe.onec: unknown key; did you mean 'once'?
hooks.probe.run: expected a command: text for /bin/sh, or a list of program and arguments
hooks.probe.timeout_s: expected seconds, more than 0 to 86400, got -1
python: expected a version such as "3.11", in quotes, got 3.1; put it in quotes
requirement: unknown key; did you mean 'requirements'?
shared.dirs: expected a path inside src/, got '/abs'
shared.filez: unknown key; did you mean 'files'?
shared: 'media/x' lies in 'media'
site_packages: expected link or copy, got 'lnik'; did you mean 'link'?
stages.live.hosts.web-1.exclude: belongs to the release scope (the tag's own file), at level: app; not at host level
stages.live.requirements: belongs to the release scope (the tag's own file), at level: app; not at stage level
subdirectory: expected a path inside the repository, got '../up'
"""


def test_every_problem_is_reported_at_once_with_its_path() -> None:
    """One run of the file lists all mistakes, each with path, and the nearest right word."""
    assert sorted(problems_of(MISTAKES)) == FOUND.strip().splitlines()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("[[sleep, 5]]", "every word of a command must be text"),
        ("{run: ['']}", "every word of a command must be text"),
        ('"a\\0b"', "expected a command"),
        ("7", "expected a command"),
        ("{run: x, on: []}", "name at least one of deploy, rollback"),
    ],
)
def test_commands_that_cannot_run_are_refused(command: str, says: str) -> None:
    """Words that are no text, an empty program, a NUL, and a hook that would never run."""
    (problem,) = problems_of(MINIMAL + f"  hooks: {{probe: {command}}}\n")
    assert says in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deploy: {app: a, app: b}", "line 1: 'app' is already set on line 1"),
        ("deploy:\n  app: a\n  keep: 1\n  app: b\n", "line 4: 'app' is already set on line 2"),
        ("deploy: [", "expected the node content"),
        ("deploy: {a: *nobody}", "undefined alias"),
        ("deploy: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("deploy: {? [a, b] : c}", "unhashable key"),
        ("deploy: 2001-99-99", "unreadable value"),
        ("", "there is no top-level key 'deploy'"),
        ("- deploy", "there is no top-level key 'deploy'"),
        ("[" * 5000, "unreadable value"),
    ],
)
def test_files_that_are_not_settings_are_refused(text: str, says: str) -> None:
    """Broken, hostile or ambiguous YAML is one clear problem, never a traceback or a silent last-one-wins."""
    (problem,) = problems_of(text)
    assert says in problem


@pytest.mark.parametrize("value", ["1", "[]", "text", "{1: x, 2.5: y, null: z, false: w}", "{stages: [a]}"])
def test_values_of_another_shape_are_problems(value: str) -> None:
    """A list where a mapping belongs, and keys that are no text, are named as such."""
    found = problems_of(f"deploy: {value}")
    assert any("expected a mapping" in text or "a key must be text" in text for text in found)


def test_merge_keys_and_anchors_work() -> None:
    """YAML's own way to share settings keeps working under the strict reader."""
    made = release_from_text("x: &x {app: demo}\ndeploy: {<<: *x, python: '3.11', requirements: web}\n")
    assert (made.app, made.requirements) == ("demo", "web")


def test_a_recursive_alias_does_not_hang() -> None:
    """A mapping that holds itself is refused like any other unreadable file."""
    assert "recursive" in problems_of("deploy: &d {self: *d}")[0]


def test_the_same_values_from_a_mapping() -> None:
    """A mapping that is already loaded gives the same settings as its text."""
    assert release_of({"app": "demo", "python": "3.11"}) == release_from_text(MINIMAL)


def test_once_is_refused_where_hosts_do_not_stand_together() -> None:
    """While staging every host is on its own: `once` there would mean never."""
    text = "deploy: {app: shop, python: '3.11', hooks: {prepare: {run: make, once: true}}}"
    with pytest.raises(Refused) as caught:
        release_from_text(text, "fabric.yaml")
    assert "hooks.prepare.once: only migrations, before_activate, after_activate" in str(caught.value)
