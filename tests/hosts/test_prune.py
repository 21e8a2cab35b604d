"""What is deleted and what is kept: releases, and the store's content with the last release that needs it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet, is_whole
from tests.hosts.openssh import Host
from tests.hosts.projects import greeting

pytestmark = pytest.mark.hosts


def tags(host: Host) -> list[str]:
    """The tags that have a release on the host."""
    return sorted(path.name.rpartition("-")[0] for path in (host.root / "releases").iterdir())


def test_old_releases_go_with_what_only_they_needed(fleet: Callable[..., Fleet]) -> None:
    """With keep 2 the newest two stay and verify; files, wheels and environments of the others are gone."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.configure(keep=2)
    contents: dict[str, str] = {}
    for number in range(1, 5):
        contents[f"v{number}"] = hashlib.sha256(f"only v{number}\n".encode()).hexdigest()
        if number == 3:
            made.project.tiny_closure(greeting("2.0"))
        made.project.release(f"v{number}", **{"notes.txt": f"only v{number}\n"})
        made.deploy(f"v{number}")
    assert tags(host) == ["v3", "v4"]
    files = {path.name for path in (host.root / ".deploy/store/files").rglob("*") if path.is_file()}
    assert {tag for tag, digest in contents.items() if digest in files} == {"v3", "v4"}
    old = hashlib.sha256(greeting()[1]).hexdigest()
    assert old not in files
    assert not any(old in path.read_text() for path in host.root.glob(".deploy/store/wheels/*/wheel.json"))
    environments = [path for path in (host.root / ".deploy/store/envs").iterdir() if not path.name.startswith("tools-")]
    assert len(environments) == 1
    for tag in ("v3", "v4"):
        assert made.fab(f"verify:{tag}").code == 0
    assert made.fab("rollback:v3").code == 0
    is_whole(host)
    again = made.fab("deploy:v1")
    assert again.code == 0, again.text


@pytest.mark.parametrize("whose", ["deploy", "app"])
def test_line_46_a_release_that_somebody_runs_from_is_kept_and_named(fleet: Callable[..., Fleet], whose: str) -> None:
    """A process of an old release keeps it, also one that only its own user may look into; pid and program are told."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.configure(keep=1)
    made.project.release("v1")
    made.deploy("v1")
    account = host.account if whose == "deploy" else host.ground.accounts.app
    python = host.root / "current/venv/bin/python"
    worker = subprocess.Popen(
        [python, "-c", "import time; time.sleep(600)"],
        cwd=(host.root / "current/src").resolve(),
        **account.as_child,
    )
    try:
        for number in (2, 3, 4):
            made.project.release(f"v{number}")
            ended = made.deploy(f"v{number}")
        assert "v1" in tags(host)
        told = [record["text"] for record in ended.records if "still in use" in record.get("text", "")]
        assert any(f"in use by pid {worker.pid} (python" in text and account.name in text for text in told), told
        pruned = made.fab("prune")
        assert pruned.code == 0
        (told,) = [line for line in pruned.end["hosts"][0]["detail"].splitlines() if line.startswith("kept v1-")]
        assert f"in use by pid {worker.pid} (python" in told
    finally:
        worker.kill()
        worker.wait()
    assert made.fab("prune").code == 0
    assert tags(host) == ["v3", "v4"]


def test_bad_releases_do_not_crowd_out_good_ones(fleet: Callable[..., Fleet]) -> None:
    """Releases that never became healthy do not count as kept ones: the good one to return to is still there."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.configure(keep=2)
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    for tag in ("v3", "v4", "v5"):
        made.project.release(tag, needs="flour")
        assert made.fab(f"deploy:{tag}").code == 3
    made.project.release("v6")
    told = made.deploy("v6").text
    assert {"v2", "v6"} <= set(tags(host))
    # The supervisor is another user's long-lived process: what it may still run from is kept, and named.
    assert all(tag not in tags(host) or f"{tag}-" in told for tag in ("v1", "v3", "v4"))
    assert made.fab("rollback").code == 0
    assert made.live() == ["v2"]
