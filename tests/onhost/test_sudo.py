"""Commands of another user, by real sudo: nobody takes one that cannot be ended for one that ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.hostprogram import host_program
from deploy.onhost import processes
from deploy.onhost.journal import read
from tests.hosts.accounts import accounts
from tests.onhost.test_children import eventually, is_running

ONHOST = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from deploy.onhost import hooks, processes, recovery, sudo, usage
from deploy.onhost.history import fold
from deploy.onhost.channel import Channel
from deploy.onhost.children import Command, environment, become_subreaper
from deploy.onhost.journal import Journal
from deploy.onhost.layout import Layout
from deploy.onhost.session import Session, StepFailed
become_subreaper()
fd = os.memfd_create("onhost", 0)
os.write(fd, open(sys.argv[1], "rb").read())
layout = Layout(Path(sys.argv[2]))
layout.make()
session = Session(layout, Channel(os.pipe()[0], os.open(os.devnull, os.O_WRONLY), silence_s=1e9), fd, "run", "t")
session.journal = Journal(layout.journal, "run")
do, app, script, deadline_s = sys.argv[3:]
try:
    if do == "refusals":
        told = sudo.refusals(session, json.loads(script))
    elif do == "recover":
        told = recovery.recover(session)
    elif do == "use":
        for release, up_s in (("v1-00000001", -2.0), ("v2-00000002", -1.0), ("v3-00000003", float(script))):
            session.book.append("switched", to=release, boot=processes.boot_id(), up_s=up_s)
        told = sorted(usage.in_use(layout, fold(session.book.records)))
    else:
        configured = hooks.Configured(["/bin/sh", "-c", script], "before_activate", float(deadline_s), app)
        words, _, _ = hooks._as_user(configured, {})
        if do == "bare":
            words = words[:words.index("--") + 1] + configured.argv
        session.check = lambda: None
        finished = session.children().run(
            Command(words, "/", environment(), float(deadline_s), "hook", "before_activate"))
        told = [finished.ok, finished.cause(), len(finished.left)]
except StepFailed as failure:
    told = [False, failure.cause]
print(json.dumps(told))
"""


class Ground:
    """A deploy user with a ROOT and the right to become the app's user."""

    def __init__(self, base: Path, deploy: Any, app: Any) -> None:
        self.root, self.program, self.ready = base / "root", base / "onhost.pyz", base / "ready"
        self.program.write_bytes(host_program().data)
        self.root.mkdir()
        os.chown(self.root, deploy.uid, deploy.gid)
        base.chmod(0o1777)
        self.deploy, self.app = deploy, app

    def start(self, do: str, script: str = "", deadline_s: float = 60) -> subprocess.Popen[str]:
        """Run the host program's parts as the deploy user."""
        words = [str(self.program), str(self.root), do, self.app.name, script, str(deadline_s)]
        return subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", "-c", ONHOST, *words], stdout=subprocess.PIPE, text=True, cwd="/",
            **self.deploy.as_child,
        )  # fmt: skip

    def run(self, do: str, script: str = "", deadline_s: float = 60) -> Any:
        """Run them to their end."""
        said, _ = self.start(do, script, deadline_s).communicate(timeout=60)
        return json.loads(said)

    @property
    def pid(self) -> int:
        """What the app's command wrote down."""
        return int(eventually(lambda: self.ready.exists() and self.ready.read_text()))

    @property
    def open_children(self) -> int:
        """Children whose end the journal does not know."""
        return len(processes.unfinished(read(self.root / ".deploy/journal.jsonl")))


@pytest.fixture
def ground() -> Iterator[Ground]:
    """Two created users and a rule for sudo between them."""
    if os.geteuid() != 0 or not shutil.which("sudo") or not Path("/usr/bin/python3").exists():
        pytest.skip("two users, sudo and a system Python are needed: run as root, install sudo and python3")
    base = Path(tempfile.mkdtemp(prefix="sudo-"))
    try:
        with accounts(base) as made:
            rule = Path("/etc/sudoers.d") / made.deploy.name
            rule.write_text(f"{made.deploy.name} ALL=({made.app.name}) NOPASSWD:SETENV: ALL\n")
            rule.chmod(0o440)
            try:
                yield Ground(base, made.deploy, made.app)
            finally:
                rule.unlink()
    finally:
        shutil.rmtree(base)


