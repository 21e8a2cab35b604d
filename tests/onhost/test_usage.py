"""Who uses a release: every trace that a process leaves in proc(5), and what follows where nobody may look."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.hostprogram import host_program
from deploy.onhost import processes, usage
from deploy.onhost.history import fold
from deploy.onhost.session import Session
from deploy.wire.names import ReleaseId
from tests.hosts.accounts import accounts

Make = Callable[..., ReleaseId]
STAY = "import sys; print(flush=True); sys.stdin.read()"
TRACES = {
    "working directory": "import os; os.chdir(os.environ['USED'])",
    "open file": "import os; kept = open(os.environ['USED'] + '/src/app.py')",
    "mapped file": (
        "import mmap, os; file = open(os.environ['USED'] + '/src/app.py', 'rb')\n"
        "kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); file.close()"
    ),
}
"""What a process does with the folder that its environment names: its command line must not tell."""


def start(words: list[str], **options: Any) -> subprocess.Popen[Any]:
    """A process that has come as far as printing a line."""
    worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **options)
    assert worker.stdout
    worker.stdout.readline()
    return worker


def using(folder: object, trace: str) -> subprocess.Popen[Any]:
    """A process that leaves one trace of using a folder."""
    return start([sys.executable, "-c", f"{TRACES[trace]}\n{STAY}"], env={**os.environ, "USED": str(folder)})


def end(worker: subprocess.Popen[Any]) -> None:
    """Kill it and take what it said."""
    worker.kill()
    worker.communicate()


def used(session: Session) -> dict[str, list[str]]:
    """What is in use, with what the journal knows."""
    return usage.in_use(session.layout, fold(session.book.records))


@pytest.mark.parametrize("trace", TRACES)
def test_line_46_a_process_that_still_uses_a_release_is_named(session: Session, release: Make, trace: str) -> None:
    """By its working directory, a file it has open or mapped: with pid, program and user; once it ends, no more."""
    name = release("v1")
    worker = using(session.layout.release(name), trace)
    try:
        told = used(session)
    finally:
        end(worker)
    program = Path(sys.executable).name[:15]
    assert list(told) == [name]
    assert len(told[name]) == 1
    assert told[name][0].startswith(f"in use by pid {worker.pid} ({program}) of user ")
    assert used(session) == {}


def test_line_46_a_program_that_lies_in_a_release(session: Session, release: Make) -> None:
    """Its executable alone tells, whatever it calls itself."""
    name = release("v1")
    folder = session.layout.release(name)
    folder.chmod(0o755)
    shutil.copy("/bin/cat", folder / "cat")
    worker = subprocess.Popen(["worker"], executable=folder / "cat", stdin=subprocess.PIPE, cwd="/")
    try:
        assert list(used(session)) == [name]
    finally:
        end(worker)


def test_line_46_every_release_that_a_process_names_counts(session: Session, release: Make) -> None:
    """The working directory in one, an open file in another, a third on the command line, not at its end."""
    names = [release(f"v{number}") for number in (1, 2, 3)]
    cwd, opened, named = (str(session.layout.release(name)) for name in names)
    code = "import os; os.chdir(os.environ['CWD']); kept = open(os.environ['OPENED'] + '/src/app.py')"
    words = [sys.executable, "-c", f"{code}\n{STAY}", f"--chdir={named}", "more"]
    worker = start(words, env={**os.environ, "CWD": cwd, "OPENED": opened})
    try:
        assert set(used(session)) == set(names)
    finally:
        end(worker)


def test_line_46_a_process_that_came_by_way_of_current(session: Session, release: Make) -> None:
    """Its command line says `current/...`, which has moved on since: all that was live since it started counts."""
    names = [release(f"v{number}") for number in (1, 2, 3)]
    boot = processes.boot_id()
    for name, up_s in zip(names, (1.0, processes.up_s() - 1, processes.up_s() + 60), strict=True):
        session.book.append("switched", to=name, boot=boot, up_s=up_s)
    worker = start([f"{session.layout.current}/venv/bin/python", "-c", STAY], executable=sys.executable)
    try:
        told = used(session)
    finally:
        end(worker)
    assert set(told) == set(names[1:])
    assert all(told[name][0].startswith(f"possibly in use by pid {worker.pid} ") for name in told)


def test_line_46_packages_that_releases_share_are_in_use(session: Session, release: Make) -> None:
    """A module mapped from the environment store keeps what was live since, and so the environment itself."""
    name = release("v1")
    session.book.append("switched", to=name, boot=processes.boot_id(), up_s=1.0)
    packages = session.layout.envs / ("e" * 64) / "site-packages"
    (packages / "src").mkdir(parents=True)
    (packages / "src/app.py").write_bytes(b"x")
    worker = using(packages, "mapped file")
    try:
        assert list(used(session)) == [name]
    finally:
        end(worker)


def test_a_process_that_forks_while_proc_is_read_is_not_missed(
    session: Session, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reading lists only what ends meanwhile; a later one finds its child."""
    name = release("v1")
    worker = using(session.layout.release(name), "working directory")
    real, readings = os.listdir, list[int]()

    def listdir(path: str) -> list[str]:
        found = real(path)
        if path == "/proc":
            readings.append(1)
            if len(readings) == 1:
                found.remove(str(worker.pid))
        return found

    monkeypatch.setattr(usage.os, "listdir", listdir)
    try:
        assert list(used(session)) == [name]
    finally:
        end(worker)


