"""``vendor.prove`` with the real host program: what builds, what does not, what calls home, what differs."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import Failed, Refused
from deploy.events import Event, HostStep
from deploy.proving import prove
from tests.hosts.projects import TINYLIB, Project, greeting, sdist

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
    return prove(project.folder, "app", PYTHON, events.append, twice=twice), events


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
        prove(project.folder, "app", PYTHON, events.append)
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
