"""``vendor.prove`` with the real host program: what builds, what does not, what calls home, what differs."""

from __future__ import annotations

import dataclasses
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import LockTarget, lockfile
from deploy.errors import Failed, Refused
from deploy.events import Event, HostStep
from deploy.proving import prove
from tests.closure.conftest import sdist as odd_sdist
from tests.hosts.projects import TINYLIB, Project, greeting, sdist
from tests.hosts.trap import Trap, hostile, trap

__all__ = ["trap"]

pytestmark = pytest.mark.slow
PYTHON = sysconfig.get_python_version()
CALLS = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import socket; socket.socket()"], capture_output=True)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of three tiny source archives and the real toolchain; a folder for what is thrown away."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made = Project(tmp_path / "project", PYTHON, PYTHON)
    made.tiny_closure()
    return made


def run(project: Project, *, twice: bool = False) -> tuple[Any, list[Event]]:
    """Prove it, and give what was told."""
    events: list[Event] = []
    (proof,), left = prove(project.folder, "app", (PYTHON,), events.append, twice=twice)
    assert left == ()
    return proof, events


def test_a_closed_set_is_built_and_installed_as_locked(project: Project) -> None:
    """Every sdist, build tools too, in order; nothing is left behind, and nothing is written into the project."""
    before = sorted(project.folder.rglob("*"))
    proof, events = run(project, twice=True)
    assert proof.packages == {"greeting": "1.0", "tinylib": "1.0"}
    assert proof.attempts == {}
    assert proof.differing == ()
    built = [one.detail for one in events if isinstance(one, HostStep) and (one.step, one.state) == ("build", "done")]
    assert built == ["tinybuild 1.0", "tinylib 1.0", "greeting 1.0"] * 2
    assert sorted(project.folder.rglob("*")) == before
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_every_target_that_this_machine_runs_is_proven(project: Project) -> None:
    """And those that it does not run are named; where it runs none, nothing is claimed."""
    path = project.folder / "requirements/pylock.app.toml"
    lock = lockfile.read_lock(path.read_bytes(), "")
    (target,) = lock.targets
    elsewhere = dataclasses.replace(target, python="3.99", python_full="3.99.0")
    events: list[Event] = []

    def relock(*targets: LockTarget) -> None:
        several = dataclasses.replace(lock, targets=targets)
        path.write_text(lockfile.write_lock(several))
        (project.folder / "requirements/app.txt").write_text(lockfile.write_pins(several))

    relock(target, elsewhere)
    proofs, left = prove(project.folder, "app", (), events.append)
    assert [one.target.partition("-")[0] for one in proofs] == [f"python{PYTHON}"]
    assert [name.partition("-")[0] for name in left] == ["python3.99"]
    relock(elsewhere)
    with pytest.raises(Refused, match="runs none of the lock's targets: python3"):
        prove(project.folder, "app", (), events.append)


def test_a_build_that_fails_is_named_with_what_it_said(project: Project) -> None:
    """As a host would, before there is one."""
    project.tiny_closure(greeting("2.0", {"build-step.py": "raise SystemExit('no compiler here')"}))
    with pytest.raises(Failed) as failed:
        run(project)
    assert "greeting 2.0 does not build" in failed.value.why
    assert any("no compiler here" in line for line in failed.value.problems)


def test_a_build_that_calls_home_is_named_though_it_swallows_the_refusal(project: Project) -> None:
    """By the wheel that came of it."""
    project.tiny_closure(greeting("2.0", {"build-step.py": CALLS}))
    proof, _ = run(project)
    assert list(proof.attempts) == ["greeting-2.0-py3-none-any.whl"]


def test_a_wheel_that_comes_out_differently_is_named(project: Project) -> None:
    """Not hidden: somebody may want to know before relying on its hash."""
    noted = "import pathlib, time; pathlib.Path('greeting.py').write_text(f'NOW = {time.time_ns()}')"
    project.tiny_closure(greeting("2.0", {"build-step.py": noted}))
    proof, _ = run(project, twice=True)
    assert proof.differing == ("greeting-2.0-py3-none-any.whl",)


