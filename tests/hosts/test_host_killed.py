"""kill -9 of the host program at every step boundary, inside pip and inside a migration, the next deploy at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet, is_whole, readers
from tests.hosts.projects import greeting

pytestmark = pytest.mark.hosts

BOUNDARIES = [
    *((step, "started") for step in ("unpack", "venv", "link", "mark", "verify", "switch", "restart", "health")),
    *(
        (step, "done")
        for step in ("unpack", "venv", "packages", "link", "mark", "verify", "switch", "restart", "health")
    ),
]


@pytest.mark.slow
def test_line_1_at_every_step_boundary(fleet: Callable[..., Fleet]) -> None:
    """Wherever it dies the old or the new release is live and whole, exit 0 says which, and the next deploy works.

    After the switch the run reaches the host again, whose next host program settles what the dead one left open.
    """
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v0")
    made.deploy("v0")
    with readers(host) as seen:
        for number, (step, state) in enumerate(BOUNDARIES, 1):
            before = host.current
            made.project.release(f"v{number}")
            run = made.fab.start(f"deploy:v{number}")
            run.until(event="host_step", step=step, state=state)
            assert host.kill_onhost(), f"{step} {state}: there was no host program"
            ended = run.wait(timeout_s=60)
            where = f"{step} {state}: {ended.text}"
            assert ended.code in (0, 1), where
            assert ended.code == 0 or "line lost" in ended.problems, where
            is_whole(host)
            assert host.current == (before if ended.code else f"v{number}-{str(host.current)[-8:]}"), where
            assert host.live() == host.current, where
            made.deploy(f"v{number}")
            assert made.live() == [f"v{number}"]
            is_whole(host)
            assert not [r for r in made.fab("releases").document["hosts"][0]["releases"] if r["state"] == "BROKEN"]
    assert seen


def test_in_the_middle_of_the_first_deploy_ever(fleet: Callable[..., Fleet]) -> None:
    """There is no old release: nothing is live or the new one is, and the next deploy makes it live."""
    for number, step in enumerate(("venv", "switch", "health")):
        made = fleet("web-1")
        (host,) = made.hosts
        made.project.release("v1")
        run = made.fab.start("deploy:v1")
        run.until(event="host_step", step=step, state="started")
        assert host.kill_onhost()
        assert run.wait(timeout_s=60).code == (1 if step == "venv" else 0), number
        is_whole(host)
        made.deploy("v1")
        assert made.live() == ["v1"]


def test_inside_a_build_with_the_next_deploy_at_once(fleet: Callable[..., Fleet]) -> None:
    """A build that outlives the host program, even in a session of its own, is ended before the next one starts."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    flag = made.folder / "hold"
    flag.touch()
    step = (
        "import os, subprocess, sys, time\n"
        f"if os.path.exists({str(flag)!r}):\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "    open('hidden', 'w').close()\n"
        "    time.sleep(600)\n"
    )
    made.project.tiny_closure(greeting("2.0", {"build-step.py": step}))
    made.project.release("v2")
    run = made.fab.start("deploy:v2")
    run.until(event="host_step", step="build", state="started")
    with _eventually_hidden(host.root):
        pass
    left = host.builds()
    assert len(left) >= 2
    assert host.kill_onhost()
    flag.unlink()
    made.deploy("v2")
    assert run.wait(timeout_s=60).code == 1
    assert made.live() == ["v2"]
    assert not set(left) & set(host.builds())
    is_whole(host)


def test_inside_a_migration_with_the_next_deploy_at_once(fleet: Callable[..., Fleet]) -> None:
    """A hook that outlives the host program never runs beside the next one; its end is journalled as unknown."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    log = host.root / "shared/data/migrations"
    migrate = f"echo start $$ >> {log}; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; done; echo end $$ >> {log}"
    made.project.settings(hooks={"before_activate": {"run": migrate, "once": True, "idempotent": True}})
    made.project.release("v2")
    run = made.fab.start("deploy:v2")
    run.until(event="host_step", step="before_activate", state="started")
    _until(log.exists)
    assert host.kill_onhost()
    made.deploy("v2")
    assert run.wait(timeout_s=60).code == 1
    assert made.live() == ["v2"]
    lines = [line.split() for line in log.read_text().splitlines()]
    # Either the first one was ended before the second began, or it came to its end first: never both at once.
    for first, second in itertools.pairwise(lines):
        assert first[0] != "start" or second[0] == "start" or first[1] == second[1]
    assert lines[-1][0] == "end"
    assert {words[1] for words in lines[lines.index(lines[-2]) :]} == {lines[-1][1]}


def test_a_build_that_leaves_a_daemon_behind(fleet: Callable[..., Fleet]) -> None:
    """What a build forks into the background ends with the build; it cannot outlive it as a daemon."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    daemon = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.closerange(0, 64)\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
    )
    made.project.tiny_closure(greeting("2.0", {"build-step.py": daemon}))
    made.project.release("v1")
    made.deploy("v1")
    assert host.builds() == []


def test_a_hook_that_starts_the_service_as_a_daemon_keeps_it(fleet: Callable[..., Fleet]) -> None:
    """Restart commands may leave daemons: they live on, do not hold the lock, and cannot write into the channel."""
    made = fleet("web-1", serve=False)
    pid_file = made.folder / "daemon.pid"
    pid_file.touch(mode=0o666)
    pid_file.chmod(0o666)
    start = f"(while :; do echo noise; sleep 0.1; done & echo $! > {pid_file})"
    made.configure(per_host={"web-1": {"restart": start}})
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _until(what: Callable[[], bool]) -> None:
    from tests.hosts.fleet import eventually

    eventually(what)


@contextlib.contextmanager
def _eventually_hidden(root):
    _until(lambda: any(True for _ in root.glob(".deploy/tmp/**/hidden")))
    yield
