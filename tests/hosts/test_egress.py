"""The egress trap: a server that counts connections while everything hostile tries to get out: zero."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable

import pytest

from deploy.onhost import landlock
from tests.hosts.fleet import Fleet
from tests.hosts.projects import BACKEND, greeting, sdist, wheel
from tests.hosts.trap import Trap, hostile

pytestmark = pytest.mark.hosts


OPENS = """
import socket, subprocess, sys
def attempt(family, kind, address):
    with socket.socket(family, kind) as one:
        one.settimeout(2)
        one.connect((address, {port}))
        one.send(b"x")
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        {body}
code = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, start_new_session=True)
if child.returncode == 0:
    sys.exit("a child of its own got out")
"""
SWALLOWS = "try: attempt(family, kind, address)\n        except OSError: pass"


def test_line_40_hostile_environment_and_configuration(fleet: Callable[..., Fleet], trap: Trap) -> None:
    """PIP_* and proxies over SSH and on the control machine, pip.conf and sitecustomize in HOME: nothing gets out."""
    setenv = "SetEnv " + " ".join(f"{name}={value}" for name, value in hostile(trap).items())
    made = fleet("web-1", serve=False, extra=[setenv])
    (host,) = made.hosts
    home = host.account.home
    if not host.ground.accounts.are_created:
        pytest.skip("pip.conf belongs into the HOME of a user of its own, and making one needs root")
    configuration = f"[global]\nindex-url = {trap.url}/simple\nextra-index-url = {trap.url}/x\nno-index = false\n"
    spy = home / "spy"
    for path in (".config/pip/pip.conf", ".pip/pip.conf", "pip.conf"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(configuration)
    (home / ".pydistutils.cfg").write_text(f"[easy_install]\nindex_url = {trap.url}/simple\n")
    custom = home / f".local/lib/python{host.ground.version}/site-packages"
    custom.mkdir(parents=True)
    (custom / "usercustomize.py").write_text(f"open({str(spy)!r}, 'w')\n")
    made.project.tiny_closure(greeting("2.0"))
    made.project.release("v1")
    try:
        ended = made.fab("deploy:v1", environment=hostile(trap))
    finally:
        for path in sorted(home.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert ended.code == 0, ended.text
    assert "build" in ended.steps("web-1")
    assert trap.caught == []
    assert not spy.exists()


@pytest.mark.parametrize("swallows", [True, False])
def test_line_37_a_build_that_opens_sockets(fleet: Callable[..., Fleet], trap: Trap, *, swallows: bool) -> None:
    """A build that calls home fails with the reason, or, swallowing the error, is built without having got out."""
    made = fleet("web-1", serve=False)
    body = SWALLOWS if swallows else "attempt(family, kind, address)"
    step = OPENS.format(port=trap.port, body=body)
    made.project.tiny_closure(greeting("2.0", {"build-step.py": step}))
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == (0 if swallows else 1), ended.text
    if not swallows:
        assert "greeting 2.0 does not build" in ended.problems
        assert "Network is unreachable" in ended.problems
    else:
        (told,) = [one for one in ended.told("web-1", "seal") if one["state"] == "warned"]
        assert "greeting 2.0 tried to reach the network, and was refused" in told["detail"]
        (host,) = made.hosts
        marked = json.loads((host.root / "current/release.json").read_text())
        assert list(marked["facts"]["attempts"]) == ["greeting-2.0-py3-none-any.whl"]
    assert trap.caught == []


LOOKS_AROUND = """
import pathlib
def attempt(what):
    try: return what()
    except OSError as error: return type(error).__name__
seen = [attempt(pathlib.Path(path).read_text) for path in {secrets!r}]
seen.append(attempt(lambda: pathlib.Path({mark!r}).write_text("x")))
raise SystemExit("saw: %r" % seen)
"""


@pytest.mark.skipif(landlock.abi() < 2, reason="this kernel offers no Landlock of ABI 2 or newer")
def test_line_39_a_build_that_looks_around(fleet: Callable[..., Fleet]) -> None:
    """Keys in the deploy user's HOME, shared/ and the journal: a build can neither read nor write them."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.project.release("v0")
    made.deploy("v0")
    key = host.account.home / "key"
    key.write_text("private")
    secret = host.root / "shared" / "secret"
    secret.write_text("private")
    for path in (key, secret):
        os.chown(path, host.account.uid, host.account.gid)
    secrets = [str(key), str(secret), str(host.root / ".deploy/journal.jsonl")]
    looks = LOOKS_AROUND.format(secrets=secrets, mark=str(host.root / "shared/mark"))
    made.project.tiny_closure(greeting("2.0", {"build-step.py": looks}))
    made.project.release("v1")
    try:
        ended = made.fab("deploy:v1")
    finally:
        key.unlink()
    assert ended.code == 1
    assert f"saw: {['PermissionError'] * 4!r}" in ended.problems
    assert not (host.root / "shared/mark").exists()


