"""A line lost after the switch: the host settles by itself, the run asks again and never guesses, a late one is fenced.

Lines here are cut by the control side, so that the host sees the end of its input.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.errors import ExitCode
from deploy.events import HostStep
from deploy.fleet import preflight
from deploy.fleet.host import HostFailed
from deploy.link.pipe import LinkLost
from deploy.settings import Deadlines
from deploy.wire.manifest import TreeFile
from deploy.wire.names import Sha256
from tests.fleet.conftest import Bundle

Make = Callable[..., Any]
Words = Callable[[Any], dict[str, str]]
AFTER_THE_SWITCH = [("switch", "done"), ("restart", "done"), ("answer", "activate"), ("answer", "confirm")]


def gone(host: str) -> None:
    """The host cannot be reached any more."""
    raise LinkLost(f"{host} is gone", reached=False)


def reconnected(fleet: Any) -> list[str]:
    """What each reconnection learned."""
    return [event.detail for event in fleet.events if isinstance(event, HostStep) and event.step == "reconnect"][1::2]


@pytest.mark.parametrize("at", AFTER_THE_SWITCH)
def test_a_lost_line_is_asked_again_and_the_deploy_comes_through(
    fleet: Any, bundle: Make, words: Words, at: tuple[str, str]
) -> None:
    """Exit 0 is true: the host kept the healthy release by itself, wrote so, and the run read it there."""
    ended = fleet.deploy(bundle("v2"), cuts={"web-2": at})
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "live")
    assert set(fleet.current().values()) == {"v2"}
    assert fleet.history("web-2").open_switch is None
    assert reconnected(fleet) == ["live"]
    assert fleet.runs("web-2") == ["v1", "v2"], "a release that is well is not restarted for it"


def test_a_line_lost_before_the_switch_on_the_host_is_asked_to_switch_again(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """The journal says that nothing was switched: the request is said again, under a new number."""
    ended = fleet.deploy(bundle("v6"), cuts={"web-2": ("request", "activate")})
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert reconnected(fleet) == ["nothing was switched"]
    assert set(fleet.current().values()) == {"v6"}


@pytest.mark.parametrize("at", AFTER_THE_SWITCH[:2])
def test_an_ill_release_was_returned_from_and_so_is_every_other_host(
    fleet: Any, bundle: Make, words: Words, at: tuple[str, str]
) -> None:
    """Exit 3 is true: nobody listened, the host went back, the run learns it and returns the others."""
    fleet.ill("web-2", "v2")
    ended = fleet.deploy(bundle("v2"), cuts={"web-2": at})
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "returned")
    assert set(fleet.current().values()) == {"v1"}
    assert any("web-2: settle: " in line and "not healthy" in line for line in ended.problems), ended.problems


def test_a_release_that_settled_by_itself_can_still_be_returned_from(fleet: Any, bundle: Make, words: Words) -> None:
    """Another host fails: what the lost line's host had kept by itself goes back as well, and is marked bad."""
    fleet.ill("web-3", "v2")
    second = bundle("v2")
    ended = fleet.deploy(second, cuts={"web-2": ("answer", "activate")})
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "returned")
    assert set(fleet.current().values()) == {"v1"}
    history = fleet.history("web-2")
    assert history.open_switch is None
    assert history.past(second.manifest.release_id).bad
    assert fleet.runs("web-2") == ["v1", "v2", "v1"]


def test_a_line_lost_while_it_returned(fleet: Any, bundle: Make, words: Words) -> None:
    """The way back is not asked for twice: the journal says that it was gone."""
    fleet.ill("web-3", "v2")
    ended = fleet.deploy(bundle("v2"), cuts={"web-2": ("answer", "return")})
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "returned")
    assert fleet.runs("web-2") == ["v1", "v2", "v1"]


def test_a_hook_whose_end_nobody_heard_is_a_failure(fleet: Any, bundle: Make, words: Words) -> None:
    """It may have ended either way: the release is returned from, everywhere."""
    ended = fleet.deploy(bundle("v7", after_activate="true"), cuts={"web-2": ("answer", "hooks")})
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert set(fleet.current().values()) == {"v1"}
    assert any("nobody here knows how it ended" in line for line in ended.problems)


def test_a_host_that_stays_away_is_unknown(fleet: Any, bundle: Make, words: Words) -> None:
    """Exit 4 and the command that looks; the host kept what is well, the others came back."""
    fleet.before_reopening = gone
    stage = fleet.stage(deadlines=Deadlines(reconnect_s=1.5))
    ended = fleet.deploy(bundle("v2"), cuts={"web-2": ("restart", "done")}, stage=stage)
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "returned", "web-2": "unknown", "web-3": "returned"}
    assert "fab status --stage test --hosts web-2" in ended.next_step
    assert fleet.current() == {"web-1": "v1", "web-2": "v2", "web-3": "v1"}
    assert fleet.history("web-2").open_switch is None


