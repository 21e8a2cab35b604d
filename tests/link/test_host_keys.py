"""The keys that a real sshd shows, held against known_hosts: known, new or changed, and what may be written."""

from __future__ import annotations

import getpass
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import paramiko
import pytest
from fabric import Config

from deploy.link import host_keys
from deploy.link.host_keys import Shown, judged, scan, write
from deploy.link.known_hosts import KnownHosts
from deploy.link.ssh import Address, connect

ED, EC, RSA = "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A known_hosts file that is not there yet."""
    return tmp_path / "known_hosts"


@pytest.fixture
def ask(server: Any, known: Path) -> Callable[..., Shown]:
    """Scan that one server."""
    address = replace(server.address(server.port), known_hosts=(str(known),))
    return lambda: scan([("web-1", address)])[0]


def states(shown: Shown) -> dict[str, str]:
    """The state of each type of key."""
    return {key.kind: key.state for key in shown.keys}


def test_every_key_is_shown_with_the_fingerprint_that_the_host_prints(ask: Callable[..., Shown], server: Any) -> None:
    """All types that sshd has, as `ssh-keygen -l` on the host says; nobody logs in."""
    before = (server.folder / "log").read_text().count("Accepted")
    shown = ask()
    assert states(shown) == {ED: "new", EC: "new", RSA: "new"}
    assert shown.name == f"[127.0.0.1]:{server.port}"
    for key, file in zip(shown.keys, ("hostkey", "hostkey_ecdsa", "hostkey_rsa"), strict=True):
        printed = subprocess.run(["ssh-keygen", "-lf", server.folder / file], capture_output=True, text=True).stdout
        assert printed.split()[1] == key.fingerprint
    assert (server.folder / "log").read_text().count("Accepted") == before


def test_what_is_written_lets_a_deploy_in(ask: Callable[..., Shown], server: Any, known: Path) -> None:
    """Keys are appended after whatever the file holds, once; then they are known, to us and to ssh."""
    known.write_text("# ours")
    assert write([ask()]) == [str(known)]
    assert known.read_text().startswith("# ours\n[127.0.0.1]:")
    shown = ask()
    assert set(states(shown).values()) == {"known"}
    assert write([shown]) == []
    connect(replace(server.address(server.port), known_hosts=(str(known),)), "true").close()


def test_another_type_of_a_known_host_may_be_added(ask: Callable[..., Shown], server: Any, known: Path) -> None:
    """The host has proven to be the known one by its other key."""
    known.write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'hostkey').with_suffix('.pub').read_text()}")
    shown = ask()
    assert states(shown) == {ED: "known", EC: "new", RSA: "new"}
    assert [key.kind for key in shown.new] == [EC, RSA]


def test_a_changed_key_is_never_written_over(ask: Callable[..., Shown], server: Any, known: Path) -> None:
    """Nor is anything else of such a host, new types included."""
    other = paramiko.ECDSAKey.generate()
    line = f"[127.0.0.1]:{server.port} {other.get_name()} {other.get_base64()}\n"
    known.write_text(line)
    shown = ask()
    assert states(shown) == dict.fromkeys((ED, EC, RSA), "CHANGED")
    assert shown.new == ()
    assert shown.known_in == str(known)
    assert write([shown]) == []
    assert known.read_text() == line


def test_a_revoked_key_is_named_and_its_host_left_out(ask: Callable[..., Shown], server: Any, known: Path) -> None:
    """Whoever shows it has a key that was given up."""
    known.write_text(f"@revoked * {(server.folder / 'hostkey.pub').read_text()}")
    shown = ask()
    assert states(shown) == {ED: "REVOKED", EC: "new", RSA: "new"}
    assert shown.new == ()


def test_a_type_that_nobody_knows_does_not_hide_a_changed_host() -> None:
    """Who is in between and has not the host's key would show one of another type: new is not the word for it."""
    real, other = paramiko.ECDSAKey.generate(), paramiko.RSAKey.generate(2048)
    file = KnownHosts([])
    file._load_line(f"web-1 {real.get_name()} {real.get_base64()}", 1)
    (found,) = judged([other], "web-1", file)
    assert found.state == "CHANGED"


def test_every_host_is_asked_whatever_becomes_of_the_others(server: Any, known: Path) -> None:
    """All at once; those that cannot be reached are listed with their reason."""
    good = replace(server.address(server.port), known_hosts=(str(known),))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    down = Address("127.0.0.1", port, connect_s=2, auth_s=2)
    found = scan([("web-1", good), ("web-2", down), ("web-3", Address("a" * 64 + ".example")), ("web-4", good)])
    assert [one.host for one in found] == ["web-1", "web-2", "web-3", "web-4"]
    assert [bool(one.error) for one in found] == [False, True, True, False]
    assert "cannot connect to 127.0.0.1" in found[1].error


def jumping(server: Any) -> Config:
    """Fabric's configuration with an ssh_config that reaches ``localhost`` through the server itself."""
    config = paramiko.SSHConfig()
    jump = f"{getpass.getuser()}@127.0.0.1:{server.port}"
    identity = f"IdentityFile {server.folder / 'id'}"
    config.parse(StringIO(f"Host localhost\n    ProxyJump {jump}\nHost 127.0.0.1\n    {identity}\n"))
    return Config(ssh_config=config)


def test_hosts_behind_a_gateway_are_asked_through_it(server: Any, known: Path) -> None:
    """The gateway's own key must be known: somebody logs in there."""
    behind = Address("localhost", server.port, known_hosts=(str(known),))
    (found,) = scan([("web-1", behind)], jumping(server))
    assert "the host key of [127.0.0.1]" in found.error
    known.write_text(f"[127.0.0.1]:{server.port} {(server.folder / 'hostkey.pub').read_text()}")
    (found,) = scan([("web-1", behind)], jumping(server))
    assert found.error == ""
    assert found.name == f"[localhost]:{server.port}"
    assert states(found) == {ED: "new", EC: "new", RSA: "new"}


def test_a_host_of_endless_keys_does_not_keep_us(ask: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three keys are shown here, and two are enough for whoever has no more patience."""
    monkeypatch.setattr(host_keys, "MOST_KEYS", 2)
    assert len(ask().keys) == 2
