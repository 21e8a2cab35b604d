"""``fab vendor.check`` as an operator meets it: the stock command, its words and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import deploy


def fab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the stock fab in a project."""
    environment = {**os.environ, "PYTHONPATH": str(Path(deploy.__file__).parent.parent)}
    argv = [sys.executable, "-m", "fabric", *words]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def described(project: Any) -> Any:
    """A project with a fabfile and settings."""
    (project.folder / "fabfile.py").write_text('"""Tasks."""\nfrom deploy.tasks import namespace\nns = namespace()\n')
    (project.folder / "fabric.yaml").write_text('deploy:\n  app: demo\n  python: "3.11"\n')
    return project


@pytest.mark.slow
def test_hole_is_exit_2_with_its_chain(described: Any, make_sdist: Any) -> None:
    """A nested hole ends the command with 2, the chain and the next command; a closed set with 0."""
    described.lock("lib\n", [make_sdist("lib", "1.0", ["dep"])])
    done = fab(described.folder, "vendor.check")
    assert done.returncode == 2
    assert "  - lib 1.0 -> dep: not in vendor/" in done.stderr
    assert "next: fab vendor.lock && fab vendor.fetch" in done.stderr
    described.lock("lib\n", [make_sdist("lib", "1.0")])
    done = fab(described.folder, "vendor.check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "closed: requirements/app for python3.11-linux_x86_64" in done.stdout


@pytest.mark.slow
def test_bad_in_file_stops_lock(described: Any) -> None:
    """``vendor.lock`` refuses an option line with its place, exit 2."""
    described.asked_path.write_text("--index-url https://index.example\n")
    done = fab(described.folder, "vendor.lock")
    assert done.returncode == 2
    assert "requirements/app.in:1: option lines are refused (--index-url)" in done.stderr


@pytest.mark.slow
def test_adopting_what_no_index_gives_is_exit_2(described: Any) -> None:
    """``vendor.adopt`` lists what it would have to drop, with the way out, and writes nothing."""
    python = sysconfig.get_python_version()
    (described.folder / "fabric.yaml").write_text(f'deploy:\n  app: demo\n  python: "{python}"\n')
    (described.folder / "old.txt").write_text("six\ngit+https://x.example/lib.git\n./lib\n")
    done = fab(described.folder, "vendor.adopt", "old.txt")
    assert done.returncode == 2
    assert "  - old.txt:2: git+https://x.example/lib.git: a VCS requirement" in done.stderr
    assert "  - old.txt:3: ./lib: an address or a path" in done.stderr
    assert "--force leaves them out" in done.stderr
    assert not described.asked_path.exists()
