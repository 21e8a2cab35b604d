"""Which closure a command is about: the working tree's, where its fabric.yaml says, or that of a tag."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from deploy.errors import Refused
from deploy.tasks.commands import project_of, settings_of

if TYPE_CHECKING:
    from deploy.closure import Application, Source

_SETTINGS_FILES = ("fabric.yaml", "fabric.yml")


@dataclass(frozen=True)
class Place:
    """Where the closure lies, which one it is, for which targets and which application.

    ``store`` is where archives lie outside git, or empty.
    """

    root: Path
    requirements: str
    targets: tuple[str, ...]
    app: str
    store: str


@dataclass(frozen=True)
class Subject:
    """One closure to ask about: its source, which one it is there, for which targets, and whose it is."""

    source: Source
    requirements: str
    targets: tuple[str, ...]
    application: Application

    @property
    def name(self) -> str:
        """``requirements/app``, or ``requirements/app of v1.0``."""
        return f"requirements/{self.requirements}" + (f" of {self.application.tag}" if self.application.tag else "")


def place_of(c: Context) -> Place:
    """Read the working tree's own fabric.yaml: the closure is a release setting, which no stage overrides."""
    from deploy.settings.operator import vendor_store
    from deploy.settings.release import release_from_text

    project = project_of(c)
    path = next((project / name for name in _SETTINGS_FILES if (project / name).is_file()), None)
    if path is None:
        raise Refused("Nothing was changed.", f"{project} has no fabric.yaml", "python -m deploy init writes one")
    settings = release_from_text(path.read_text(encoding="utf-8"), path.name)
    own = project / settings.subdirectory
    root = own if (own / "requirements").is_dir() else project
    store = vendor_store(settings_of(c), project)
    return Place(root, settings.requirements, settings.locked_for, settings.app, store)


@contextmanager
def subject(c: Context, tag: str | None) -> Generator[Subject]:
    """Give the closure of ``tag``, from the tag's own tree and settings, or else the working tree's. Raises Refused.

    A bill of materials is dated by the tag's commit, or for the working tree by SOURCE_DATE_EPOCH where that is set.
    """
    from deploy.bundle.repository import Repository
    from deploy.bundle.tagged import closure_of
    from deploy.closure import Application, WorkTree
    from deploy.settings.operator import vendor_store

    if tag is None:
        place, epoch = place_of(c), os.environ.get("SOURCE_DATE_EPOCH", "")
        application = Application(place.app, made_at=int(epoch) if epoch.isdecimal() else None)
        yield Subject(WorkTree(place.root), place.requirements, place.targets, application)
        return
    store = vendor_store(settings_of(c), project_of(c))
    with closure_of(Repository(project_of(c)), tag, store) as tagged:
        application = Application(tagged.settings.app, tag, tagged.resolved.commit, tagged.committed_at)
        yield Subject(tagged.source, tagged.settings.requirements, tagged.settings.locked_for, application)
