"""The closure of one tag, read from the tag's own tree: for questions about a release. Ships nothing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from deploy.bundle.contents import MEMORY
from deploy.bundle.git import GitFailed, Missing, Objects
from deploy.bundle.layout import find_layout
from deploy.bundle.outside import OutsideSource
from deploy.bundle.repository import Repository, ResolvedTag, unreadable
from deploy.bundle.tree import Blobs, GitSource, entries
from deploy.settings.release import ReleaseSettings


@dataclass(frozen=True)
class Tagged:
    """A tag, its own settings, its closure's source, and when its commit was made, in seconds."""

    resolved: ResolvedTag
    settings: ReleaseSettings
    source: OutsideSource
    committed_at: int


@contextmanager
def closure_of(repository: Repository, tag: str, store: str = "") -> Generator[Tagged]:
    """Give the closure of ``tag``, readable inside the block; ``store`` as for ``pack``.

    Raises Refused, as ``pack`` does, also from within.
    """
    resolved = repository.resolve(tag)
    try:
        committed_at = int(repository.git.text("show", "-s", "--format=%ct", resolved.commit))
        tree = entries(repository.git, resolved.tree)
        with Objects(repository.git) as objects:
            blobs = Blobs(objects, repository.git_folder / MEMORY)
            layout, settings = find_layout(tree, blobs, repository.prefix, tag)
            inside = GitSource(tree, blobs, layout.closure)
            source = OutsideSource.of_tag(repository, inside, layout.closure, settings.requirements, store)
            yield Tagged(resolved, settings, source, committed_at)
    except (Missing, GitFailed) as error:
        raise unreadable(tag, error) from error
