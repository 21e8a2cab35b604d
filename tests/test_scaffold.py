"""``python -m deploy init``: a project that its own settings reader and fab accept, and nothing overwritten."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import deploy
from deploy.settings import operator_of, release_from_text

SOURCE = str(Path(deploy.__file__).parents[1])


def _run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(words), cwd=project, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, timeout=60
    )


def _init(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return _run(project, sys.executable, "-m", "deploy", "init", *words)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new repository with a Django-like package."""
    folder = tmp_path / "My Shop"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "wsgi.py").write_text("")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def test_a_new_project_is_one_that_fab_and_the_settings_accept(project: Path) -> None:
    """The written files work together at once: three-line fabfile, valid settings, tasks listed."""
    done = _init(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.startswith("wrote")] == [
        "wrote fabfile.py",
        "wrote fabric.yaml",
        "wrote requirements/app.in",
        "wrote systemd/my-shop.service",
        "wrote systemd/my-shop.socket",
        "wrote .gitattributes",
    ]
    assert len((project / "fabfile.py").read_text().splitlines()) == 3
    listed = _run(project, str(Path(sys.executable).with_name("fab")), "--list")
    assert "rollback" in listed.stdout, listed.stderr
    text = (project / "fabric.yaml").read_text()
    assert release_from_text(text).app == "my-shop"
    operator_of(yaml.safe_load(text)["deploy"])


def test_the_examples_in_the_settings_are_valid_too(project: Path) -> None:
    """With every `#:` taken away fabric.yaml is still accepted, so nobody copies a mistake."""
    _init(project)
    text = re.sub(r"(?m)^( *)#: ", r"\1", (project / "fabric.yaml").read_text())
    assert "#:" not in text.split("\n", 1)[1]
    release = release_from_text(text)
    assert set(release.to_manifest()["hooks"]["app"]) == {"prepare", "probe", "before_activate"}
    settings = operator_of(yaml.safe_load(text)["deploy"])
    assert "production" in settings.stages


def test_nothing_is_overwritten(project: Path) -> None:
    """A second run, and files that were there before, change no byte; .gitattributes gains its line once."""
    (project / "fabric.yaml").write_text("mine\n")
    (project / ".gitattributes").write_text("*.png binary")
    _init(project)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert before[project / "fabric.yaml"] == b"mine\n"
    assert before[project / ".gitattributes"] == b"*.png binary\nvendor/** -text -diff\n"
    again = _init(project)
    assert again.returncode == 0
    assert "wrote" not in again.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_requirements_are_taken_over(project: Path) -> None:
    """From requirements.txt what an index gives; packages that none gives stay as comments, options are told."""
    (project / "requirements.txt").write_text(
        "-i https://example.org/simple\nDjango==5.2.1 \\\n    --hash=sha256:00\ngunicorn>=23  # server\n\n"
        "git+https://example.org/x.git\nx @ https://example.org/x.tar.gz\n-e .\n"
    )
    done = _init(project)
    kept = (project / "requirements" / "app.in").read_text().splitlines()[1:]
    assert kept[:2] == ["Django==5.2.1", "gunicorn>=23  # server"]
    assert [line.split(": ")[:3] for line in kept[2:]] == [
        ["# left out", "requirements.txt:6", "git+https://example.org/x.git"],
        ["# left out", "requirements.txt:7", "x @ https://example.org/x.tar.gz"],
    ]
    assert "requirements.txt:1: -i is left out" in done.stdout
    assert "requirements.txt:8: '.', the project itself, is left out" in done.stdout
    assert "fab vendor.adopt requirements.txt" in done.stdout


def test_what_cannot_be_taken_over_does_not_stop_it(project: Path) -> None:
    """A project of Poetry's gets its first files, and is told how its requirements can be had."""
    (project / "pyproject.toml").write_text('[tool.poetry.dependencies]\ndjango = "^5"\n')
    done = _init(project)
    assert done.returncode == 0
    assert "poetry export" in done.stdout
    assert "1. fill requirements/app.in" in done.stdout


def test_requirements_from_pyproject(project: Path) -> None:
    """Without requirements.txt the project's own dependencies are the start."""
    (project / "pyproject.toml").write_text('[project]\nname = "shop"\ndependencies = ["flask>=3", "gunicorn"]\n')
    _init(project)
    assert (project / "requirements" / "app.in").read_text().splitlines()[1:] == ["flask>=3", "gunicorn"]


def test_outside_a_repository_nothing_is_written(tmp_path: Path) -> None:
    """A deploy ships a git tag, so a folder without git is refused with the next step."""
    done = _init(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is in no git repository" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_app_name_that_could_be_no_unit_is_refused(project: Path) -> None:
    """The name becomes part of paths and units on hosts."""
    done = _init(project, "--app", "../x")
    assert done.returncode == 2
    assert not (project / "fabfile.py").exists()
