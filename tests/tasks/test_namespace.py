"""What a three-line fabfile gives, seen through the real ``fab``."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deploy

Fab = Callable[..., Any]


def test_the_stock_executable_lists_and_refuses(fab_program: Fab) -> None:
    """The installed `fab` script, untouched, shows our tasks and speaks the colon form."""
    listed = fab_program("--list")
    assert listed.code == 0, listed.err
    for word in ("deploy", "rollback", "status", "releases", "check", "verify", "prune", "production", "sandbox.up"):
        assert f"  {word} " in listed.out
    refused = fab_program("rolback:v1")
    assert (refused.code, refused.out, refused.err) == (2, "", "no task 'rolback'; did you mean 'rollback:v1'?\n")


def test_a_fabfile_can_be_imported_without_fab(project: Path) -> None:
    """Under pytest, Sphinx or a plain import the fabfile is only a module with a collection."""
    ns = runpy.run_path(str(project / "fabfile.py"))["ns"]
    assert {"deploy", "rollback", "production"} <= set(ns.task_names)
    assert ns.configuration()["sealed_deploy"] == {"project": str(project), "stage": None}


def test_a_fabfile_that_is_a_package_has_its_project_above(project: Path) -> None:
    """`fabfile/__init__.py` belongs to the folder that holds `fabfile/`, as Fabric sees it."""
    (project / "fabfile.py").unlink()
    (project / "fabfile").mkdir()
    (project / "fabfile" / "__init__.py").write_text("from deploy.tasks import namespace\nns = namespace()\n")
    ns = runpy.run_path(str(project / "fabfile" / "__init__.py"))["ns"]
    assert ns.configuration()["sealed_deploy"]["project"] == str(project)


def test_a_projects_own_task_replaces_ours_and_a_stage(project: Path, fab: Fab) -> None:
    """A task of the same name given to namespace() wins, also over a stage's word."""
    (project / "fabfile.py").write_text(
        "from fabric import task\nfrom deploy.tasks import namespace\n"
        "@task\ndef status(c):\n    print('my own')\n"
        "@task\ndef staging(c):\n    print('my staging')\n"
        "ns = namespace(status, staging)\n"
    )
    assert fab("status", "staging").out == "my own\nmy staging\n"


@pytest.mark.parametrize(
    "text",
    ["deploy: {", "deploy:\n  app: a\n  app: b\n", "[1]", "\x00"],
)
def test_a_fabric_yaml_that_cannot_be_parsed_is_three_lines(project: Path, fab: Fab, text: str) -> None:
    """Broken YAML, a key named twice or no mapping: exit 2 with the file's path, and no traceback."""
    (project / "fabric.yaml").write_text(text)
    ended = fab("status")
    assert (ended.code, ended.out) == (2, "")
    what, why, following = ended.err.splitlines()
    assert what == "nothing was contacted: fabric.yaml cannot be read"
    assert why.startswith("why: ")
    assert str(project / "fabric.yaml") in following


@pytest.mark.parametrize("text", ["", "run: {echo: true}\n", "deploy:\n", "deploy: [1]\n", "deploy: {stages: [1]}\n"])
def test_settings_that_parse_but_make_no_sense_still_list_tasks(project: Path, fab: Fab, text: str) -> None:
    """`fab --list` and help work whatever the settings say: the real errors come when a command reads them."""
    (project / "fabric.yaml").write_text(text)
    assert "rollback" in fab("--list").out


def test_stages_that_are_no_words_are_left_to_the_flag(project: Path, fab: Fab) -> None:
    """A dotted stage name is no task (Invoke would split it) and does not break the others."""
    (project / "fabric.yaml").write_text(
        "deploy: {stages: {eu.west: {hosts: [a]}, '-x': {hosts: [a]}, good: {hosts: [b]}}}\n"
    )
    listed = fab("--list").out
    assert "  good " in listed
    assert "eu" not in listed


def test_importing_the_tasks_leaves_the_heavy_parts_unloaded(project: Path) -> None:
    """`fab --list` pays for no pipeline, closure, bundle, rich or sandbox."""
    code = (
        "import sys, fabric.main\nbefore = set(sys.modules)\nimport runpy\nrunpy.run_path('fabfile.py')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    source = str(Path(deploy.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    for name in (
        "rich",
        "asyncssh",
        "deploy.pipeline",
        "deploy.closure",
        "deploy.bundle",
        "deploy.fleet",
        "deploy.link",
        "deploy.report",
    ):
        assert name not in loaded
