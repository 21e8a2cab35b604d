"""The closure of a tag: read from the tag's own tree, wherever it lies there, and refused in words where git cannot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.repository import Repository
from deploy.bundle.tagged import closure_of
from deploy.closure import check
from deploy.errors import Refused


@pytest.mark.parametrize("folder", ["", "apps/shop/"])
def test_it_is_the_tags_own(make: Callable[[str], Any], folder: str) -> None:
    """Whatever the working tree holds; also for a project in a folder of its repository."""
    project = make("repository")
    project.settings(folder=folder)
    project.closure(folder)
    project.commit()
    project.tag("v1")
    project.write(f"{folder}requirements/app.in", "other\n")
    project.write(f"{folder}fabric.yaml", "deploy: no settings")
    project.commit()
    with closure_of(Repository(project.folder / folder), "v1") as tagged:
        assert [archive.name for archive in check(tagged.source, "app", ("3.11",)).run_time()] == ["tiny"]
        assert (tagged.resolved.tag, tagged.settings.app, tagged.settings.python) == ("v1", "demo", "3.11")
        stated = dt.datetime.fromisoformat(project.git("log", "-1", "--format=%cI", "v1").replace("Z", "+00:00"))
        assert tagged.committed_at == int(stated.timestamp())


def test_what_git_lacks_is_refused_while_it_is_read(project: Any) -> None:
    """An archive whose object is gone is named, not a traceback."""
    project.tag("v1")
    oid = project.git("rev-parse", "HEAD:vendor/tiny-1.0-py3-none-any.whl")
    Path(project.folder / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(Refused, match=oid), closure_of(Repository(project.folder), "v1") as tagged:
        check(tagged.source, "app")


def test_no_such_tag_is_refused(project: Any) -> None:
    """With those that there are."""
    project.tag("v1")
    with pytest.raises(Refused, match="there is no tag v2"), closure_of(Repository(project.folder), "v2"):
        pass
