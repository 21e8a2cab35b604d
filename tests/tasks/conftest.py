"""A scratch project with the three-line fabfile, and the real ``fab`` run on it, in this process or as a program."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from fabric.main import make_program

import deploy
from tests.bundle.conftest import carol, gpg

__all__ = ["carol", "gpg"]

FABFILE = '''"""Deploys shop."""
from deploy.tasks import namespace
ns = namespace()
'''

RECORDING = '''"""Deploys shop; its own tasks say what reached them."""
from fabric import Connection, task
from deploy.tasks import namespace
from deploy.tasks.executor import fleet_task


def say(word, c, /, **given):
    own = c.config.sealed_deploy
    print(word, {k: v for k, v in given.items() if v}, own.stage, getattr(c, "host", None) or "-", sep=" | ")


@fleet_task(takes_hosts=True)
def ship(c, tag=None, stage=None, hosts=None, wait=0, *, restage=False):
    "A task of the library's kind."
    say("ship", c, tag=tag, stage=stage, hosts=hosts, wait=wait, restage=restage)


@fleet_task(takes_hosts=True)
def back(c, tag=None, stage=None, hosts=None):
    "Another."
    say("back", c, tag=tag, stage=stage, hosts=hosts)


@task
def own(c, name, tag=None, loud=False):
    "A task of the user's."
    say("own", c, name=name, tag=tag, loud=loud)


@task(aliases=["pl"])
def plain(c, note="x"):
    "Another of the user's."
    say("plain", c, note=note)


@task(pre=[ship])
def both(c):
    "Runs ship first."
    say("both", c)


@task
def wraps(c):
    "Calls ship from inside."
    ship(c, tag="v1")


ns = namespace(ship, back, own, plain, both)
ns.add_task(wraps)
'''

SETTINGS = """\
deploy:
  app: shop
  stages:
    staging: {root: /srv/shop, hosts: [web-1]}
    production: {root: /srv/shop, hosts: [web-1, web-2]}
    pre_prod: {root: /srv/shop, hosts: [web-1]}
"""


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder to be in, with bug reports and logs kept out of the real home."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "fabric.yaml").write_text(SETTINGS)
    (folder / "fabfile.py").write_text(FABFILE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return folder


@pytest.fixture
def fab(project: Path) -> Callable[..., Ended]:
    """Run Fabric's own Program on the project, in this process: the very objects that the ``fab`` script runs."""

    def run(*words: str) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                make_program().run(["fab", *words])
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Ended(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def recording(project: Path, fab: Callable[..., Ended]) -> Callable[..., Ended]:
    """``fab`` on a fabfile whose tasks print what reached them."""
    (project / "fabfile.py").write_text(RECORDING)
    return fab


@pytest.fixture
def fab_program(project: Path) -> Callable[..., Ended]:
    """Run the stock ``fab`` executable that lies beside this interpreter."""
    program = Path(sys.executable).with_name("fab")
    source = str(Path(deploy.__file__).parents[1])

    def run(*words: str, **environment: str) -> Ended:
        done = subprocess.run(
            [str(program), *words],
            cwd=project,
            env={**os.environ, "PYTHONPATH": source, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
