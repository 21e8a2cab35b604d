"""What the demo stands on, checked without running it: its closure, and the places that its story edits."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from deploy.closure import WorkTree, check, plan
from deploy.settings import operator_of, release_from_text
from deploy.settings.yaml_text import load

DEMO = Path(__file__).parents[2] / "demo"
EDITS = re.findall(r"""edit\(\s*"([^"]+)",\s*(?:'([^']+)'|"([^"]+)")""", (DEMO / "run.py").read_text())


def test_its_closure_holds_for_every_python_that_bootstrap_runs_on() -> None:
    """Closed offline for Python 3.10 to 3.14, and no archive of it depends on the processor."""
    targets = plan.targets(check(WorkTree(DEMO), "app"))
    assert [(target.python, target.platform) for target in targets] == [
        (f"3.{minor}", "any") for minor in range(10, 15)
    ]


def test_everything_it_runs_on_is_source_of_three_build_backends() -> None:
    """Run-time packages come as source; setuptools, flit_core and hatchling build them, and are built on the host."""
    lock = check(WorkTree(DEMO), "app")
    assert [archive.file for archive in lock.run_time() if archive.kind != "sdist"] == []
    built = {file for target in lock.targets for file in target.builds}
    backends = {
        name for name in ("setuptools", "flit_core", "hatchling") for file in built if file.startswith(f"{name}-")
    }
    assert backends == {"setuptools", "flit_core", "hatchling"}


def test_one_package_is_a_c_extension() -> None:
    """MarkupSafe brings C source, to be compiled where a compiler is."""
    (archive,) = (DEMO / "vendor").glob("markupsafe-*.tar.gz")
    with tarfile.open(archive) as tar:
        assert any(name.endswith("/_speedups.c") for name in tar.getnames())


def test_its_settings_are_accepted() -> None:
    """Both scopes of its fabric.yaml parse without a complaint, and name the service that a sandbox host supervises."""
    text = (DEMO / "fabric.yaml").read_text()
    assert release_from_text(text).app == "guestbook"
    service = operator_of(load(text)["deploy"]).stages["sandbox"].layer.service
    assert service
    assert service.startswith("gunicorn guestbook.wsgi")


@pytest.mark.parametrize(("file", "anchor"), [(file, one or other) for file, one, other in EDITS])
def test_its_story_finds_the_places_it_edits(file: str, anchor: str) -> None:
    """Each edit of the story starts from something that is there exactly once, or that an earlier edit put there."""
    text = (DEMO / file).read_text()
    put_there_earlier = anchor == 'VERSION = "2"'
    assert text.count(anchor.encode().decode("unicode_escape")) == (0 if put_there_earlier else 1)
