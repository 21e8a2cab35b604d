"""A project of one's own, from an empty directory: init, lock, fetch, tag, deploy to two hosts, roll back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.fab import LIBRARY, Fab
from tests.hosts.fleet import Fleet
from tests.hosts.projects import SERVICE, TINYBUILD, TINYLIB, greeting, toolchain_wheels

pytestmark = [pytest.mark.hosts, pytest.mark.slow]


@pytest.fixture
def index(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An index of one's own: a folder of archives that pip is configured to look into, and into nothing else."""

    def make(version: str) -> dict[str, str]:
        folder = tmp_path / "index"
        folder.mkdir()
        for file, data in (TINYBUILD, TINYLIB, greeting()):
            (folder / file).write_bytes(data)
        for wheel in toolchain_wheels(version):
            (folder / wheel.name).symlink_to(wheel)
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder.as_uri()}

    return make


def test_a_stranger_deploys_a_project_of_his_own(
    fleet: Callable[..., Fleet], index: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """Each step works as written, in the order of the README, and the service answers with the right release."""
    made = fleet("web-1", "web-2")
    ground = made.hosts[0].ground
    project = tmp_path / "notes"
    project.mkdir()
    run = _runner(project)
    run("git", "init", "-q", "-b", "main")
    init = run(sys.executable, "-m", "deploy", "init")
    for name in ("fabfile.py", "fabric.yaml", "requirements/app.in", "systemd/notes.service"):
        assert f"wrote {name}" in init
    assert (project / "fabfile.py").read_text().count("\n") <= 4
    assert "kept fabric.yaml" in run(sys.executable, "-m", "deploy", "init")

    (project / "requirements/app.in").write_text("greeting\n")
    (project / "app.py").write_text(SERVICE)
    (project / "NEEDS").write_text("")
    (project / "VERSION").write_text("1.0\n")
    settings = (project / "fabric.yaml").read_text()
    version = f'"{sys.version_info.major}.{sys.version_info.minor}"'
    assert f"python: {version}" in settings
    stage = {
        "hosts": {host.name: host.settings() for host in made.hosts},
        "known_hosts": str(made.known_hosts),
        "identity": str(ground.identity),
    }
    settings = settings.replace(f"python: {version}", f'python: "{ground.version}"')
    (project / "fabric.yaml").write_text(f"{settings}\n  stages: {json.dumps({'production': stage})}\n")

    fab = Fab(project, tmp_path / "state")
    where = index(ground.version)
    for word in ("vendor.lock", "vendor.fetch", "vendor.check"):
        ended = fab(word, json=False, environment=where)
        assert ended.code == 0, ended.text
    assert sorted(path.name for path in (project / "vendor").glob("*.tar.gz")) == [
        "greeting-1.0.tar.gz",
        "tinybuild-1.0.tar.gz",
        "tinylib-1.0.tar.gz",
    ]

    untagged = fab("deploy")
    assert untagged.code == 2, untagged.text
    run("git", "add", "-A")
    run("git", "commit", "-q", "-m", "first")
    nameless = fab("deploy", "--stage", "production")
    assert nameless.code == 2
    assert "git tag" in nameless.text
    run("git", "tag", "-a", "v1.0", "-m", "first")
    assert fab("check", "--stage", "production").code == 0
    first = fab("deploy", "--stage", "production")
    assert first.code == 0, first.text
    assert made.live() == ["v1.0", "v1.0"]

    (project / "VERSION").write_text("1.1\n")
    run("git", "commit", "-q", "-a", "-m", "second")
    run("git", "tag", "-a", "v1.1", "-m", "second")
    second = fab("production", "deploy:v1.1")
    assert second.code == 0, second.text
    assert [host.answer()["version"] for host in made.hosts] == ["1.1", "1.1"]
    assert fab("status", "--stage", "production").code == 0
    assert fab("verify", "--stage", "production").code == 0
    back = fab("rollback:v1.0", "--stage", "production")
    assert back.code == 0, back.text
    assert [host.answer()["version"] for host in made.hosts] == ["1.0", "1.0"]


def _runner(project: Path) -> Callable[..., str]:
    def run(*words: str) -> str:
        done = subprocess.run(
            words, cwd=project, env={**os.environ, "PYTHONPATH": str(LIBRARY)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
