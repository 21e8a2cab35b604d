"""Which release of a host a rollback goes to, and what it says where it goes nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.fleet.contact import Run
from deploy.fleet.host import Host, HostFailed
from deploy.fleet.preflight import rollback_target

LIVE, GOOD, BAD, NEVER = "v9-00000000", "v2-11111111", "v2-22222222", "v3-33333333"


def row(release: str, state: str = "RETIRED", *, seq: int = 1, live_seq: int = 0, bad: bool = False) -> dict[str, Any]:
    """One release as a host tells it."""
    return {
        "release": release, "tag": release[:-9], "state": state, "seq": seq, "live_seq": live_seq, "bad": bad,
    }  # fmt: skip


@pytest.fixture
def host(fleet: Any) -> Host:
    """A host with a live release, two of one tag, and one that was never live."""
    (settings,) = fleet.stage(("web-1",)).hosts
    run = Run("1", "tester", "rollback", "test", "--stage test --hosts web-1", b"", "")
    rows = [
        row(BAD, seq=9, bad=True),
        row(LIVE, "ACTIVE", seq=8, live_seq=8),
        row(GOOD, seq=2, live_seq=2),
        row(NEVER, "STAGED", seq=5),
    ]
    return Host(settings, run, lambda _: None, facts={"releases": rows, "current": LIVE, "rollback_candidates": [GOOD]})


def test_the_good_one_of_a_tag_is_chosen(host: Host) -> None:
    """A restaged tag that was returned is newer, and marked bad: it is taken only where nothing else has the tag."""
    assert rollback_target(host, "v2") == GOOD
    host.facts["releases"] = [one for one in host.facts["releases"] if one["release"] != GOOD]
    assert rollback_target(host, "v2") == BAD


def test_what_was_never_live_is_no_earlier_release(host: Host) -> None:
    """What a deploy runs before it, a migration say, did not run for it."""
    with pytest.raises(HostFailed) as failed:
        rollback_target(host, "v3")
    assert "was staged here and never live" in failed.value.outcome.cause
    assert failed.value.outcome.next_step == "fab deploy:v3 --stage test --hosts web-1"


def test_an_unknown_tag_names_what_is_there_and_the_nearest(host: Host) -> None:
    """And keeps the hosts it was narrowed to."""
    with pytest.raises(HostFailed) as failed:
        rollback_target(host, "v22")
    assert failed.value.outcome.cause == "v22 is not on this host; did you mean 'v2'?; here are: v2, v3, v9"
    assert "fab rollback:TAG --stage test --hosts web-1" in failed.value.outcome.next_step
