"""Confined to its folders: what a sealed child may read, write and signal, as the kernel decides it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.onhost import landlock

pytestmark = pytest.mark.skipif(landlock.abi() < 2, reason="this kernel offers no Landlock of ABI 2 or newer")

CONFINED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from deploy.onhost import landlock
top = sys.argv[2]
print(landlock.confine([top + "/root"], [top + "/root/releases", sys.base_prefix], [top + "/root/scratch"]))
def attempt(what):
    try: return str(what())
    except OSError as error: return type(error).__name__
def read(path): return lambda: open(top + path).read()
def write(path): return lambda: open(top + path, "w").write("x")
"""


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder like a host's: ROOT with secrets, releases, a scratch folder; and something beside it."""
    for name in ("root/shared", "root/releases", "root/scratch", "root/scratch/a", "root/scratch/b", "beside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path)  # a way around, for whoever follows links while granting
    return tmp_path


def confined(top: Path, code: str) -> list[str]:
    """Run code that was confined; give its printed words after the one that says that it was."""
    argv = [sys.executable, "-c", CONFINED + code, str(Path(landlock.__file__).parents[2]), str(top)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    said, *rest = done.stdout.split()
    assert said == "True", done.stderr
    return rest


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('read("/root/releases/file")', "text"),
        ('read("/root/scratch/file")', "text"),
        ('read("/beside/file")', "text"),
        ('read("/root/shared/file")', "PermissionError"),
        ('lambda: os.listdir(top + "/root")', "PermissionError"),
        ('lambda: os.path.exists(top + "/root/shared/file")', "True"),
        ('write("/root/scratch/new")', "1"),
        ('write("/root/releases/file")', "PermissionError"),
        ('write("/beside/file")', "PermissionError"),
        ('write("/root/shared/new")', "PermissionError"),
        ('lambda: os.truncate(top + "/beside/file", 0)', "None" if landlock.abi() < 3 else "PermissionError"),
        ('lambda: os.rename(top + "/root/scratch/a/file", top + "/root/scratch/b/moved")', "None"),
        ('lambda: os.rename(top + "/root/scratch/a/file", top + "/beside/moved")', "PermissionError"),
        ('lambda: os.unlink(top + "/beside/file")', "PermissionError"),
        ('lambda: os.symlink("x", top + "/beside/link")', "PermissionError"),
        ('lambda: open("/dev/null", "w").write("x")', "1"),
        ('lambda: os.kill(os.getppid(), 0)', "None" if landlock.abi() < 6 else "PermissionError"),
        ("lambda: os.system('cat /etc/passwd > /dev/null')", "0"),
    ],
)  # fmt: skip
def test_what_is_let_through(top: Path, code: str, found: str) -> None:
    """Everything but the hidden may be read, only the scratch folder written; renames inside of it work."""
    (said,) = confined(top, f"print(attempt({code}))")
    assert said in {found, "OSError" if found == "PermissionError" and "rename" in code else found}


def test_it_holds_for_what_is_started_too(top: Path) -> None:
    """A shell of the child is where its child is."""
    code = (
        "import subprocess\nprint(subprocess.run(['cat', top + '/root/shared/file'], capture_output=True).returncode)"
    )
    assert confined(top, code) == ["1"]


def test_a_path_through_a_link_into_the_hidden_is_hidden(top: Path) -> None:
    """What counts is where a file lies, not by which name it is opened."""
    (top / "beside/way").symlink_to(top / "root/shared")
    assert confined(top, 'print(attempt(read("/beside/way/file")))') == ["PermissionError"]


def test_without_landlock_nothing_changes(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and goes on: seccomp holds either way."""
    monkeypatch.setattr(landlock, "abi", lambda: 1)
    assert landlock.confine([str(top)], [], []) is False
    assert (top / "beside/file").read_text() == "text"