def test_line_45_a_late_operator_is_fenced_off(fleet: Any, bundle: Make, words: Words) -> None:
    """Whose line was lost while somebody else deployed is refused by sequence number, and changes nothing more."""
    others = bundle("v9")

    def somebody_else(host: str) -> None:
        fleet.before_reopening = None
        assert fleet.deploy(others, stage=fleet.stage((host,)), wait_s=20).exit_code == ExitCode.OK

    fleet.before_reopening = somebody_else
    ended = fleet.deploy(bundle("v2"), cuts={"web-2": ("answer", "activate")})
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "returned", "web-2": "unknown", "web-3": "returned"}
    assert any("tester ran deploy here since (sequence number" in line for line in ended.problems), ended.problems
    assert fleet.current() == {"web-1": "v1", "web-2": "v9", "web-3": "v1"}


def test_line_49_after_a_dead_run_a_rollback_undoes_only_what_it_switched(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """Two hosts keep v2 by themselves, the third never switched: it stays on v1 and does not go to the one before."""
    assert fleet.deploy(bundle("v0")).exit_code == ExitCode.OK
    assert fleet.rollback("v1").exit_code == ExitCode.OK
    assert fleet.deploy(bundle("v1")).exit_code == ExitCode.OK
    fleet.before_reopening = gone
    stage = fleet.stage(deadlines=Deadlines(reconnect_s=0))
    cuts = {"web-1": ("answer", "activate"), "web-2": ("answer", "activate"), "web-3": ("request", "activate")}
    assert fleet.deploy(bundle("v8"), cuts=cuts, stage=stage).exit_code == ExitCode.MIXED
    assert fleet.current() == {"web-1": "v8", "web-2": "v8", "web-3": "v1"}
    fleet.before_reopening = None
    ended = fleet.rollback()
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert set(fleet.current().values()) == {"v1"}


def test_after_a_dead_run_a_deploy_of_the_same_tag_finishes(fleet: Any, bundle: Make, words: Words) -> None:
    """What is live already is verified, the others follow; a rollback then takes all of them back."""
    assert fleet.deploy(bundle("v1")).exit_code == ExitCode.OK
    fleet.before_reopening = gone
    stage = fleet.stage(deadlines=Deadlines(reconnect_s=0))
    second = bundle("v10")
    cuts = {"web-1": ("answer", "activate"), "web-2": ("request", "activate"), "web-3": ("request", "activate")}
    assert fleet.deploy(second, cuts=cuts, stage=stage).exit_code == ExitCode.MIXED
    assert fleet.current() == {"web-1": "v10", "web-2": "v1", "web-3": "v1"}
    assert fleet.deploy(second).exit_code == ExitCode.OK
    assert set(fleet.current().values()) == {"v10"}
    assert fleet.rollback().exit_code == ExitCode.OK
    assert set(fleet.current().values()) == {"v1"}


def runs(*told: str) -> Any:
    """A host as its journal tells of runs, newest first: ``d2:live``, ``r3:`` (deploy 2 did, rollback 3 did not)."""
    verbs = {"d": "deploy", "r": "rollback"}
    split = [one.partition(":") for one in told]
    facts = {"runs": [{"run": run, "verb": verbs[run[0]], "by": "ann", "outcome": how} for run, _, how in split]}
    return SimpleNamespace(name=str(id(facts)), facts=facts, current="v1-00000000", serves="still serves v1")


@pytest.mark.parametrize(
    ("hosts", "stay"),
    [
        ((["d1:live"], ["d2:live"], ["d3:returned", "d1:live"], []), set()),  # each its own way
        ((["d2:live"], ["d2:returned", "d1:live"], ["d2:", "d1:live"]), {1, 2}),  # left behind, not got to
        ((["d3:", "d2:live"], ["d3:", "d2:", "d1:live"]), {1}),  # a failed run after the one that died half way
        ((["r2:live"], ["r2:", "d1:live"]), {0}),  # a rollback that died half way is finished
        ((["d2:", "r1:live"], ["d2:", "r1:live"]), set()),  # a failed deploy after a whole rollback
    ],
)
def test_who_stays_in_a_bare_rollback(hosts: Any, stay: set[int]) -> None:
    """What a run did not get to stays where the others go; what a cut-off rollback got to stays there."""
    made = [runs(*told) for told in hosts]
    assert preflight.staying(made) == {made[number].name for number in stay}


def test_part_of_a_fleet_does_not_guess_what_the_rest_has() -> None:
    """A deploy that did not get here may have got to hosts that are not asked: the tag must be named."""
    host = runs("d2:", "d1:live")
    host.run = SimpleNamespace(where="--stage test --hosts a")
    with pytest.raises(HostFailed, match="hosts that are not asked now may have it"):
        preflight.refuse_unclear(host)
    preflight.refuse_unclear(runs("d1:live"))


def test_line_17_a_slow_link_that_still_moves_is_not_lost(fleet: Any, bundle: Make, words: Words) -> None:
    """An upload that takes longer than silence may last: progress counts, not the total."""
    blob = os.urandom(300_000)
    digest = Sha256(hashlib.sha256(blob).hexdigest())
    made = bundle("v11")
    files = (*made.manifest.files, TreeFile("noise.bin", "100644", digest, len(blob)))
    slow = Bundle(dataclasses.replace(made.manifest, files=files), {**made.blobs, digest: blob})
    fleet.bytes_a_second = 40_000
    stage = fleet.stage(("web-1",), deadlines=Deadlines(silence_s=6))
    ended = fleet.deploy(slow, stage=stage)
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert ended.elapsed_s > 6
