"""Bad input: refused with the reason and the next command, before anything is changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet, is_whole
from tests.hosts.openssh import ADDRESS, keygen
from tests.hosts.projects import TINYBUILD, sdist

pytestmark = pytest.mark.hosts


def untouched(made: Fleet) -> bool:
    """No host was even connected to."""
    return all(host.logins == 0 for host in made.hosts)


GIT_TAKES = ("$(touch${IFS}pwned)", "`id`", "a;b", "current", "v\u04351")
GIT_REFUSES = ("v9", "-rf", "../x", "HEAD", "x" * 256)


def test_line_34_hostile_and_unknown_tags(fleet: Callable[..., Fleet]) -> None:
    """Whatever git would accept: a name outside the one rule, or one that is no tag, is exit 2 and contacts nobody."""
    made = fleet("web-1", serve=False)
    made.project.release("v1")
    for tag in GIT_TAKES:
        made.project.git("update-ref", f"refs/tags/{tag}", "HEAD")
    for tag in (*GIT_TAKES, *GIT_REFUSES):
        for verb in ("deploy", "rollback") if tag != "v9" else ("deploy",):
            ended = made.fab(f"{verb}:{tag}")
            assert ended.code == 2, f"{verb}:{tag}: {ended.text}"
            assert "Traceback" not in ended.text
    assert untouched(made)
    assert not list(made.folder.rglob("pwned"))


def test_line_36_archives_missing_altered_and_extra(fleet: Callable[..., Fleet]) -> None:
    """All three are told at once, by file, from the tag's own content; exit 2; no host contacted."""
    made = fleet("web-1", serve=False)
    vendor = made.project.folder / "vendor"
    (vendor / "tinylib-1.0.tar.gz").unlink()
    altered = bytearray((vendor / "greeting-1.0.tar.gz").read_bytes())
    altered[-1] ^= 1
    (vendor / "greeting-1.0.tar.gz").write_bytes(altered)
    (vendor / "stray-1.0.tar.gz").write_bytes(b"")
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == 2
    for words in (
        "tinylib-1.0.tar.gz: missing",
        "greeting-1.0.tar.gz: its bytes",
        "stray-1.0.tar.gz: no lock names it",
    ):
        assert words in ended.text
    assert untouched(made)


def test_settings_with_several_mistakes(fleet: Callable[..., Fleet]) -> None:
    """Every mistake of both scopes is told in one go, with what was meant; exit 2."""
    made = fleet("web-1", serve=False)
    made.project.release("v1")
    made.configure(keeep=3, per_host={"web-1": {"prot": 22, "health": {"ulr": "http://x/"}}})
    ended = made.fab("deploy:v1")
    assert ended.code == 2
    for words in ("keep", "port", "url"):
        assert words in ended.text
    assert untouched(made)


def test_line_30_a_tag_that_was_moved_after_its_release(fleet: Callable[..., Fleet]) -> None:
    """The same tag on another commit is refused, and both commits are named."""
    made = fleet("web-1")
    first = made.project.release("v1")
    made.deploy("v1")
    made.project.write("VERSION", "other\n")
    made.project.git("commit", "-qam", "other")
    made.project.git("tag", "-f", "-a", "v1", "-m", "moved")
    ended = made.fab("deploy:v1")
    assert ended.code == 1
    assert first[:12] in ended.problems
    assert made.project.git("rev-parse", "HEAD")[:12] in ended.problems
    assert made.live() == ["v1"]


def test_line_12_a_host_that_is_down(fleet: Callable[..., Fleet]) -> None:
    """Every unreachable host is listed before any host is touched; exit 1; status goes on with the others, exit 4."""
    made = fleet("web-1", "web-2", "web-3")
    made.project.release("v1")
    made.deploy("v1")
    made.project.release("v2")
    for host in made.hosts[1:]:
        host.stop()
    records = len(made.hosts[0].journal)
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    assert ended.outcomes == {"web-1": "unchanged", "web-2": "unreachable", "web-3": "unreachable"}
    assert ended.problems.count("connect: cannot connect to") == 2
    assert len(made.hosts[0].journal) == records
    status = made.fab("status")
    assert status.code == 4
    assert [row["reachable"] for row in status.document["hosts"]] == [True, False, False]
    assert made.live() == ["v1"] * 3


def test_line_11_unknown_and_changed_host_keys(fleet: Callable[..., Fleet]) -> None:
    """An unknown key is refused with its fingerprint, a changed one with a warning; both hosts are listed."""
    made = fleet("web-1", "web-2", serve=False)
    made.project.release("v1")
    keygen(made.folder / "other")
    changed = f"[{ADDRESS}]:{made.hosts[1].port} {(made.folder / 'other.pub').read_text()}"
    made.known_hosts.write_text(changed)
    ended = made.fab("deploy:v1")
    assert ended.code == 1, ended.text
    assert set(ended.outcomes.values()) == {"unreachable"}
    assert "is not known: ssh-ed25519 SHA256:" in ended.problems
    assert "has CHANGED" in ended.problems
    assert f"ssh-keyscan -p {made.hosts[0].port}" in ended.problems
    assert untouched(made)


def test_known_hosts_with_lines_that_cannot_be_read(fleet: Callable[..., Fleet]) -> None:
    """One unreadable line does not lose the rest; ``@revoked`` refuses a key even where it is listed as well."""
    made = fleet("web-1", "web-2", serve=False)
    made.project.release("v1")
    good = made.known_hosts.read_text()
    authority = f"@cert-authority * {(made.hosts[0].directory / 'hostkey.pub').read_text()}"
    made.known_hosts.write_text("what is this\nhost ssh-rsa AAAA!\n\n# a comment\n" + authority + good)
    made.deploy("v1")
    revoked = f"@revoked * {(made.hosts[1].directory / 'hostkey.pub').read_text()}"
    made.known_hosts.write_text(good + revoked)
    ended = made.fab("check")
    assert ended.code == 1, ended.text
    assert ended.outcomes["web-2"] == "unreachable"
    assert ended.outcomes["web-1"] != "unreachable"


