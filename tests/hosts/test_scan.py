"""``fab hosts.scan`` on real OpenSSH servers: fingerprints to compare, and known_hosts filled only with what is new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .fleet import Fleet
from .openssh import ADDRESS, keygen

pytestmark = pytest.mark.hosts


def states(answer: dict[str, Any]) -> dict[str, list[str]]:
    """The states of each host's keys."""
    return {host["host"]: [key["state"] for key in host["keys"]] for host in answer["hosts"]}


def test_from_unknown_hosts_to_a_deploy(fleet: Callable[..., Fleet]) -> None:
    """Line 11: shown, then written where asked; then all are known, nobody logged in, and a deploy goes through."""
    made = fleet("web-1", "web-2", serve=False)
    made.project.release("v1")
    made.known_hosts.unlink()
    shown = made.fab("hosts.scan")
    assert shown.code == 1
    assert states(shown.document) == {"web-1": ["new"], "web-2": ["new"]}
    assert not made.known_hosts.exists()
    text = made.fab("hosts.scan", json=False).out
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in text
    assert "next: fab hosts.scan --stage test --write" in text
    written = made.fab("hosts.scan", "--write")
    assert written.code == 0
    assert made.known_hosts.read_text().count("ssh-ed25519") == 2
    again = made.fab("hosts.scan", "--write")
    assert again.code == 0
    assert states(again.document) == {"web-1": ["known"], "web-2": ["known"]}
    assert made.known_hosts.read_text().count("ssh-ed25519") == 2
    assert [host.logins for host in made.hosts] == [0, 0]
    made.deploy("v1")


def test_a_changed_host_and_one_that_is_down_are_told_beside_a_new_one(fleet: Callable[..., Fleet]) -> None:
    """Line 11, line 12: exit 1, every host listed; the changed one keeps its line, the new one is written."""
    made = fleet("web-1", "web-2", "web-3", serve=False)
    first, second, third = made.hosts
    keygen(made.folder / "other")
    line = f"[{ADDRESS}]:{first.port} {(made.folder / 'other.pub').read_text()}"
    made.known_hosts.write_text(line)
    third.stop()
    ended = made.fab("hosts.scan", "--write", json=False)
    assert ended.code == 1, ended.text
    assert "web-1: it shows ANOTHER key" in ended.out
    assert f"ssh-keygen -R '[{ADDRESS}]:{first.port}' -f {made.known_hosts}" in ended.out
    assert "web-3: cannot connect" in ended.out
    assert made.known_hosts.read_text() == line + second.known_hosts_line.rsplit(" ", 1)[0] + "\n"
