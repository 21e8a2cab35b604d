"""Errors as an operator and a script meet them: three lines, exit codes, a saved report of a bug."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deploy
from deploy.tasks.boundary import redact

Fab = Callable[..., Any]

FAILING = '''"""Tasks that fail, each in its way."""
import time
from deploy import errors, report
from deploy.events import RunStarted
from deploy.tasks import namespace
from deploy.tasks.executor import fleet_task
from fabric import task


@fleet_task()
def refuse(c):
    raise errors.Refused("nothing was contacted", "two mistakes", "correct them", problems=["first", "second\\x1b[31m"])


@fleet_task()
def failing(c):
    raise errors.Failed("web-1 serves v2, web-2 v1", "web-2 lost its line", "fab status")


@fleet_task()
def bug(c):
    password = "hunter2hunter2"
    raise RuntimeError("no route: https://bob:swordfish@example.org/ token=abcdef123")


@fleet_task()
def slow(c):
    print("sleeping", flush=True)
    time.sleep(60)


@fleet_task()
def run(c, json=False):
    with report.sink(json=json, verbose=False) as emit:
        emit(RunStarted("deploy", "production", ("web-1", "web-2"), tag="v1"))
        raise errors.Failed("web-1 still serves v0", "disk full", "free some space")


@fleet_task()
def command(c):
    c.run("exit 9", hide=True, in_stream=False)


@fleet_task()
def loud(c):
    for number in range(100000):
        print("line", number)


@task
def theirs(c):
    raise RuntimeError("the user's own bug")


ns = namespace(refuse, failing, bug, slow, run, command, loud, theirs)
'''


@pytest.fixture
def failing(project: Path, fab: Fab) -> Fab:
    """``fab`` on a fabfile whose tasks fail."""
    (project / "fabfile.py").write_text(FAILING)
    return fab


def test_an_expected_error_is_its_lines_and_its_code(failing: Fab) -> None:
    """What is true now, why, every problem, the next command; foreign text cannot act on the terminal."""
    ended = failing("refuse")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "nothing was contacted",
        "why: two mistakes",
        "  - first",
        "  - second\\x1b[31m",
        "next: correct them",
    ]
    assert failing("failing").code == 1


def test_an_error_stops_the_tasks_behind_it(failing: Fab) -> None:
    """`fab refuse failing` never starts the second."""
    ended = failing("refuse", "failing")
    assert ended.code == 2
    assert "web-1" not in ended.err


def test_a_bug_is_saved_without_secrets(tmp_path: Path, failing: Fab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 70; the traceback lies in a private file whose path is printed; no secret and no environment is in it."""
    monkeypatch.setenv("SHOP_SECRET_KEY", "no route: htt")
    monkeypatch.setenv("HARMLESS", "in-the-environment")
    ended = failing("bug")
    assert (ended.code, ended.out) == (70, "")
    (saved,) = (tmp_path / "state" / "sealed-deploy").glob("bug-*.txt")
    assert str(saved) in ended.err
    assert "Traceback" not in ended.err
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    text = saved.read_text()
    assert "RuntimeError" in text
    assert "fabfile.py" in text
    for secret in ("swordfish", "abcdef123", "no route: htt", "in-the-environment"):
        assert secret not in text


def test_a_bug_is_saved_even_where_the_home_cannot_be_written(
    tmp_path: Path, failing: Fab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a usable state folder the report goes to the temporary folder."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    ended = failing("bug")
    assert ended.code == 70
    saved = Path(ended.err.split("saved: ")[1].splitlines()[0])
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    saved.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_is_130_and_names_the_next_command(project: Path, number: signal.Signals) -> None:
    """Ctrl-C, a cancelled job, a lost terminal in the middle of a command: no traceback, exit 130, `fab status`."""
    (project / "fabfile.py").write_text(FAILING)
    source = str(Path(deploy.__file__).parents[1])
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("fab")), "slow"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "sleeping\n"
        running.send_signal(number)
        error = running.stderr.read()
    assert running.returncode == 130
    assert "Traceback" not in error
    assert "next: see what is live: fab status" in error


def test_a_run_that_fails_says_where_last(failing: Fab) -> None:
    """The line with stage, hosts and exit code closes the run on stdout; the error follows on stderr."""
    ended = failing("run")
    assert ended.code == 1
    assert ended.lines == [
        "deploy v1 | stage production | 2 hosts: web-1, web-2",
        "deploy v1 | stage production | 2 hosts: web-1, web-2 | FAILED (exit 1)",
    ]
    assert ended.err.splitlines()[0] == "web-1 still serves v0"


def test_a_failing_shell_command_of_a_task_keeps_its_own_code(project: Path, fab_program: Fab) -> None:
    """Invoke's own errors pass: a failed `c.run` ends fab with that command's status."""
    (project / "fabfile.py").write_text(FAILING)  # as a program: Invoke leaves the pipes of c.run to the collector
    assert fab_program("command").code == 9


def test_a_bug_in_a_users_own_task_is_not_ours(failing: Fab) -> None:
    """Tasks of the project fail as they always did under Fabric."""
    with pytest.raises(RuntimeError, match="the user's own bug"):
        failing("theirs")


def test_a_closed_pipe_is_quiet(project: Path) -> None:
    """`fab loud | head -1` shows no traceback."""
    (project / "fabfile.py").write_text(FAILING)
    fab = Path(sys.executable).with_name("fab")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {fab} loud | head -1"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(deploy.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("line 0\n", "", 141)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("git clone https://bob:pw@host/x", "git clone https://bob:[redacted]@host/x"),
        ("password='hunter 2', next", "password=[redacted], next"),
        ('{"api_key": "abc"}', '{"api_key": [redacted]}'),
        ("DB_PASSWORD=abc rest", "DB_PASSWORD=[redacted] rest"),
        ("nothing here: a=b", "nothing here: a=b"),
        ("x -----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY----- y", "x [redacted] y"),
    ],
)
def test_what_looks_like_a_secret_is_blanked(text: str, kept: str) -> None:
    """Passwords in URLs, assignments to secret names and private keys go; the rest stays readable."""
    assert redact(text) == kept
