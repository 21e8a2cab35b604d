"""Owner, group and mode of every path below a ROOT, as docs/reference/host-layout.md says; and what the app may do."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.hosts.accounts import Account
from tests.hosts.fleet import Fleet
from tests.hosts.openssh import Host

pytestmark = pytest.mark.hosts

PAGE = Path(__file__).parents[2] / "docs/reference/host-layout.md"


class Rule(NamedTuple):
    """One row of the page's table."""

    path: str
    kind: str
    owner: str
    modes: tuple[str, ...]

    def fits(self, path: str) -> bool:
        """Whether this row speaks of the path: ``*`` is one name, ``**`` any number of them."""
        pattern = re.escape(self.path).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
        return re.fullmatch(pattern, path) is not None


def rules() -> list[Rule]:
    """The table, in its order: the first row that fits a path counts."""
    rows = re.findall(r"^\| `(\S+)` \| (\w+) \| (\w+:\w+) \| ([0-9a-z, ]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) > 15
    return [Rule(path, kind, owner, tuple(modes.split(", "))) for path, kind, owner, modes in rows]


def kind_of(mode: int) -> str:
    """File, folder or link."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")


def wrong_below(host: Host) -> list[str]:
    """Every path that is not as the table says, and every row that no path fits."""
    deploy, app = host.account, host.ground.accounts.app
    owners = {"deploy:app": (deploy.uid, app.gid), "deploy:deploy": (deploy.uid, deploy.gid)}
    table, used, wrong = rules(), set[str](), list[str]()
    for path in [host.root, *sorted(host.root.rglob("*"))]:
        name, about = str(path.relative_to(host.root)), path.lstat()
        rule = next((rule for rule in table if rule.fits(name)), None)
        if rule is None:
            wrong.append(f"{name}: no row of the table")
            continue
        used.add(rule.path)
        found = (kind_of(about.st_mode), (about.st_uid, about.st_gid), f"{stat.S_IMODE(about.st_mode):04o}")
        mode_fits = found[0] == "link" or found[2] in rule.modes
        if found[0] != rule.kind and (rule.kind != "any" or found[0] == "other"):
            wrong.append(f"{name}: {found}, not a {rule.kind}")
        elif rule.owner in owners and found[1] != owners[rule.owner]:
            wrong.append(f"{name}: {found}, not of {rule.owner}")
        elif not mode_fits and rule.modes != ("any",):
            wrong.append(f"{name}: {found}, not {rule.modes}")
    return wrong + [
        f"{rule.path}: in the table, and nowhere here"
        for rule in table
        if rule.path not in used and rule.modes != ("any",)
    ]


@pytest.fixture
def served(fleet: Callable[..., Fleet]) -> Fleet:
    """A host with two releases, whose ``prepare`` leaves modes that nobody may have."""
    made = fleet("web-1")
    (host,) = made.hosts
    if not host.ground.accounts.are_created:
        pytest.skip("two more users are needed, and making them needs root")
    loose = "umask 0; mkdir made; cp app.py made/loose; chmod 6777 made/loose; chmod 7777 made; ln -s loose made/link"
    made.project.settings(hooks={"prepare": loose})
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    return made


def test_every_path_is_as_the_page_says_and_the_app_writes_to_shared_alone(served: Fleet) -> None:
    """A whole ROOT compared with the table; then everything the app's user could try, as that user."""
    (host,) = served.hosts
    assert wrong_below(host) == []
    app = host.ground.accounts.app
    before = snapshot(host.root)
    tried = attempts(host, app, "app")
    written = {path for path, done in tried.items() if any(how in WRITES for how in done)}
    data = host.root / "shared/data"
    assert {path for path in written if Path(path) != data and data not in Path(path).parents} == set()
    assert str(data) in written
    private = [".deploy", ".deploy/journal.jsonl", ".deploy/lock", ".deploy/bin", ".deploy/links"]
    private += [".deploy/store", ".deploy/store/files", ".deploy/store/wheels", ".deploy/tmp"]
    assert [name for name in private if "read" in tried[str(host.root / name)]] == []
    assert "flock" not in tried[str(host.root / ".deploy/lock")]
    assert "read" in tried[str(host.root / "current/release.json")]
    assert snapshot(host.root) == before
    stranger = attempts(host, app, "stranger", user=54321, group=54321, extra_groups=[])
    assert {path for path, done in stranger.items() if done} == set()
    planted_in_shared(served, host, app)


WRITES = {"write", "unlink", "rename", "chmod", "utime", "make", "link", "xattr", "truncate"}
ATTEMPTS = """
import fcntl, json, os, sys
assert os.geteuid() != 0, "this test is worth nothing as root"
root, extra = sys.argv[1], sys.argv[2:]
paths, found = [root, *extra], {}
for folder, folders, files in os.walk(root):
    paths += [os.path.join(folder, name) for name in folders + files]
def attempt(path, how, what):
    try:
        what()
    except OSError:
        return
    found[path].append(how)
def opened(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK))
def flock(path):
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
def made(path):
    new = path + "/made-by-the-app"
    os.mkdir(new); os.rmdir(new)
def linked(path):
    new = path + "/linked-by-the-app"
    os.symlink("/", new); os.unlink(new)
def renamed(path):
    os.rename(path, path + ".was"); os.rename(path + ".was", path)
for path in dict.fromkeys(paths):
    found[path] = []
    attempt(path, "read", lambda: os.listdir(path) if os.path.isdir(path) else opened(path, os.O_RDONLY))
    attempt(path, "flock", lambda: os.path.isdir(path) or flock(path))
    if os.path.isdir(path) and not os.path.islink(path):
        attempt(path, "make", lambda: made(path))
        attempt(path, "link", lambda: linked(path))
    else:
        attempt(path, "write", lambda: opened(path, os.O_WRONLY | os.O_APPEND))
        attempt(path, "write", lambda: opened(path, os.O_RDWR))
    attempt(path, "xattr", lambda: os.setxattr(path, "user.app", b"x", follow_symlinks=False))
    if not os.path.islink(path):
        attempt(path, "chmod", lambda: os.chmod(path, 0o777))
    attempt(path, "utime", lambda: os.utime(path, (0, 0), follow_symlinks=False))
    attempt(path, "rename", lambda: renamed(path))
json.dump({path: [how for how in done if not (how == "flock" and os.path.isdir(path))] for path, done in found.items()},
          sys.stdout)
"""


def attempts(host: Host, account: Account, label: str, **as_child: Any) -> dict[str, list[str]]:
    """Everything a user can do to each path below ROOT, those it cannot list included."""
    every = [str(path) for path in host.root.rglob("*") if len(path.relative_to(host.root).parts) < 5]
    done = subprocess.run(
        [host.ground.python, "-I", "-c", ATTEMPTS, str(host.root), *every, str(host.root / "current/release.json")],
        cwd="/", capture_output=True, text=True, check=False, **(as_child or account.as_child),
    )  # fmt: skip
    assert done.returncode == 0, f"{label}: {done.stderr}"
    return json.loads(done.stdout)


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Inode, mode, owner, size and time of everything but what the app may write."""
    found: dict[str, tuple[int, ...]] = {}
    for path in root.rglob("*"):
        if path.relative_to(root).parts[:2] != ("shared", "data"):
            about = path.lstat()
            found[str(path)] = (
                about.st_ino,
                about.st_mode,
                about.st_uid,
                about.st_gid,
                about.st_size,
                about.st_mtime_ns,
            )
    return found


def planted_in_shared(made: Fleet, host: Host, app: Account) -> None:
    """FIFOs and links in the app's own folder neither hold up the next deploys nor lead them anywhere."""
    home = host.account.home
    (home / "private").mkdir(mode=0o700)
    os.chown(home / "private", host.account.uid, host.account.gid)
    plant = f"cd {host.root}/shared/data && mkfifo fifo && ln -s {home} home && ln -s {home}/private sub && ln -s / top"
    subprocess.run(["/bin/sh", "-c", plant], check=True, **app.as_child)
    made.project.release("v3")
    made.deploy("v3")
    made.project.settings(shared={"dirs": ["data/sub/deeper"]})
    made.project.release("v4")
    refused = made.fab("deploy:v4")
    assert refused.code == 1, refused.text
    assert "shared/data/sub/deeper: sub is a symbolic link" in refused.problems
    assert list((home / "private").iterdir()) == []
    assert stat.S_IMODE((home / "private").stat().st_mode) == 0o700
    assert made.fab("status").code == 0
    assert made.fab("rollback:v1").code == 0
    (home / "private").rmdir()
    wrong = [line for line in wrong_below(host) if not line.startswith("shared/data")]
    assert wrong == []


def test_root_made_as_check_says(fleet: Callable[..., Fleet]) -> None:
    """The command that ``fab check`` prints, run as root, makes a ROOT that has no problems and the page's modes."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    if not host.ground.accounts.are_created:
        pytest.skip("making ROOT as the check says needs root")
    subprocess.run(["rm", "-rf", str(host.root)], check=True)
    checked = made.fab("check")
    command = re.search(r"as root: (install -d -o \S+ -g APPGROUP -m 0750 '[^']+')", checked.text)
    assert command, checked.text
    group = host.ground.accounts.app.name
    subprocess.run(["/bin/sh", "-c", command.group(1).replace("APPGROUP", group)], check=True)
    assert made.fab("check").code == 0
    about = host.root.stat()
    assert (oct(stat.S_IMODE(about.st_mode)), about.st_uid, about.st_gid) == (
        "0o750", host.account.uid, host.ground.accounts.app.gid,
    )  # fmt: skip


def test_root_in_a_folder_of_somebody_else(fleet: Callable[..., Fleet]) -> None:
    """Whoever may rename ROOT could put another one in its place: named before anything is changed."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    if not host.ground.accounts.are_created:
        pytest.skip("a folder of another user is needed, and making one needs root")
    os.chown(host.directory, host.ground.accounts.app.uid, -1)
    made.project.release("v1")
    for command in ("check", "deploy:v1"):
        ended = made.fab(command)
        assert ended.code == 1, ended.text
        assert f"user {host.ground.accounts.app.name} may write in {host.directory}" in ended.text
        assert f"chown root '{host.directory}'" in ended.text
    assert host.current is None