def stay(ground: Ground, seconds: int = 60) -> str:
    """A command that writes down that it runs, and stays."""
    return f"echo $$ > {ground.ready}.new; mv {ground.ready}.new {ground.ready}; exec sleep {seconds}"


def test_a_deadline_holds_for_another_users_command(ground: Ground) -> None:
    """Its own timeout(1) ends it where onhost may not."""
    ok, cause, left = ground.run("hook", stay(ground), 1)
    assert (ok, left) == (False, 0)
    assert "deadline" in cause
    assert eventually(lambda: not is_running(ground.pid))
    assert ground.open_children == 0


def test_what_cannot_be_ended_is_named_and_never_called_ended(ground: Ground) -> None:
    """Without timeout(1) it runs on: the outcome says so, and the next run refuses to start beside it."""
    ok, cause, left = ground.run("bare", stay(ground), 1)
    assert not ok
    assert left > 0
    assert "cannot be ended and still runs: pid" in cause
    assert is_running(ground.pid)
    assert ground.open_children == 1
    ok, cause = ground.run("recover")
    assert "before_activate" in cause
    assert "cannot be ended" in cause
    assert ground.open_children == 1
    processes.kill(ground.pid)
    assert eventually(lambda: not is_running(ground.pid))
    assert ground.run("recover") == []
    assert ground.open_children == 0


@pytest.mark.parametrize("seconds", [4, 60])
def test_recovery_awaits_another_users_migration(ground: Ground, seconds: int) -> None:
    """Onhost was killed; the migration comes to its end, or its deadline does; only then the next run goes on."""
    onhost = ground.start("hook", stay(ground, seconds), 6)
    pid = ground.pid
    onhost.kill()
    onhost.communicate()
    assert is_running(pid)
    assert ground.run("recover") == []
    assert not is_running(pid)
    assert ground.open_children == 0


@pytest.mark.parametrize(
    ("argv0", "group", "used"),
    [
        ("worker", True, ["v2-00000002", "v3-00000003"]),
        ("worker", False, []),
        ("{root}/current/venv/bin/python", False, ["v2-00000002", "v3-00000003"]),
        ("{root}/releases/v1-00000001/venv/bin/python", True, ["v1-00000001", "v2-00000002", "v3-00000003"]),
        ("{root}/releases/v1-00000001/venv/bin/python", False, ["v1-00000001", "v2-00000002", "v3-00000003"]),
    ],
)
def test_a_process_that_cannot_be_read_keeps_what_it_may_run_from(
    ground: Ground, argv0: str, *, group: bool, used: list[str]
) -> None:
    """The app's user, known by ROOT's group or by its command line: what was live when it started, and later."""
    os.chown(ground.root, -1, ground.app.gid if group else ground.deploy.gid)
    worker = subprocess.Popen(
        [argv0.format(root=ground.root), "60"], executable="/bin/sleep", cwd="/", **ground.app.as_child
    )
    try:
        assert ground.run("use", str(processes.up_s() + 1)) == used
    finally:
        worker.kill()
        worker.wait()


def operator(app: str, **commands: Any) -> str:
    """Settings with commands as the control side sends them."""
    return json.dumps({name: {"run": run.replace("APP", app)} for name, run in commands.items()})


def test_line_16_what_sudo_would_refuse_is_known_before(ground: Ground) -> None:
    """Each command with the rule that is missing; nothing is run to find out."""
    mark = ground.root / "ran"
    wanted = operator(ground.app.name, restart=f"sudo -n touch {mark}", stop="sudo -n -u APP -- id -u")
    (said,) = ground.run("refusals", wanted)
    me = ground.deploy.name
    assert said == (
        f"sudo does not let {me} run `touch {mark}` without a password "
        f"(as root, in a file of /etc/sudoers.d: {me} ALL=(root) NOPASSWD: /usr/bin/touch {mark})"
    )
    assert not mark.exists()


def test_what_is_no_plain_sudo_command_is_not_judged(ground: Ground) -> None:
    """Only the shell knows what those run."""
    wanted = operator(ground.app.name, restart="sudo -n touch x && true", stop="systemctl restart shop")
    assert ground.run("refusals", wanted) == []
    wanted = operator(ground.app.name, restart="sudo -n -H touch x", stop="sudo -n")
    assert ground.run("refusals", wanted) == []
