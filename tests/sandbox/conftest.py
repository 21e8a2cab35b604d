"""A sandbox of its own for each test module, with whatever a service needs: a release that real gunicorn serves."""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import sandbox

VENDOR = Path(__file__).parents[2] / "demo" / "vendor"
SERVICE = "gunicorn app --workers 2 --no-control-socket"
APP = """
import os
def application(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"%s" if environ["REQUEST_METHOD"] != "HEAD" else b""]
"""


@pytest.fixture(scope="session")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a ``bin/gunicorn`` that runs straight from the demo's vendored source archives: nothing is installed."""
    folder = tmp_path_factory.mktemp("gunicorn")
    for pattern, inner in (("gunicorn-*.tar.gz", "gunicorn"), ("packaging-*.tar.gz", "src/packaging")):
        (archive,) = VENDOR.glob(pattern)
        with tarfile.open(archive) as tar:
            top = tar.getnames()[0].split("/")[0]
            members = [member for member in tar if member.name.startswith(f"{top}/{inner}/")]
            tar.extractall(folder, members, filter="data")
        shutil.move(folder / top / inner, folder / Path(inner).name)
    start = folder / "start.py"
    start.write_text(
        f"import sys\nsys.path.insert(0, {str(folder)!r})\nfrom gunicorn.app.wsgiapp import run\nsys.exit(run())\n"
    )
    script = folder / "gunicorn.sh"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -B {start} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder whose sandbox is brought down and removed after the module."""
    folder = tmp_path_factory.mktemp("project")
    yield folder
    sandbox.down(folder, remove=True)


class ServedHost:
    """One sandbox host that is up, and the means to lay releases on it by hand."""

    def __init__(self, entry: dict[str, Any], gunicorn: Path) -> None:
        self.entry, self.gunicorn = entry, gunicorn
        self.root = Path(entry["root"])
        self.directory = self.root.parent

    def release(self, name: str, app: str = "") -> Path:
        """Lay a release whose service answers with its name, or runs ``app`` instead."""
        release = self.root / "releases" / name
        (release / "src").mkdir(parents=True)
        (release / "src" / "app.py").write_text(app or APP % name)
        (release / "venv" / "bin").mkdir(parents=True)
        (release / "venv" / "bin" / "gunicorn").symlink_to(self.gunicorn)
        return release

    def point(self, name: str | None) -> None:
        """Point ``current`` at a release, or take it away."""
        (self.root / "current").unlink(missing_ok=True)
        if name:
            (self.root / "current").symlink_to(f"releases/{name}")


@pytest.fixture
def served(tmp_path: Path, gunicorn: Path) -> Iterator[ServedHost]:
    """Give one host with a supervisor, and end everything afterwards."""
    (entry,) = sandbox.up(tmp_path, 1, service=SERVICE)
    yield ServedHost(entry, gunicorn)
    sandbox.down(tmp_path, remove=True)
