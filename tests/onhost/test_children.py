"""Children: written down before they run, capped, on time, ended whole; services that hooks start are left alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import processes
from deploy.onhost.channel import LineLost
from deploy.onhost.children import OUTPUT_CAP_BYTES, Command, environment
from deploy.onhost.journal import Journal, read
from deploy.onhost.session import Session

DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
path = %r
with open(path + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(path + ".new", path)
time.sleep(60)
"""
"""Python that leaves its session and its parent, as services do, writes its pid down and stays."""


def command(*argv: str, kind: str = "build", deadline_s: float = 60, **other: Any) -> Command:
    """A command with an allow-listed environment."""
    return Command(argv, "/", environment(**other.pop("env", {})), deadline_s, kind, "test", **other)


def python(code: str, **other: Any) -> Command:
    """Python code as a child."""
    return command(sys.executable, "-I", "-S", "-c", code, **other)


def is_running(pid: int) -> bool:
    """Whether the process lives (a zombie does not)."""
    return processes.identify(pid) is not None


def eventually(what: Callable[[], Any], within_s: float = 10) -> Any:
    """Wait for it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.fixture
def reaped() -> Iterator[list[int]]:
    """Pids that a test leaves running on purpose; they are ended after it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        processes.kill(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_output_and_exit_status_come_back(session: Session) -> None:
    """Both streams, in order; a non-zero status is an outcome, not an error."""
    finished = session.children().run(command("/bin/sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (finished.code, finished.output, finished.ok) == (3, "out\nerr\n", False)
    assert finished.cause() == "exit status 3"


def test_only_the_given_environment_is_there(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of onhost's own is passed on; input is empty; the umask is fixed; no descriptor leaks but three."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example")
    script = "env | cut -d= -f1 | sort | tr '\\n' ' '; umask; cat; ls /proc/self/fd | tr '\\n' ' '"
    before = os.umask(0)
    try:
        finished = session.children().run(command("/bin/sh", "-c", script, env={"A": "1"}))
    finally:
        os.umask(before)
    names, rest = finished.output.split("\n")[0].rsplit(" ", 1)
    assert set(names.split()) - {"PWD", "OLDPWD", "SHLVL", "_"} == {"A", "LANG", "PATH"}
    assert rest == "0022"
    # ls holds a fourth one, the folder it lists; the host program's own descriptor is kept for seals further down.
    assert len(finished.output.split("\n")[1].split()) <= 5


def test_a_command_that_cannot_be_started_says_why(session: Session) -> None:
    """By name, as any failed command, with the status that shells use."""
    finished = session.children().run(command("/no/such/program"))
    assert finished.code == 126
    assert "cannot start /no/such/program" in finished.output


def test_a_child_is_in_the_journal_before_it_runs_and_after_it_ended(session: Session) -> None:
    """The command itself finds its own pid and start time written down."""
    path = session.layout.journal
    finished = session.children().run(command("/bin/sh", "-c", f"cat /proc/$$/stat; cat {path}"))
    stat, *lines = finished.output.splitlines()
    fields = stat.rpartition(")")[2].split()
    assert any(f'"pid":{stat.split()[0]},"start":{fields[19]},' in line for line in lines)
    records = read(path)
    (child,) = [r for r in records if r["what"] == "child"]
    assert [r["child"] for r in records if r["what"] == "child-done"] == [child["seq"]]
    assert processes.unfinished(records) == []


def test_a_deadline_ends_the_whole_group(session: Session, tmp_path: Path) -> None:
    """The shell and what it started, at once; the cause names the deadline."""
    started = time.monotonic()
    finished = session.children().run(
        command("/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait", deadline_s=0.5, kind="hook")
    )
    assert time.monotonic() - started < 20
    assert finished.timed_out
    assert not finished.ok
    assert "deadline" in finished.cause()
    assert eventually(lambda: not is_running(int((tmp_path / "pid").read_text())))


def test_a_dead_line_ends_the_child_before_it_is_told(session: Session, tmp_path: Path) -> None:
    """What `check` raises comes out when nothing runs any more."""

    def check() -> None:
        if (tmp_path / "pid").exists():
            raise LineLost("gone")

    session.check = check
    with pytest.raises(LineLost):
        session.children().run(
            command("/bin/sh", "-c", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 60")
        )
    assert not is_running(int((tmp_path / "pid").read_text()))
    assert processes.unfinished(read(session.layout.journal)) == []


def test_a_signal_is_named(session: Session) -> None:
    """SIGKILL is what the kernel sends when memory runs out."""
    finished = session.children().run(command("/bin/sh", "-c", "kill -9 $$"))
    assert finished.cause() == "killed by SIGKILL (out of memory?)"


def test_a_gigabyte_of_output_costs_little_memory_and_keeps_head_and_tail(session: Session) -> None:
    """Most of it is given back to the kernel while it comes; the first and the last lines stay readable."""
    held = [0]

    def check() -> None:
        for path in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if "memfd:output" in str(path.readlink()):
                    held.append(path.stat().st_blocks * 512)

    session.check = check
    script = "echo first; dd if=/dev/zero bs=1M count=1024 2>/dev/null; echo; echo last; sleep 1.5"
    finished = session.children().run(command("/bin/sh", "-c", script))
    assert finished.ok
    assert finished.output.startswith("first\n")
    assert finished.output.endswith("\nlast\n")
    assert len(finished.output) < 100_000
    assert held[-1] < OUTPUT_CAP_BYTES
    assert max(held) < 900 << 20


def test_output_below_the_cap_keeps_head_and_tail(session: Session) -> None:
    """A megabyte of a build's chatter: where it began, and how it ended."""
    finished = session.children().run(command("/bin/sh", "-c", "echo first; seq 1 200000; echo last; exit 1"))
    assert finished.output.startswith("first\n1\n2\n")
    assert finished.output.endswith("200000\nlast\n")
    assert "\n[...]\n" in finished.output
    assert finished.tail(2) == ["200000", "last"]


def test_a_build_that_daemonises_is_ended(session: Session, tmp_path: Path) -> None:
    """It left its session and its parent; as their subreaper onhost finds it all the same."""
    code = DAEMON % str(tmp_path / "pid")
    # The build goes on until its daemon is there.
    script = f'"$0" -I -S -c "$1"; while [ ! -e {tmp_path}/pid ]; do sleep 0.01; done'
    finished = session.children().run(command("/bin/sh", "-c", script, sys.executable, code))
    assert finished.ok
    assert not is_running(int((tmp_path / "pid").read_text()))


def start_service(session: Session, folder: Path) -> int:
    """A restart command that starts a daemon; returns its pid."""
    assert session.children().run(python(DAEMON % str(folder / "service"), kind="hook")).ok
    return int(eventually(lambda: (folder / "service").exists() and (folder / "service").read_text()))


def test_a_service_that_a_hook_starts_is_left_alone(session: Session, tmp_path: Path, reaped: list[int]) -> None:
    """Also by builds that run later in the same run: it is onhost's child by then, but no stray of theirs."""
    pid = start_service(session, tmp_path)
    reaped.append(pid)
    assert is_running(pid)
    assert session.children().run(command("/bin/true")).ok
    assert is_running(pid)


def test_a_service_in_the_hooks_own_session_is_left_alone_by_later_runs(
    session: Session, tmp_path: Path, reaped: list[int]
) -> None:
    """`nohup program &` stays in the session that the journal names; that hook ended, so nothing survived it."""
    script = f"nohup sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/pid"
    assert session.children().run(command("/bin/sh", "-c", script, kind="hook")).ok
    pid = int((tmp_path / "pid").read_text())
    reaped.append(pid)
    assert processes.survivors(read(session.layout.journal), str(session.layout.root)) == {"build": [], "hook": []}
    assert is_running(pid)


KILLED = """
import os, sys
from pathlib import Path
from deploy.onhost.channel import Channel
from deploy.onhost.children import Command, environment, become_subreaper
from deploy.onhost.journal import Journal
from deploy.onhost.children import Children
become_subreaper()
fd = os.memfd_create("onhost", 0)
os.write(fd, open(sys.argv[1], "rb").read())
env = environment(SEALED_DEPLOY_BUILD=sys.argv[5]) if sys.argv[4] == "build" else environment()
children = Children(fd, lambda: None, Journal(Path(sys.argv[2]), "killed"))
children.run(Command(["/bin/sh", "-c", sys.argv[3]], "/", env, 60, sys.argv[4], "killed"))
"""


@pytest.fixture
def killed(session: Session, tmp_path: Path, program_fd: int) -> Callable[[str, str], None]:
    """Run a command in another onhost on the same ROOT, and kill that one as soon as the file `ready` is there."""

    def run(script: str, kind: str) -> None:
        program = tmp_path / "onhost.pyz"
        program.write_bytes(os.pread(program_fd, 1 << 24, 0))
        journal, root = str(session.layout.journal), str(session.layout.root)
        onhost = subprocess.Popen([sys.executable, "-c", KILLED, str(program), journal, script, kind, root])
        eventually((tmp_path / "ready").exists)
        onhost.kill()
        onhost.wait()

    return run


def pids(folder: Path) -> list[int]:
    """What the killed run's children wrote down."""
    return [int(path.read_text()) for path in folder.glob("pid*")]


@pytest.mark.parametrize("kind", ["build", "hook"])
def test_what_a_killed_run_left_is_found_and_ended(
    session: Session, tmp_path: Path, killed: Callable[[str, str], None], kind: str, reaped: list[int]
) -> None:
    """The direct child dies with its parent; its own children do not, and are found by their session."""
    script = f"sleep 61 & echo $! > {tmp_path}/pid1; sleep 62 & echo $! > {tmp_path}/pid2; touch {tmp_path}/ready; wait"
    killed(script, kind)
    reaped += pids(tmp_path)
    records = read(session.layout.journal)
    found = processes.survivors(records, str(session.layout.root))
    other = "hook" if kind == "build" else "build"
    # The direct child may still be dying of its parent's death.
    assert {process.pid for process in found[kind]} >= set(pids(tmp_path))
    assert found[other] == []
    for process in found[kind]:
        processes.end_tree(process)
    assert not any(map(is_running, pids(tmp_path)))


def test_a_build_that_left_its_session_is_found_by_its_mark(
    session: Session, tmp_path: Path, killed: Callable[[str, str], None], reaped: list[int]
) -> None:
    """setsid(1) hides it from process groups and sessions, not from /proc."""
    killed(f"setsid sh -c 'echo $$ > {tmp_path}/pid1; touch {tmp_path}/ready; sleep 60'; wait", "build")
    reaped += pids(tmp_path)
    found = processes.survivors(read(session.layout.journal), str(session.layout.root))
    assert pids(tmp_path)[0] in [process.pid for process in found["build"]]
    other = processes.survivors(read(session.layout.journal), "/srv/another")
    assert pids(tmp_path)[0] not in [process.pid for process in other["build"]]


def test_ending_a_tree_takes_children_that_left_the_session(tmp_path: Path, reaped: list[int]) -> None:
    """From the top down, each stopped before it can start another."""
    script = f"setsid sleep 60 & echo $! > {tmp_path}/pid1; sleep 60 & echo $! > {tmp_path}/pid2; wait"
    top = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    eventually(
        lambda: len(list(tmp_path.glob("pid*"))) == 2 and all(path.read_text() for path in tmp_path.glob("pid*"))
    )
    reaped += pids(tmp_path)
    process = processes.identify(top.pid)
    assert process
    ended = processes.end_tree(process)
    top.wait()
    assert set(ended) >= {top.pid, *pids(tmp_path)}
    assert not any(map(is_running, pids(tmp_path)))


def test_a_recycled_pid_is_nobody_of_ours(session: Session, request: pytest.FixtureRequest) -> None:
    """Somebody else's session that got the number of a child of last week is not touched."""
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    request.addfinalizer(stranger.wait)
    request.addfinalizer(stranger.kill)
    process = processes.identify(stranger.pid)
    assert process
    boot = processes.boot_id()
    for start in (process.start - 1000, process.start + 1000):
        session.book.note("child", pid=stranger.pid, start=start, boot=boot, kind="hook", label="x", deadline_s=1)
    session.book.note(
        "child", pid=stranger.pid, start=process.start, boot="another", kind="hook", label="x", deadline_s=1
    )
    done = session.book.note("child", pid=stranger.pid, start=process.start, boot=boot, kind="hook", label="x")
    session.book.note("child-done", child=done["seq"])
    assert processes.survivors(session.book.records, str(session.layout.root))["hook"] == []
    assert processes.end_tree(processes.Process(stranger.pid, process.start + 1)) == []
    assert is_running(stranger.pid)


def launch(program: Path, spec: bytes, parent: int) -> subprocess.CompletedProcess[str]:
    """The launcher itself, given this much of its specification."""
    fd, go = os.pipe()
    os.write(go, spec)
    os.close(go)
    argv = [sys.executable, "-I", "-S", str(program), "child", str(fd)]
    try:
        return subprocess.run(argv, pass_fds=(fd,), capture_output=True, text=True, check=False)
    finally:
        os.close(fd)


@pytest.mark.parametrize("case", ["nothing", "half", "another parent"])
def test_a_launcher_without_its_parents_word_runs_nothing(tmp_path: Path, program_fd: int, case: str) -> None:
    """Onhost died before the journal named the child, in the middle of the word, or right after it."""
    program = tmp_path / "onhost.pyz"
    program.write_bytes(os.pread(program_fd, 1 << 24, 0))
    spec = (
        f'{{"argv": ["touch", "{tmp_path}/ran"], "cwd": "/", "env": {{"PATH": "/usr/bin:/bin"}}, "sealed": false, '
        f'"network_namespace": false, "parent": %d, "uid": null, "gid": null}}'
    )
    text = {"nothing": "", "half": (spec % os.getpid())[:40], "another parent": spec % 1}[case]
    assert launch(program, text.encode(), os.getpid()).returncode != 0
    assert not (tmp_path / "ran").exists()
    assert launch(program, (spec % os.getpid()).encode(), os.getpid()).returncode == 0
    assert (tmp_path / "ran").exists()


def test_line_7_children_do_not_hold_the_lock(session: Session, reaped: list[int], tmp_path: Path) -> None:
    """A service that a hook started lives on when the run is over; the lock must be free then."""
    reaped.append(start_service(session, tmp_path))
    session.lock.release()
    session.lock.take({"by": "next"})
    assert Journal(session.layout.journal, "next").records
