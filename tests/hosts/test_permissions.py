"""Who may write what on a host, tried as the users themselves; a test that finds itself root there fails."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.onhost import landlock
from tests.hosts.accounts import Account
from tests.hosts.fleet import Fleet
from tests.hosts.openssh import Host
from tests.hosts.projects import greeting, wheel

pytestmark = pytest.mark.hosts

TRY = """
import json, os, sys
assert os.geteuid() != 0, "this test is worth nothing as root"
outcome = {}
for path in sys.argv[1:]:
    try:
        if path.endswith("/"):
            name = path + "written-by-the-app"
            open(name, "w").close()
            os.unlink(name)
        elif os.path.islink(path):
            os.symlink("elsewhere", path + ".new")
            os.replace(path + ".new", path)
        else:
            open(path, "r+").close()
        outcome[path] = "written"
    except OSError as error:
        outcome[path] = type(error).__name__
print(json.dumps(outcome))
"""


def attempt(host: Host, account: Account, paths: list[Path | str]) -> set[str]:
    """Try to write to all these places as a user; gives those where it could."""
    done = subprocess.run(
        [host.ground.python, "-I", "-c", TRY, *map(str, paths)],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        **account.as_child,
    )
    return {path for path, outcome in json.loads(done.stdout).items() if outcome == "written"}


@pytest.fixture
def served(fleet: Callable[..., Fleet]) -> Fleet:
    """One host with two releases, where deploy and app are two created users."""
    made = fleet("web-1")
    if not made.hosts[0].ground.accounts.are_created:
        pytest.skip("two more users are needed, and making them needs root")
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    return made


def test_the_host_side_is_not_root(served: Fleet) -> None:
    """Deploys run as the deploy user and the service as the app's: uid 0 owns nothing below ROOT."""
    (host,) = served.hosts
    assert host.account.uid != 0
    owners = {path.lstat().st_uid for path in host.root.rglob("*")}
    assert owners <= {host.account.uid, host.ground.accounts.app.uid}
    pid = host.answer()["pid"]
    assert Path(f"/proc/{pid}").stat().st_uid == host.ground.accounts.app.uid


def test_line_58_the_app_writes_its_shared_folders_and_nothing_else(served: Fleet) -> None:
    """Releases, environments, ``current``, journal, store and settings are out of its reach; shared/data is not."""
    (host,) = served.hosts
    app = host.ground.accounts.app
    (release,) = host.root.glob("releases/v2-*")
    site = next(release.glob("venv/lib/python*/site-packages")).resolve()
    state = host.root / ".deploy"
    forbidden = [
        f"{host.root}/",
        host.root / "current",
        host.root / "previous",
        f"{host.root}/releases/",
        f"{release}/",
        f"{release}/src/",
        release / "src/app.py",
        release / "release.json",
        f"{release}/venv/",
        f"{release}/venv/bin/",
        release / "venv/bin/greet",
        f"{site}/",
        site / "greeting.py",
        f"{host.root}/shared/",
        f"{state}/",
        state / "journal.jsonl",
        state / "lock",
        f"{state}/tmp/",
        f"{state}/bin/",
        f"{state}/store/envs/",
        f"{state}/store/files/",
        f"{state}/store/wheels/",
    ]
    assert attempt(host, app, forbidden) == set()
    assert attempt(host, app, [f"{host.root}/shared/data/", f"{release}/src/data/"]) == {
        f"{host.root}/shared/data/",
        f"{release}/src/data/",
    }


@pytest.mark.parametrize("who", ["app", "deploy"])
def test_pip_install_into_an_old_release_is_refused(served: Fleet, who: str) -> None:
    """Neither the app's user nor the deploy user can change a release by pip; every release verifies afterwards."""
    (host,) = served.hosts
    account = host.ground.accounts.app if who == "app" else host.account
    folder = served.folder / "extra"
    folder.mkdir(mode=0o755)
    file, data = wheel("greeting", "9.0", {"greeting.py": "TEXT = 'changed behind your back'\n"})
    (folder / file).write_bytes(data)
    tools = next(host.root.glob(".deploy/store/envs/tools-*"))
    for tag in ("v1", "v2"):
        (release,) = host.root.glob(f"releases/{tag}-*")
        done = subprocess.run(
            [
                release / "venv/bin/python",
                "-I",
                tools / "pip/__pip-runner__.py",
                "install",
                "--no-index",
                folder / file,
            ],
            cwd="/",
            env={"PATH": os.defpath, "HOME": "/nonexistent", "PIP_CONFIG_FILE": "/dev/null"},
            capture_output=True,
            text=True,
            **account.as_child,
        )
        assert done.returncode != 0, done.stdout
        assert "ermission denied" in done.stdout + done.stderr
        assert served.fab(f"verify:{tag}").code == 0
    assert host.answer()["says"] == "hello, world"


def modes(host: Host) -> dict[str, str]:
    """The mode of everything below ROOT, names that differ from host to host made alike."""
    found: dict[str, str] = {}
    for path in host.root.rglob("*"):
        about = path.lstat()
        parts = list(path.relative_to(host.root).parts)
        if stat.S_ISLNK(about.st_mode) or parts[:2] == [".deploy", "tmp"] or "files" in parts:
            continue
        found["/".join(parts)] = oct(stat.S_IMODE(about.st_mode))
    return found