HIDDEN = BACKEND + "\n\ndef get_requires_for_build_wheel(config_settings=None):\n    return ['hidden-backend-part']\n"


def test_a_build_requirement_that_nobody_locked(fleet: Callable[..., Fleet], trap: Trap) -> None:
    """What only the running backend asks for, and the lock lacks, stops the build by name; no index is asked."""
    made = fleet("web-1", serve=False, extra=["SetEnv " + f"PIP_INDEX_URL={trap.url}/simple PIP_NO_INDEX=0"])
    made.project.tiny_closure(sdist("greeting", "2.0", ["tinylib"], files={"tinybuild.py": HIDDEN, "greeting.py": ""}))
    made.project.release("v1")
    ended = made.fab("deploy:v1", environment=hostile(trap))
    assert trap.caught == []
    if ended.code == 0:
        pytest.xfail("pip --no-build-isolation --check-build-dependencies looks at static build requirements only")
    assert ended.code == 1, ended.text
    assert "hidden-backend-part" in ended.problems


def test_a_static_build_requirement_that_is_not_vendored(fleet: Callable[..., Fleet], trap: Trap) -> None:
    """It is refused on the control machine, by the name of who wants it, before any host knows."""
    made = fleet("web-1", serve=False)
    made.project.tiny_closure(sdist("greeting", "2.0", ["tinylib"], build=["tinybuild", "hidden-part"]))
    made.project.release("v1")
    ended = made.fab("deploy:v1", environment=hostile(trap))
    assert ended.code == 2, ended.text
    assert "hidden-part" in ended.text
    assert "greeting" in ended.text
    assert made.hosts[0].logins == 0
    assert trap.caught == []


def test_a_vendored_wheel_with_an_unmet_requirement(fleet: Callable[..., Fleet], trap: Trap) -> None:
    """A run-time requirement that is not vendored is refused on the control machine, naming the chain."""
    made = fleet("web-1", serve=False)
    hungry = wheel("greeting", "2.0", {"greeting.py": ""}, ["not-vendored>=1"])
    made.project.closure("greeting\n", [hungry], {})
    made.project.release("v1")
    ended = made.fab("deploy:v1", environment=hostile(trap))
    assert ended.code == 2, ended.text
    assert "not-vendored" in ended.text
    assert "greeting" in ended.text
    assert made.hosts[0].logins == 0
    assert trap.caught == []


LOOK_ELSEWHERE = (
    "-i {url}/simple",
    "--extra-index-url {url}/simple",
    "--find-links {url}/links",
    "--index-url={url}/simple",
    "hidden @ {url}/hidden-1.0.tar.gz",
    "hidden @ git+{url}/hidden.git",
    "{url}/hidden-1.0.tar.gz",
    "-e {url}/hidden",
    "-r {url}/more.txt",
    "-c {url}/constraints.txt",
)


def test_requirement_lines_that_look_elsewhere(fleet: Callable[..., Fleet], trap: Trap) -> None:
    """Every option, URL or VCS line, in the .in file and in the pins, is named by file and line; exit 2; no look."""
    made = fleet("web-1", serve=False)
    numbers: dict[str, range] = {}
    for file in ("app.in", "app.txt"):
        path = made.project.folder / "requirements" / file
        lines = path.read_text().splitlines()
        numbers[file] = range(len(lines) + 1, len(lines) + 1 + len(LOOK_ELSEWHERE))
        path.write_text("\n".join([*lines, *(line.format(url=trap.url) for line in LOOK_ELSEWHERE)]) + "\n")
    made.project.release("v1")
    ended = made.fab("deploy:v1", environment=hostile(trap))
    assert ended.code == 2, ended.text
    for file, where in numbers.items():
        for number in where:
            assert f"requirements/{file}:{number}:" in ended.text, ended.text
    assert made.hosts[0].logins == 0
    assert trap.caught == []


def test_line_59_a_store_that_was_swapped(fleet: Callable[..., Fleet]) -> None:
    """An archive altered in the host's store is noticed before it is used, dropped, and sent again."""
    import hashlib

    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    package = greeting("2.0")
    made.project.tiny_closure(package)
    made.project.release("v1")
    digest = hashlib.sha256(package[1]).hexdigest()
    kept = host.root / ".deploy/store/files" / digest[:2] / digest
    kept.parent.mkdir(exist_ok=True, mode=0o700)
    kept.write_bytes(b"e" * len(package[1]))
    if os.geteuid() == 0:
        for path in (kept, kept.parent):
            os.chown(path, host.account.uid, host.account.gid)
    first = made.fab("deploy:v1")
    assert first.code == 1, first.text
    assert "was altered on this host" in first.problems
    with contextlib.suppress(FileNotFoundError):
        assert kept.read_bytes() == package[1]
    made.deploy("v1")
