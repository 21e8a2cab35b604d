"""What fails on some hosts: before the switch nobody switches, after it everybody returns to his own release."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet, eventually, is_whole, readers
from tests.hosts.projects import greeting

pytestmark = pytest.mark.hosts

NO_COMPILER = """
import os, sys
if os.path.exists(os.path.join(os.path.dirname(os.environ["SEALED_DEPLOY_BUILD"]), "no-compiler")):
    sys.exit("gcc: command not found")
"""


def test_line_42_a_package_that_does_not_build_on_two_of_three_hosts(fleet: Callable[..., Fleet]) -> None:
    """Nobody switches, every failing host is listed with package and log, exit is 1, the next deploy works."""
    made = fleet("web-1", "web-2", "web-3")
    made.project.release("v1")
    made.deploy("v1")
    made.project.tiny_closure(greeting("2.0", {"build-step.py": NO_COMPILER}))
    made.project.release("v2")
    for host in made.hosts[1:]:
        host.directory.joinpath("no-compiler").touch()
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    assert ended.outcomes == {"web-1": "unchanged", "web-2": "failed", "web-3": "failed"}
    for name in ("web-2", "web-3"):
        assert f"{name}: build: greeting 2.0 does not build" in ended.problems
    assert "gcc: command not found" in ended.problems
    assert made.live() == ["v1"] * 3
    for host in made.hosts:
        is_whole(host)
        host.directory.joinpath("no-compiler").unlink(missing_ok=True)
    made.deploy("v2")
    assert made.live() == ["v2"] * 3


def test_line_6_a_build_that_is_killed(fleet: Callable[..., Fleet]) -> None:
    """As the kernel does when memory is out: named as that, the release discarded, the lock free."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    made.project.tiny_closure(
        greeting("2.0", {"build-step.py": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"})
    )
    made.project.release("v2")
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    assert "killed by SIGKILL (out of memory?)" in ended.problems
    assert made.live() == ["v1"]
    assert not list(host.root.glob("releases/v2-*"))
    made.project.tiny_closure()
    made.project.release("v3")
    made.deploy("v3")


def test_line_48_unhealthy_on_one_host_returns_each_to_its_own_release(fleet: Callable[..., Fleet]) -> None:
    """Hosts on different releases before are on those again; exit 3; nobody who asked meanwhile got no answer."""
    made = fleet("web-1", "web-2", "web-3")
    made.project.release("v1")
    made.deploy("v1")
    made.project.release("v2")
    made.deploy("v2", "--hosts", "web-2,web-3")
    before = [host.current for host in made.hosts]
    made.project.release("v3", needs="flour")
    for host in made.hosts[:2]:
        (host.root / "shared/data/flour").touch()
    with readers(made.hosts[0]), readers(made.hosts[1]), readers(made.hosts[2]):
        ended = made.fab("deploy:v3")
    assert ended.code == 3, ended.text
    assert set(ended.outcomes.values()) == {"returned"}
    assert "web-3: health: not healthy within 8 s: HTTP 500" in ended.problems
    assert [host.current for host in made.hosts] == before
    assert made.live() == ["v1", "v2", "v2"]
    assert any(one["bad"] for one in made.fab("releases").document["hosts"][0]["releases"] if one["tag"] == "v3")
    (made.hosts[2].root / "shared/data/flour").touch()
    made.deploy("v3")
    assert made.live() == ["v3"] * 3


def test_line_51_the_first_release_ever_is_unhealthy(fleet: Callable[..., Fleet]) -> None:
    """There is nothing to return to, so nothing is live, as before; the release stays for inspection; exit 3."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1", needs="flour")
    ended = made.fab("deploy:v1")
    assert ended.code == 3, ended.text
    assert host.current is None
    assert not (host.root / "current").is_symlink()
    assert list(host.root.glob("releases/v1-*"))
    (host.root / "shared/data/flour").touch()
    made.deploy("v1")
    assert made.live() == ["v1"]


def test_line_52_a_restart_that_fails_and_a_restart_that_does_nothing(fleet: Callable[..., Fleet]) -> None:
    """Either way the new release is not what answers: the host returns, the command or the old process is named."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    real = host.settings()["restart"]
    made.project.release("v2")
    made.configure(
        per_host={"web-1": {"restart": f'case "$DEPLOY_TAG" in v2) echo no unit >&2; exit 7;; esac; {real}'}}
    )
    failed = made.fab("deploy:v2")
    assert failed.code == 3, failed.text
    assert "exit status 7" in failed.problems
    assert "no unit" in failed.problems
    assert made.live() == ["v1"]
    made.configure(per_host={"web-1": {"restart": "true"}})
    idle = made.fab("deploy:v2")
    assert idle.code == 3, idle.text
    assert f"answered by release {host.current}" in idle.problems
    assert made.live() == ["v1"]
    is_whole(host)


def test_line_53_restarts_fail_in_both_directions(fleet: Callable[..., Fleet]) -> None:
    """Where the way back fails too, it is loud: exit 4, both causes, and status shows that a person must look."""
    made = fleet("web-1")
    made.project.release("v1")
    made.deploy("v1")
    made.project.release("v2")
    made.configure(per_host={"web-1": {"restart": "echo broken; exit 7"}})
    ended = made.fab("deploy:v2")
    assert ended.code == 4, ended.text
    assert ended.outcomes == {"web-1": "stuck"}
    assert "returning to v1-" in ended.problems
    is_whole(made.hosts[0])
    made.configure()
    made.deploy("v2")
    assert made.live() == ["v2"]


def test_a_failing_migration_switches_nobody(fleet: Callable[..., Fleet]) -> None:
    """A ``once`` hook runs on one host only, before any switch; where it fails its output is shown; exit 1."""
    made = fleet("web-1", "web-2")
    made.project.release("v1")
    made.deploy("v1")
    migrate = {"run": "echo column exists already; echo ran >> $DEPLOY_ROOT/shared/data/migrated; exit 3", "once": True}
    made.project.settings(hooks={"before_activate": migrate, "failed": "touch $DEPLOY_ROOT/shared/data/told"})
    made.project.release("v2")
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    assert "column exists already" in ended.problems
    assert made.live() == ["v1", "v1"]
    assert [(host.root / "shared/data/migrated").exists() for host in made.hosts] == [True, False]
    assert all((host.root / "shared/data/told").exists() for host in made.hosts)


def test_hooks_run_in_order_with_their_environment(fleet: Callable[..., Fleet]) -> None:
    """prepare, probe, before and after run with the documented names; ``before_activate`` not on rollback."""
    made = fleet("web-1")
    (host,) = made.hosts
    words = "{0} $DEPLOY_TAG $DEPLOY_VERB $DEPLOY_HOST $GREETING $(command -v greet)"
    note = f'echo "{words}" >> $DEPLOY_ROOT/shared/data/notes'
    points = ("prepare", "probe", "before_activate", "after_activate")
    made.project.settings(hooks={point: note.format(point) for point in points}, environment={"GREETING": "good day"})
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    assert made.fab("rollback:v1").code == 0
    notes = (host.root / "shared/data/notes").read_text().splitlines()
    assert [" ".join(line.split()[:3]) for line in notes] == [
        *(f"{point} {tag} deploy" for tag in ("v1", "v2") for point in points),
        "probe v1 rollback",
        "after_activate v1 rollback",
    ]
    assert all(" web-1 good day " in line for line in notes)
    assert notes[-1].endswith(f"/releases/{host.current}/venv/bin/greet")


def test_a_second_operator_at_work(fleet: Callable[..., Fleet]) -> None:
    """Who comes second changes nothing, reads who is at work and since when, exit 5; with ``--wait`` he comes next."""
    made = fleet("web-1", "web-2")
    made.project.release("v1")
    made.deploy("v1")
    flag = made.folder / "hold"
    flag.touch()
    made.project.settings(hooks={"prepare": f"while [ -e {flag} ]; do sleep 0.05; done"})
    made.project.release("v2")
    first = made.fab.start("deploy:v2", environment={"USER": "alice", "LOGNAME": "alice"})
    first.until(step="prepare", state="started")
    second = made.fab("rollback:v1")
    assert second.code == 5, second.text
    assert "alice" in second.problems
    assert "deploy" in second.problems
    assert made.live() == ["v1", "v1"]
    held = made.fab("status").document["hosts"][0]["lock"]
    assert held["by"].startswith("alice@")
    patient = made.fab.start("deploy:v2", "--wait", "60")
    patient.until(event="fleet_step", step="lock", state="started")
    flag.unlink()
    assert first.wait().code == 0
    ended = patient.wait()
    assert ended.code == 0, ended.text
    assert made.live() == ["v2", "v2"]


def test_two_operators_at_the_same_instant(fleet: Callable[..., Fleet]) -> None:
    """Of several runs started together exactly those succeed that held every lock; nothing is half done."""
    made = fleet("web-1", "web-2")
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    ended = [run.wait() for run in [made.fab.start("rollback:v1", environment={"USER": f"op{n}"}) for n in range(4)]]
    codes = sorted(one.code for one in ended)
    assert codes[0] == 0
    assert set(codes) <= {0, 5}, [one.text for one in ended if one.code not in (0, 5)]
    assert made.live() == ["v1", "v1"]
    eventually(lambda: all(row["lock"] is None for row in made.fab("status").document["hosts"]))


def test_secrets_reach_hooks_and_nothing_else(fleet: Callable[..., Fleet]) -> None:
    """Values of env_files are in a hook's environment, and in no output, journal, log, argv or sealed build."""
    made = fleet("web-1")
    (host,) = made.hosts
    secret = "hunter2-very-secret"
    (host.root / "shared").mkdir(mode=0o750, exist_ok=True)
    (host.root / "shared/.env").write_text(f"export TOKEN='{secret}'\n")
    if os.geteuid() == 0:
        os.chown(host.root / "shared", host.account.uid, host.ground.accounts.app.gid)
        os.chown(host.root / "shared/.env", host.account.uid, host.account.gid)
    check = 'test "$TOKEN" = hunter2-very"-"secret && echo "the token is $TOKEN" && exit 9'
    spy = "import os, sys\nsys.exit('TOKEN leaked') if 'TOKEN' in os.environ else None\n"
    made.project.tiny_closure(greeting("3.0", {"build-step.py": spy}))
    made.project.settings(env_files=["shared/.env"], hooks={"before_activate": check})
    made.project.release("v1")
    ended = made.fab("deploy:v1", "--verbose")
    assert ended.code == 1, ended.text
    assert "the token is [redacted]" in ended.problems
    logs = "".join(path.read_text() for path in made.folder.joinpath("state").rglob("*") if path.is_file())
    journal = (host.root / ".deploy/journal.jsonl").read_text()
    for where in (ended.text, logs, journal):
        assert "hunter2-very-secret" not in where