ONHOST = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
uid, gid = int(sys.argv[3]), int(sys.argv[4])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
from pathlib import Path
from deploy.onhost import live, usage, processes
from deploy.onhost.history import fold
from deploy.onhost.journal import Journal
from deploy.onhost.layout import Layout
layout = Layout(Path(sys.argv[2]))
layout.make()
book = Journal(layout.journal, "run")
for release, up_s in (("v1-00000001", 0.5), ("v2-00000002", 1.0)):
    book.append("switched", to=release, boot=processes.boot_id(), up_s=up_s)
if sys.argv[5:]:
    live.processes_of = lambda unit: [int(sys.argv[5])]
print(json.dumps([usage.in_use(layout, fold(book.records), "shop.service" if sys.argv[5:] else ""),
    processes.hides_processes()]))
"""


@pytest.fixture
def ground() -> Iterator[Any]:
    """A ROOT of a created deploy user, whose group the app's created user is not in."""
    if os.geteuid() != 0 or not shutil.which("useradd") or not Path("/usr/bin/python3").exists():
        pytest.skip("two users and a system Python are needed: run as root, install python3")
    base = Path(tempfile.mkdtemp(prefix="usage-"))
    base.chmod(0o755)
    (base / "onhost.pyz").write_bytes(host_program().data)
    (base / "root").mkdir()
    try:
        with accounts(base) as made:
            os.chown(base / "root", made.deploy.uid, made.deploy.gid)
            yield base, made
    finally:
        shutil.rmtree(base)


def ask(ground: Any, *more: str, inside: list[str] | None = None) -> Any:
    """What the deploy user finds, and whether /proc hides something from it."""
    base, made = ground
    words = [str(base / "onhost.pyz"), str(base / "root"), str(made.deploy.uid), str(made.deploy.gid), *more]
    done = subprocess.run(
        [*(inside or []), "/usr/bin/python3", "-I", "-S", "-c", ONHOST, *words], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_line_46_a_retitled_process_of_the_services_unit_is_unknown_never_unused(ground: Any) -> None:
    """Another user's, in no group of ROOT's, its command line says nothing: its unit's cgroup tells."""
    base, made = ground
    (base / "ready").touch()
    worker = subprocess.Popen(["gunicorn: master"], executable="/bin/cat", stdin=subprocess.PIPE, **made.app.as_child)
    try:
        assert ask(ground) == [{}, False]
        told, _ = ask(ground, str(worker.pid))
    finally:
        end(worker)
    who = f"possibly in use by pid {worker.pid} (cat) of user {made.app.name}"
    assert told == {"v2-00000002": [who]}


def test_line_46_where_proc_hides_processes_nothing_is_called_unused(ground: Any) -> None:
    """A real mount with hidepid=2: all that was live since the host started is kept, and the reason is told."""
    mount = ["unshare", "-mpf", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]
    tried = subprocess.run([*mount, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no namespaces to mount a /proc in: {tried.stderr.strip()}")
    told, hidden = ask(ground, inside=mount)
    assert hidden
    assert set(told) == {"v1-00000001", "v2-00000002"}
    assert "hidepid" in told["v1-00000001"][0]
