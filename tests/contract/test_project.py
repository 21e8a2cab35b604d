"""Promises of the repository itself: one version, one list of dependencies, small files, a small vendor/."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

import deploy
from deploy import closure
from deploy.events import Event
from deploy.settings import release_from_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
MAX_VENDOR_BYTES = 60_000_000
NEWEST_GLIBC = (2, 28)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The ``[project]`` table."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_version_is_stated_once(project: dict[str, Any]) -> None:
    """The distribution's version and the package's are the same."""
    assert project["version"] == deploy.__version__


def test_what_is_vendored_is_what_the_distribution_declares(project: dict[str, Any]) -> None:
    """requirements/app.in and the distribution's dependencies ask for the same things."""
    lines = (ROOT / "requirements/app.in").read_text(encoding="utf-8").splitlines()
    asked = {str(Requirement(line)) for line in lines if line and not line.startswith("#")}
    assert asked == {str(Requirement(text)) for text in project["dependencies"]}


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_grows_past_a_page_that_can_be_read(path: Path) -> None:
    """A module past 400 lines is two nouns in one file."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_no_drawer_modules() -> None:
    """A module is named for what it knows."""
    drawers = {"utils", "util", "helpers", "common", "manager", "handler", "misc"}
    assert [str(path) for path in (ROOT / "deploy").rglob("*.py") if path.stem in drawers] == []


@pytest.mark.parametrize("project", [ROOT, ROOT / "demo"], ids=["own", "demo"])
def test_pins_and_vendor_are_what_our_own_commands_make(project: Path, tmp_path: Path) -> None:
    """Closed for every declared target; locking again asks no index and changes no byte."""
    settings = release_from_text((project / "fabric.yaml").read_text(encoding="utf-8"))
    closed = closure.check(closure.WorkTree(project), settings.requirements, settings.locked_for)
    assert len(closed.targets) == len(settings.targets)
    shutil.copytree(project / "requirements", tmp_path / "requirements")
    said: list[Event] = []
    assert not closure.lock(tmp_path, settings.requirements, settings.locked_for, said.append).changed
    assert said == []


def test_vendor_stays_small_and_old_enough() -> None:
    """A clone stays light, and the vendored wheels run on the glibc of every supported distribution."""
    files = sorted((ROOT / "vendor").iterdir())
    assert sum(path.stat().st_size for path in files) < MAX_VENDOR_BYTES
    for path in files:
        if path.suffix == ".whl":
            asked = min(_glibc(tag.platform) for tag in parse_wheel_filename(path.name)[3])
            assert asked <= NEWEST_GLIBC, path.name


def _glibc(platform: str) -> tuple[int, ...]:
    """The glibc that a platform tag asks for (PEP 600); nothing for ``any``."""
    match = re.match(r"manylinux_(\d+)_(\d+)_", platform)
    return tuple(map(int, match.groups())) if match else (2, 17) if platform.startswith("manylinux2014") else (0,)
