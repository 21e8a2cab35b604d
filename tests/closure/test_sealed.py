"""What a build backend may do on the machine that locks."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.closure import sealed
from deploy.onhost import landlock

REACH = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
    print("out")
except OSError as error:
    print("refused", error.errno)
"""


def run(tmp_path: Path, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Python sealed, with one variable of its own."""
    return sealed.run([sys.executable, *argv], env={"ASKED": "yes"}, cwd=tmp_path, timeout_s=timeout_s)


def test_a_backend_cannot_reach_the_network(tmp_path: Path) -> None:
    """Not even a server on this machine; the same program reaches it without the seal."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        plain = subprocess.run([sys.executable, "-c", REACH, port], stdout=subprocess.PIPE, text=True, check=True)
        assert plain.stdout == "out\n"
        assert run(tmp_path, "-c", REACH, port).stdout.startswith("refused")


@pytest.mark.skipif(landlock.abi() < 2, reason="this kernel offers no Landlock of ABI 2 or newer")
def test_a_backend_cannot_read_the_operators_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and tokens of whoever locks are none of a package's business, and nothing may be left behind there."""
    home, work = tmp_path / "home", tmp_path / "home" / "work"
    work.mkdir(parents=True)
    (home / "key").write_text("private")
    monkeypatch.setenv("HOME", str(home))
    tries = ["open('../key')", "open('../mark', 'w')", "open('mine', 'w')"]
    code = "".join(f"try: {one}; print('did')\nexcept OSError as error: print(type(error).__name__)\n" for one in tries)
    argv = [sys.executable, "-I", "-S", "-c", code]
    done = sealed.run(argv, env={}, cwd=work, timeout_s=60, read=[sys.prefix, sys.base_prefix])
    assert done.stdout.split() == ["PermissionError", "PermissionError", "did"]


def test_a_backend_cannot_change_what_the_next_one_starts_from(tmp_path: Path) -> None:
    """Nothing of the launcher lies in a folder that a backend may write, or is open in it."""
    code = "import os;print(os.listdir('.'));print(max(map(int,os.listdir('/proc/self/fd'))))"
    assert run(tmp_path, "-I", "-S", "-c", code).stdout == "[]\n3\n"


def test_output_status_and_environment_are_the_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both streams come back in order, and nothing of the operator's environment is there."""
    monkeypatch.setenv("OPERATORS_SECRET", "hunter2")
    code = "import os,sys;print(sorted(k for k in os.environ if k in ('ASKED','OPERATORS_SECRET')));sys.exit(7)"
    ended = run(tmp_path, "-I", "-c", code)
    assert (ended.returncode, ended.stdout) == (7, "['ASKED']\n")


def test_a_backend_that_never_answers_is_ended(tmp_path: Path) -> None:
    """The deadline counts for the sealed child itself, not only for what started it."""
    with pytest.raises(subprocess.TimeoutExpired):
        run(tmp_path, "-c", "import time; time.sleep(600)", timeout_s=2)