def test_line_22_modes_under_any_umask(bare_fleet: Callable[..., Fleet]) -> None:
    """Umask 000 and 077 of the login give the very same modes, none of them writable for others."""
    made = bare_fleet("web-1", "web-2", "web-3", serve=False)
    per_host = {}
    for host, umask in zip(made.hosts, ("022", "000", "077"), strict=True):
        script = made.folder / f"python-{umask}"
        script.write_text(f'#!/bin/sh\numask {umask}\nexec {host.ground.python} "$@"\n')
        script.chmod(0o755)
        per_host[host.name] = {"python": str(script)}
    made.configure(per_host=per_host)
    made.project.release("v1")
    made.deploy("v1")
    usual, loose, tight = [modes(host) for host in made.hosts]
    assert usual == loose
    assert usual == tight
    assert not [path for path, mode in usual.items() if int(mode, 8) & 0o002]
    assert not [path for path, mode in usual.items() if path.startswith("releases/") and int(mode, 8) & 0o222]
    assert usual["releases"] == "0o755"
    assert usual["shared"] == "0o750"
    assert usual["shared/data"] == "0o2770"
    assert usual[".deploy"] == "0o711"


def test_nothing_outside_root_changes(fleet: Callable[..., Fleet]) -> None:
    """HOME, /tmp and the host's own folder are as they were, apart from what the service itself writes."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    if not host.ground.accounts.are_created:
        pytest.skip("files of a user of its own are looked for, and making one needs root")
    made.project.tiny_closure(greeting("5.0", {}))  # built anew
    hook = "python -c 'import tempfile; tempfile.TemporaryFile()'"
    made.project.settings(hooks=dict.fromkeys(("prepare", "probe", "before_activate", "after_activate"), hook))
    made.project.release("v1")
    before = outside(host)
    made.deploy("v1")
    assert made.fab("verify").code == 0
    assert made.fab("deploy:v1").code == 0
    assert outside(host) == before


def outside(host: Host) -> dict[str, tuple[int, int]]:
    """What the deploy user owns outside of the tests' own folders, and all in its HOME: inode and time of change."""
    found: dict[str, tuple[int, int]] = {}
    for top in (host.account.home, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run"), Path("/")):
        for path in [top, *top.glob("*")]:
            about = path.lstat()
            if about.st_uid == host.account.uid:
                found[str(path)] = (about.st_ino, about.st_ctime_ns)
    for path in host.account.home.rglob("*"):
        found[str(path)] = (path.lstat().st_ino, path.lstat().st_ctime_ns)
    return found


REACHES = """
import glob, os, pathlib, sys
root = os.environ["SEALED_DEPLOY_BUILD"]
own = pathlib.Path(os.environ["HOME"])
works = root + "/.deploy/tmp/*/"
places = glob.glob(works + "builder-*/lib/python*/site-packages") + glob.glob(works + "app-data")
places += [root + name for name in ("", "/.deploy", "/.deploy/store/files", "/.deploy/tmp", "/releases", "/shared")]
left = [name for name in os.listdir(own)]
for place in places:
    try:
        open(place + "/planted-by-a-build", "w").close()
        left.append(place)
    except OSError:
        pass
open(own / ".pydistutils.cfg", "w").close()
for path in (root + "/.deploy/journal.jsonl", root + "/shared"):
    try:
        left.append(open(path).read() if os.path.isfile(path) else os.listdir(path))
    except OSError:
        pass
if left:
    sys.exit("reached: %s" % left)
"""


@pytest.mark.skipif(landlock.abi() < 2, reason="this kernel offers no Landlock of ABI 2 or newer")
def test_a_build_reaches_neither_the_next_one_nor_the_state(fleet: Callable[..., Fleet]) -> None:
    """No environment of another build, no HOME that another had, no store, no journal, no shared/."""
    made = fleet("web-1", serve=False)
    made.project.tiny_closure(greeting("4.0", {"build-step.py": REACHES}))
    made.project.release("v1")
    made.deploy("v1")
    made.project.tiny_closure(greeting("4.1", {"build-step.py": REACHES + "sys.exit('ran')"}))
    made.project.release("v2")
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    assert "ran" in ended.problems  # it is this that is run
    assert "reached" not in ended.text


@pytest.fixture
def sudoers(fleet: Callable[..., Fleet]) -> Iterator[Callable[[Fleet], None]]:
    """Let the deploy user become the app's user by ``sudo -n``, as a real host's sudoers file would."""
    written: list[Path] = []

    def write(made: Fleet) -> None:
        accounts = made.hosts[0].ground.accounts
        path = Path("/etc/sudoers.d") / accounts.deploy.name
        path.write_text(f"{accounts.deploy.name} ALL=({accounts.app.name}) NOPASSWD:SETENV: ALL\n")
        path.chmod(0o440)
        written.append(path)

    yield write
    for path in written:
        path.unlink()


def test_a_hook_as_the_app_by_sudo(fleet: Callable[..., Fleet], sudoers: Callable[[Fleet], None]) -> None:
    """Without a rule it fails at once and by name; with one it runs as the app, with the hook's environment."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    if not host.ground.accounts.are_created or not shutil.which("sudo"):
        pytest.skip("a second user and sudo are needed: run as root, install sudo")
    note = 'echo "$(id -un) $DEPLOY_TAG $GREETING" > $DEPLOY_ROOT/shared/data/by-the-app'
    app = host.ground.accounts.app.name
    made.project.settings(hooks={"before_activate": {"run": note, "user": app}}, environment={"GREETING": "good day"})
    made.project.release("v1")
    refused = made.fab("deploy:v1")
    assert refused.code == 1, refused.text
    assert "sudo: a password is required" in refused.problems
    assert host.current is None
    sudoers(made)
    made.deploy("v1")
    written = host.root / "shared/data/by-the-app"
    assert written.read_text() == f"{app} v1 good day\n"
    assert written.stat().st_uid == host.ground.accounts.app.uid
