"""``vendor.prove`` on real hosts: built there from nothing, beside what is live, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet, is_whole
from tests.hosts.openssh import Host
from tests.hosts.projects import greeting

pytestmark = [pytest.mark.hosts, pytest.mark.slow]


def left(host: Host) -> list[str]:
    """What lies in a host's ROOT for proof, but lock, journal and the program."""
    proof = host.root / ".deploy/prove"
    kept = {proof / ".deploy/journal.jsonl", proof / ".deploy/lock", *proof.glob(".deploy/bin/*")}
    return [str(path.relative_to(proof)) for path in proof.rglob("*") if path.is_file() and path not in kept]


def test_proof_on_hosts_leaves_what_is_live_alone(bare_fleet: Callable[..., Fleet]) -> None:
    """Every package is built though the host has its wheels; the live release stays whole, and no proof stays."""
    made = bare_fleet("web-1", "web-2")
    made.project.release("v1")
    made.deploy("v1")
    proven = made.fab("vendor.prove", "--stage", "test")
    assert proven.code == 0, proven.text
    for host in made.hosts:
        built = [r["detail"] for r in proven.records if r.get("host") == host.name and r.get("step") == "build"]
        assert {"tinybuild 1.0", "tinylib 1.0", "greeting 1.0"} <= set(built)
        assert (host.root / ".deploy/prove/.deploy/lock").exists()
        assert left(host) == []
        is_whole(host)
    assert made.live() == ["v1", "v1"]
    assert "nothing stays" in proven.end["verdict"]


def test_proof_that_fails_names_the_host_and_the_step(bare_fleet: Callable[..., Fleet]) -> None:
    """A closure that does not build is exit 1 with the package; what is live was not touched, and nothing stays."""
    made = bare_fleet("web-1")
    made.project.release("v1")
    made.deploy("v1")
    made.project.tiny_closure(greeting("2.0", {"build-step.py": "raise SystemExit('no such header')\n"}))
    failed = made.fab("test", "vendor.prove")
    assert failed.code == 1, failed.text
    assert "greeting" in failed.problems
    assert "what is live was not touched" in failed.text
    assert left(made.hosts[0]) == []
    assert made.live() == ["v1"]
