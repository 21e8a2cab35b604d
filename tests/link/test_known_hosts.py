"""Host keys: loaded line by line, whatever one line says; revoked ones refused; unknown ones never added."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest
from paramiko.hostkeys import HostKeys

from deploy.link.known_hosts import RefusedKey, file_that_knows, load_known_hosts

ONE, TWO = (paramiko.ECDSAKey.generate() for _ in range(2))


def line(names: str, key: paramiko.PKey = ONE, before: str = "") -> str:
    """One line of known_hosts, sshd(8)."""
    return f"{before}{names} {key.get_name()} {key.get_base64()}"


def load(path: Path, *lines: str) -> paramiko.SSHClient:
    """A client that has read them."""
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    client = paramiko.SSHClient()
    load_known_hosts(client, [str(path)])
    return client


def knows(client: paramiko.SSHClient, name: str, key: paramiko.PKey = ONE) -> bool:
    """Whether the client would take this key from this host."""
    return client.get_host_keys().check(name, key)


BAD = [
    "@cert-authority *.example.org ssh-rsa AAAAB3NzaC1yc2E=",
    "web-9 ssh-rsa not-base64!",
    "web-9 ssh-rsa AAAA",
    "web-9",
    "web-9 ssh-unheard-of AAAAC3NzaC1lZDI1NTE5AAAAIA==",
    "@unknown-marker x y z",
    "|1|broken|hash ecdsa-sha2-nistp256 AAAA",
    "\udcff\udcfe binary",
    "# a comment",
    "",
]


@pytest.mark.parametrize("bad", BAD)
def test_a_line_that_cannot_be_read_does_not_lose_the_others(tmp_path: Path, bad: str) -> None:
    """Paramiko's own loader gives up on the whole file at the first one."""
    client = load(tmp_path / "known_hosts", line("web-1"), bad, line("web-2", TWO))
    assert knows(client, "web-1")
    assert knows(client, "web-2", TWO)
    assert not knows(client, "web-9")


def test_another_key_of_a_known_host_is_not_taken(tmp_path: Path) -> None:
    """That is what a changed key is."""
    client = load(tmp_path / "known_hosts", line("web-1"))
    assert not knows(client, "web-1", TWO)


def test_several_names_ports_and_hashed_names(tmp_path: Path) -> None:
    """As ssh writes them: lists, `[host]:port`, HashKnownHosts."""
    hashed = HostKeys.hash_host("web-3")
    client = load(tmp_path / "known_hosts", line("web-1,10.0.0.1,[web-2]:2222"), line(hashed, TWO))
    assert all(knows(client, name) for name in ("web-1", "10.0.0.1", "[web-2]:2222"))
    assert not knows(client, "web-2")
    assert knows(client, "web-3", TWO)
    assert not knows(client, "web-4", TWO)


@pytest.mark.parametrize("order", [1, -1])
def test_a_revoked_key_is_refused_wherever_else_it_is_listed(tmp_path: Path, order: int) -> None:
    """For every host, before or after the line that lists it."""
    lines = [line("web-1"), line("*", ONE, "@revoked "), line("web-2", TWO)]
    client = load(tmp_path / "known_hosts", *lines[::order])
    assert not knows(client, "web-1")
    assert knows(client, "web-2", TWO)


def test_a_revocation_in_one_file_counts_for_all(tmp_path: Path) -> None:
    """The system's file may revoke what a user's file still lists."""
    (tmp_path / "mine").write_text(line("web-1") + "\n")
    (tmp_path / "system").write_text(line("*", ONE, "@revoked ") + "\n")
    client = paramiko.SSHClient()
    load_known_hosts(client, [str(tmp_path / "mine"), str(tmp_path / "system")])
    assert not knows(client, "web-1")


def test_a_certificate_authority_is_no_host_key(tmp_path: Path) -> None:
    """Paramiko cannot check certificates; taking the authority's key for a host's would trust the wrong thing."""
    client = load(tmp_path / "known_hosts", line("web-1", ONE, "@cert-authority "))
    assert not knows(client, "web-1")


def test_a_pattern_is_no_host(tmp_path: Path) -> None:
    """Paramiko matches no wildcards: such a line vouches for nobody, neither does one that leaves names out."""
    client = load(tmp_path / "known_hosts", line("*.example.org,!db.example.org"), line("web-1", TWO))
    assert not knows(client, "web-9.example.org")
    assert not knows(client, "db.example.org")
    assert knows(client, "web-1", TWO)


def test_the_file_that_knows_a_host_is_found(tmp_path: Path) -> None:
    """The first of several, hashed names included; revoked keys are known of nobody."""
    files = [str(tmp_path / name) for name in ("absent", "revoked", "hashed", "plain")]
    (tmp_path / "revoked").write_text(line("web-1") + "\n" + line("*", ONE, "@revoked ") + "\n")
    (tmp_path / "hashed").write_text(line(HostKeys.hash_host("web-1"), TWO) + "\n")
    (tmp_path / "plain").write_text(line("web-1") + "\n")
    assert file_that_knows("web-1", files) == files[2]
    assert file_that_knows("web-2", files) == ""


def test_a_missing_file_knows_nobody(tmp_path: Path) -> None:
    """And is no reason to accept anything."""
    client = paramiko.SSHClient()
    load_known_hosts(client, [str(tmp_path / "absent")])
    assert len(client.get_host_keys()) == 0


def test_an_unknown_key_is_refused_with_its_fingerprint_and_not_added(tmp_path: Path) -> None:
    """Fabric's default adds it without a word."""
    client = load(tmp_path / "known_hosts", line("web-1"))
    policy = client._policy  # type: ignore[attr-defined]
    with pytest.raises(RefusedKey) as caught:
        policy.missing_host_key(client, "web-2", TWO)
    assert TWO.fingerprint in str(caught.value)
    assert not knows(client, "web-2", TWO)
    assert (tmp_path / "known_hosts").read_text() == line("web-1") + "\n"