def test_a_build_tool_that_comes_out_differently_is_named_too(project: Project) -> None:
    """Its wheel is installed on no host, and yet made what is."""
    noted = "import pathlib, time; pathlib.Path('backend_marker.py').write_text(f'NOW = {time.time_ns()}')"
    builder = sdist("tinybuild", "1.0", files={"backend_marker.py": "", "build-step.py": noted})
    project.closure("greeting\n", [TINYLIB, greeting()], {"tinylib": [builder], "greeting": [builder]})
    proof, _ = run(project, twice=True)
    assert proof.differing == ("tinybuild-1.0-py3-none-any.whl",)


def test_a_hole_is_refused_before_anything_is_built(project: Project) -> None:
    """The check comes first."""
    next((project.folder / "vendor").glob("tinybuild*")).unlink()
    events: list[Event] = []
    with pytest.raises(Refused, match="1 break in the closure"):
        prove(project.folder, "app", (PYTHON,), events.append)
    assert events == []


def test_a_backend_may_call_its_tools_by_name(project: Project) -> None:
    """As meson-python and others do: what the build environment installs as a command is on PATH."""
    tool = {
        "tinytool.py": "def main(): print('made')\n",
        "entry_points.txt": "[console_scripts]\ntinytool = tinytool:main\n",
    }
    builder = sdist("tinybuild", "1.0", files=tool)
    step = "import subprocess; assert subprocess.run(['tinytool'], capture_output=True).stdout == b'made\\n'"
    package = greeting("2.0", {"build-step.py": step})
    project.closure("greeting\n", [TINYLIB, package], {"tinylib": [builder], "greeting": [builder]})
    assert run(project)[0].packages == {"greeting": "2.0", "tinylib": "1.0"}


def test_it_works_from_a_virtualenv_in_the_home_that_the_seal_hides(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As installed by the README: a Python of a virtualenv reads its pyvenv.cfg before all else."""
    home = tmp_path / "home"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(home / "tools")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(sys, "executable", str(home / "tools/bin/python"))
    assert run(project)[0].packages == {"greeting": "1.0", "tinylib": "1.0"}


def test_environment_of_whoever_proves_has_no_say(
    project: Project, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PIP_*, pip.conf, PYTHONPATH and a backend that writes into HOME: built as locked, and nobody is called."""
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {trap.url}/simple\n[install]\nno-deps = true\n")
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    more = {"NO_DEPS": "1", "DRY_RUN": "1", "TARGET": "target", "REQUIREMENT": "more.txt", "CONSTRAINT": "more.txt"}
    variables = {f"PIP_{name}": str(tmp_path / value) if value != "1" else value for name, value in more.items()}
    variables |= {"PIP_NO_BINARY": ":all:", "PYTHONPATH": str(tmp_path)}
    for name, value in {**hostile(trap), **variables, "HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    project.tiny_closure(greeting("2.0", {"build-step.py": "import pathlib; (pathlib.Path.home() / 'mark').touch()"}))
    assert run(project)[0].packages == {"greeting": "2.0", "tinylib": "1.0"}
    assert trap.caught == []
    assert not list(tmp_path.rglob("mark"))
    assert not (tmp_path / "target").exists()


def test_odd_versions_and_formats_in_a_path_with_spaces(tmp_path: Path) -> None:
    """Epoch, local, post and padded versions, .zip, .tar.xz and .tar.bz2: built and installed as locked."""
    made = Project(tmp_path / "a path, with späces" / "project", PYTHON, PYTHON)
    odd = [("epoch", "1!2.0", ".zip"), ("local", "1.0+us.7", ".tar.gz"), ("post", "1.0.post1", ".tar.xz")]
    odd += [("padded", "2024.07.04rc1", ".tar.bz2")]
    packed = [odd_sdist(name, version, suffix=suffix, files={f"{name}.py": ""}) for name, version, suffix in odd]
    asked = "epoch>=1!1\nlocal==1.0\npost>1.0.dev1\npadded==2024.7.4rc1\n"
    made.closure(asked, packed, {})
    assert run(made)[0].packages == {name: version for name, version, _ in odd}
