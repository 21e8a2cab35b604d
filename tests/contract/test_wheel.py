"""The wheel that a clone builds: with nothing but vendor/, and holding all that a user's project needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library's wheel, built by pip with no index from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("deploy", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--find-links", str(ROOT / "vendor"), "--wheel-dir", str(folder / "out"), str(source)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return next((folder / "out").glob("sealed_deploy-*.whl"))


def test_the_wheel_holds_the_whole_library(wheel: Path) -> None:
    """Every module of deploy/, the types marker, and nothing beside it but metadata."""
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    assert {name for name in here if "__pycache__" not in name} <= names
    assert {name.split("/")[0] for name in names} == {"deploy", wheel.name.partition("-py3")[0] + ".dist-info"}


def test_the_host_program_of_the_wheel_is_the_one_of_the_checkout(wheel: Path) -> None:
    """Whoever installs the wheel ships the same bytes to hosts as whoever works in a clone."""
    script = "from deploy.hostprogram import host_program; print(host_program().sha256)"
    said: list[str] = []
    unpacked = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(unpacked)
    for folder in (ROOT, unpacked):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {script}"]
        said.append(subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1]
