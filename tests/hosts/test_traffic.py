"""Real gunicorn serving the real Django demo through deploys and rollbacks: no failed request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typing_extensions import Self

from tests.hosts import proc
from tests.hosts.fab import Fab
from tests.hosts.fleet import Fleet
from tests.hosts.openssh import Host
from tests.hosts.projects import REPOSITORY

pytestmark = [pytest.mark.hosts, pytest.mark.slow]

DEMO = REPOSITORY / "demo"
SERVICE = "gunicorn guestbook.wsgi --workers 2 --no-control-socket"


class Crowd:
    """Four readers that never pause; what they got, and what failed."""

    def __init__(self, url: str) -> None:
        self.answered, self.failed = 0, list[str]()
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with urllib.request.urlopen(self._url, timeout=30) as response:
                    response.read()
                self.answered += 1
            except OSError as error:
                self.failed.append(repr(error))


def version(host: Host) -> str:
    """The version that the service's own health check tells."""
    with urllib.request.urlopen(f"{host.url}healthz", timeout=30) as response:
        return json.load(response)["version"]


def share(host: Host, name: str) -> None:
    """Make a secret as an operator does: deploy's, and readable for the app. The demo's own would be deploy's alone."""
    data = host.root / "shared/data"
    for folder, mode in ((data.parent, 0o750), (data, 0o2770)):
        folder.mkdir()
        folder.chmod(mode)
    (data / name).write_text("a" * 50)
    (data / name).chmod(0o640)
    if os.geteuid() == 0:
        for path in (data.parent, data, data / name):
            os.chown(path, host.account.uid, host.ground.accounts.app.gid)
        data.chmod(0o2770)


def git(project: Path, *words: str) -> None:
    """Run git in the project."""
    subprocess.run(["git", *words], cwd=project, check=True, capture_output=True)


def test_no_request_fails_through_deploy_and_rollback(bare_fleet: Callable[..., Fleet]) -> None:
    """The socket is held by the supervisor: thousands of requests through two deploys and a rollback, none fails."""
    made = bare_fleet("web-1", service=SERVICE)
    (host,) = made.hosts
    project = made.folder / "guestbook"
    shutil.copytree(DEMO, project, ignore=shutil.ignore_patterns("run.py", "__pycache__"))
    settings = (project / "fabric.yaml").read_text().replace('python: "3.11"', f'python: "{host.ground.version}"')
    own = {**host.settings(), "health": {"url": f"{host.url}healthz", "timeout_s": 60}}
    where = {"hosts": {"web-1": own}, "known_hosts": str(made.known_hosts), "identity": str(host.ground.identity)}
    (project / "fabric.yaml").write_text(f"{settings.rstrip()}\n  stages: {json.dumps({'test': where})}\n")
    share(host, "secret_key")
    git(project, "init", "-q")
    fab = Fab(project, made.folder / "state")
    page = (project / "guestbook/__init__.py").read_text()
    for number in ("1", "2", "3"):
        (project / "guestbook/__init__.py").write_text(page.replace('VERSION = "1"', f'VERSION = "{number}"'))
        git(project, "add", "-A")
        git(project, "commit", "-q", "-m", f"version {number}")
        git(project, "tag", "-a", f"v{number}", "-m", f"version {number}")
    first = fab.start("deploy:v1", "--stage", "test").wait(timeout_s=600)  # builds Django and all it needs from source
    assert first.code == 0, first.text
    with Crowd(host.url) as crowd:
        for words, expected in (("deploy:v2", "2"), ("deploy:v3", "3"), ("rollback:v1", "1"), ("rollback:v3", "3")):
            ended = fab(words, "--stage", "test")
            assert ended.code == 0, ended.text
            assert version(host) == expected
    assert crowd.failed == []
    assert crowd.answered > 100
    if os.geteuid() == 0 and host.ground.accounts.are_created:
        served = {proc.uid(pid) for pid in _serving(host)}
        assert served == {host.ground.accounts.app.uid}


def _serving(host: Host) -> list[int]:
    root = os.fsencode(str(host.root / "releases"))
    return [pid for pid in proc.pids() if root in proc.read(pid, "cmdline")]
