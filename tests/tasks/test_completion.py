"""Tab completion of tags, as fab's own completion scripts ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deploy

Fab = Callable[..., Any]


@pytest.fixture
def tagged(project: Path) -> Path:
    """The project as a real repository with two tags."""
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "one"],
        ["tag", "v1.0"],
        ["tag", "v1.1"],
    ):
        subprocess.run(["git", *words], cwd=project, check=True, stdin=subprocess.DEVNULL)
    return project


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fab rollback:v", ["rollback:v1.0", "rollback:v1.1"]),
        ("fab rollback : v", ["v1.0", "v1.1"]),
        ("fab pin:v", ["pin:v1.0", "pin:v1.1"]),
        ("fab unpin : v", ["v1.0", "v1.1"]),
        ("fab rollback :", ["v1.0", "v1.1"]),
        ("fab deploy --tag v", ["v1.0", "v1.1"]),
        ("fab production deploy --tag", ["v1.0", "v1.1"]),
    ],
)
def test_where_only_a_tag_fits_only_tags_are_offered(tagged: Path, fab: Fab, line: str, offered: list[str]) -> None:
    """Zsh and fish ask for `rollback:v`, bash breaks the same word in three; both get what they can use."""
    ended = fab("--complete", "--", *line.split())
    assert (ended.code, sorted(ended.lines)) == (0, offered)


def test_where_a_tag_or_a_task_fits_both_are_offered(tagged: Path, fab: Fab) -> None:
    """After `deploy ` comes a tag or the next task."""
    ended = fab("--complete", "--", "fab", "deploy", "v")
    assert {"v1.0", "v1.1", "verify", "rollback"} <= set(ended.lines)


def test_elsewhere_fab_completes_as_ever(tagged: Path, fab: Fab) -> None:
    """Task names and flags come from Invoke; a task without a tag is offered none."""
    assert "v1.0" not in fab("--complete", "--", "fab", "status", "s").lines
    assert "--restage" in fab("--complete", "--", "fab", "deploy", "--r").lines


def test_no_repository_offers_no_tag_and_no_error(project: Path, fab: Fab) -> None:
    """Completion outside a repository is quiet."""
    ended = fab("--complete", "--", "fab", "rollback:v")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_bash_completes_a_tag_after_the_colon(tagged: Path) -> None:
    """The script that fab prints for bash, sourced by a real bash, completes `rollback:v1.` as bash breaks it."""
    script = (
        'eval "$(fab --print-completion-script bash)"\n'
        "COMP_WORDS=(fab rollback : v1.)\nCOMP_CWORD=3\n_complete_fab fab v1. :\necho ${COMPREPLY[*]}\n"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(Path(deploy.__file__).parents[1])},
        cwd=tagged,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sorted(done.stdout.split()) == ["v1.0", "v1.1"]