def test_line_24_python_missing_and_of_another_version(fleet: Callable[..., Fleet]) -> None:
    """No such interpreter, or another minor version than the lock's: found in preflight, named with both versions."""
    made = fleet("web-1", "web-2", serve=False)
    made.project.release("v1")
    made.configure(per_host={"web-1": {"python": "python3.99"}})
    ended = made.fab("deploy:v1")
    assert ended.code == 1, ended.text
    assert "web-1: connect: python is not there (exit status 127)" in ended.problems
    made.configure()
    other = "3.12" if made.project.version != "3.12" else "3.13"
    made.project.version = other
    made.project.tiny_closure()
    made.project.settings(python=other)
    made.project.release("v2")
    ended = made.fab("deploy:v2")
    assert ended.code == 1, ended.text
    ground = made.hosts[0].ground
    assert ended.problems.count(f"the host runs Python {ground.version} on") == 2
    assert f"locked for python{other}-" in ended.problems
    assert all(host.journal == [] for host in made.hosts)


@pytest.mark.parametrize("what", ["folder", "foreign", "dangling"])
def test_line_20_current_is_not_ours(fleet: Callable[..., Fleet], what: str) -> None:
    """A real directory, or a link to somewhere else, at ``current`` is refused before any change and left as it is."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    current = host.root / "current"
    if what == "folder":
        current.mkdir()
        (current / "precious").touch()
    else:
        current.symlink_to("/etc" if what == "foreign" else "nowhere")
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == 1, ended.text
    assert "current" in ended.problems
    assert "fab check" in ended.problems
    assert (current / "precious").exists() if what == "folder" else current.is_symlink()
    assert host.journal == []


def test_a_root_that_is_not_there(fleet: Callable[..., Fleet]) -> None:
    """``fab check`` prints the exact command that makes ROOT; deploy refuses; nothing is made."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    nowhere = host.directory / "other root"
    made.configure(per_host={"web-1": {"root": str(nowhere)}})
    made.project.release("v1")
    checked = made.fab("check")
    assert checked.code == 1
    assert f"install -d -o {host.account.name}" in checked.text
    assert made.fab("deploy:v1").code == 1
    assert not nowhere.exists()


@pytest.mark.parametrize("name", ["with space", "ünïcode", "long" * 30])
def test_line_25_roots_with_unusual_names(fleet: Callable[..., Fleet], name: str) -> None:
    """Spaces, other alphabets and long names of ROOT work, scripts of the virtualenv included."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.configure(per_host={"web-1": {"root": str(host.directory / name)}})
    host.root.rename(host.directory / name)
    made.project.release("v1")
    made.deploy("v1")
    made.deploy("v1")
    greet = host.directory / name / "current/venv/bin/greet"
    done = subprocess.run([greet], capture_output=True, text=True, check=True, **host.account.as_child)
    assert done.stdout == "hello, world\n"


def test_line_54_rollback_to_what_is_not_there(fleet: Callable[..., Fleet]) -> None:
    """An unknown tag is refused with the tags that are there; an incomplete release is none of them."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    half = host.root / "releases/v5-0123abcd"
    half.mkdir()
    if os.geteuid() == 0:
        os.chown(half, host.account.uid, host.account.gid)
    for tag in ("v5", "v7"):
        ended = made.fab(f"rollback:{tag}")
        assert ended.code == 1
        assert f"{tag} is not on this host; here are: v1" in ended.problems
    assert made.live() == ["v1"]
    is_whole(host)


def test_what_a_build_needs_is_missing(fleet: Callable[..., Fleet]) -> None:
    """A package whose build calls ``nc-config``: named before anything is sent, with the package that brings it."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    netcdf4 = sdist("netcdf4", "1.7", build=["tinybuild"], files={"netcdf4.py": ""})
    made.project.closure("netcdf4\n", [netcdf4], {"netcdf4": [TINYBUILD]})
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == 1, ended.text
    assert "web-1: preflight: needs nc-config (Debian: libnetcdf-dev) to build netcdf4 1.7" in ended.problems
    assert not list(host.root.glob("releases/*"))
    assert ended.sent("web-1") == 0


def test_line_15_one_machine_under_two_names(fleet: Callable[..., Fleet]) -> None:
    """An address by name and by number: settings cannot know, the lock does; nothing is changed."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.project.hosts(
        {"web-1": host.settings(), "web-2": {**host.settings(), "address": "localhost"}},
        known_hosts=str(made.known_hosts),
        identity=str(host.ground.identity),
    )
    key = host.known_hosts_line.partition(" ")[2]
    made.known_hosts.write_text(f"{host.known_hosts_line}\n[localhost]:{host.port} {key}")
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == 5, ended.text
    assert "the same machine and root are listed under two names" in ended.problems
    assert host.current is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_line_21_releases_on_another_filesystem(fleet: Callable[..., Fleet]) -> None:
    """A rename across filesystems is none: refused before any change, with both named."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    releases = host.root / "releases"
    releases.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={host.account.uid},mode=755", "tmpfs", releases], check=True)
    try:
        made.project.release("v1")
        ended = made.fab("deploy:v1")
        assert ended.code == 1, ended.text
        assert f"{releases} is on another filesystem than {host.root}" in ended.problems
        assert host.journal == []
    finally:
        subprocess.run(["umount", releases], check=True)
