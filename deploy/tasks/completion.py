"""Tab completion of tags: what ``fab --complete`` adds to Invoke's own task and flag names. Runs no task."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit

from deploy.errors import DeployError


def complete(program: Any, ours: Collection[str]) -> None:
    """Print the tags that fit the word under the cursor; stop there where nothing else fits, else Invoke adds its own.

    Bash breaks words at ``:`` and completes only what follows it, so it gets bare tags; zsh and fish get
    ``rollback:TAG``. All three drop from the list what does not start with the word itself.
    """
    words = ["", "", *_words(program.core.remainder)]
    taking = {name for name in ours if _takes_tag(program, name)}
    project = Path(program.collection.loaded_from or ".")
    third, second, last = words[-3:]
    task, colon, _ = last.partition(":")
    if colon and task in taking:  # rollback:v, one word
        _print([f"{task}:{tag}" for tag in _tags(project)])
        raise Exit
    if "--tag" in {second, last} or (last == ":" and second in taking) or (second == ":" and third in taking):
        _print(_tags(project))
        raise Exit
    if last in taking or (second in taking and not last.startswith("-")):  # rollback v, or the next task's name
        _print(_tags(project))


def _print(lines: list[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201 - the protocol of fab's completion scripts is lines on stdout


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)[1:]
    except ValueError:  # an open quote
        return line.split()[1:]


def _takes_tag(program: Any, name: str) -> bool:
    return any("--tag" in context.flag_names() for context in program.collection.to_contexts() if context.name == name)


def _tags(project: Path) -> list[str]:
    from deploy.bundle.repository import Repository

    try:
        return list(Repository(project).tags())
    except DeployError:  # not a repository: nothing to offer, and no place to say so
        return []
