"""Operators and CI jobs on the same hosts over real SSH: who is at work, from where; freezes, pins, the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hosts.fleet import Fleet

pytestmark = pytest.mark.hosts

JOB = "https://github.com/shop/shop/actions/runs/77"
CI = {
    "GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "octocat", "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "shop/shop", "GITHUB_RUN_ID": "77",
}  # fmt: skip


def test_line_43_who_is_at_work_from_where_with_what(fleet: Callable[..., Fleet]) -> None:
    """A CI job deploys: whoever comes second reads its user, its job, its tag, and the address that it came from."""
    made = fleet("web-1", serve=False)
    flag = made.folder / "hold"
    flag.touch()
    made.project.settings(hooks={"prepare": f"while [ -e {flag} ]; do sleep 0.05; done"})
    made.project.release("v1")
    first = made.fab.start("deploy:v1", environment=CI)
    first.until(step="prepare", state="started")
    second = made.fab("rollback:v1", environment={"USER": "ann", "LOGNAME": "ann"})
    assert second.code == 5, second.text
    for word in ("octocat@", "runs deploy of v1", "from 127.0.0.1", JOB):
        assert word in second.problems
    lock = made.fab("status").document["hosts"][0]["lock"]
    assert (lock["by"].partition("@")[0], lock["from"], lock["job"], lock["tag"]) == ("octocat", "127.0.0.1", JOB, "v1")
    assert lock["held_s"] >= 0
    assert JOB in made.fab("status", json=False).out
    flag.unlink()
    assert first.wait().code == 0
    told = made.fab("log", "-n", "50").document["hosts"][0]["records"]
    assert {(one["by"].partition("@")[0], one["address"], one["job"]) for one in told} == {
        ("octocat", "127.0.0.1", JOB)
    }
    assert "deploy of v1 began" in made.fab("log", json=False).out


def test_a_freeze_and_a_pin_from_the_command_line(fleet: Callable[..., Fleet]) -> None:
    """`fab freeze`, `fab pin:TAG`, what status and releases show of them, and back."""
    made = fleet("web-1", "web-2", serve=False)
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    assert made.fab("pin:v1").code == 0
    row = next(one for one in made.fab("releases").document["hosts"][0]["releases"] if one["tag"] == "v1")
    assert "@" in row["pinned"]["by"]
    frozen = made.fab("freeze", "audit: ask Ann, not Bob", "--for", "2h")
    assert frozen.code == 0, frozen.text
    refused = made.fab("deploy:v1")
    assert refused.code == 5
    assert refused.outcomes == {"web-1": "frozen", "web-2": "frozen"}
    assert "audit: ask Ann, not Bob" in refused.problems
    assert "fab thaw" in refused.end["next_step"]
    shown = made.fab("status", json=False)
    assert shown.code == 0
    assert shown.out.splitlines()[1].startswith("web-1, web-2: frozen by ")
    freeze = made.fab("status").document["hosts"][0]["freeze"]
    assert freeze["until"].startswith("20")
    assert made.fab("rollback:v1").code == 0
    assert made.fab("thaw").code == 0
    assert made.fab("deploy:v2").code == 0
    assert made.fab("unpin:v1").code == 0
    told = made.fab("log", "-n", "100", json=False).out
    for word in ("pinned v1-", "frozen until 20", "deploy of v1 refused: frozen", "thawed", "unpinned v1-"):
        assert word in told
    assert all("web-1, web-2" in line for line in told.splitlines() if "thawed" in line)
