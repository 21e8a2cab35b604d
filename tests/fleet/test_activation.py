"""Waves on three real host programs: order, soak, failures that are tolerated or not, Ctrl-C, hosts left out."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.errors import ExitCode
from deploy.events import FleetStep, HostStep, Notice, RunEnded
from deploy.fleet.activation import Activation
from deploy.fleet.fanout import Fanout
from deploy.fleet.host import Host
from deploy.fleet.phases import Phases
from deploy.fleet.survey import survey
from deploy.onhost.journal import Journal
from deploy.settings import Command, Strategy

Make = Callable[..., Any]
Words = Callable[[Any], dict[str, str]]
ONE_BY_ONE = Strategy(batch=1)


def taken(fleet: Any, *steps: str) -> list[str]:
    """The fleet's steps of these names that began, each with its detail."""
    return [
        f"{event.step} {event.detail}".strip()
        for event in fleet.events
        if isinstance(event, FleetStep) and event.state == "started" and event.step in steps
    ]


def switched(fleet: Any) -> list[str]:
    """Hosts in the order in which they switched."""
    return [e.host for e in fleet.events if isinstance(e, HostStep) and (e.step, e.state) == ("switch", "done")]


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ctrl-C in the middle of the n-th wait."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("deploy.fleet.fanout.time", SimpleNamespace(sleep=sleep))


def test_a_canary_and_then_batches_each_after_its_pause_and_soak(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the stage; after each soak all that switched so far are asked again; all confirmed at the end."""
    rested: list[float] = []
    monkeypatch.setattr(Fanout, "rest", lambda _, seconds: rested.append(seconds))
    waves = Strategy(canary=1, batch=2, pause_s=60, soak_s=300)
    ended = fleet.deploy(bundle("v2"), stage=fleet.stage(waves=waves))
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "live")
    assert rested == [300, 60, 300]
    assert switched(fleet)[0] == "web-1"
    assert sorted(switched(fleet)) == list(fleet.names)
    assert taken(fleet, "activate", "pause", "soak", "probe", "confirm") == [
        "activate wave 1 of 2: web-1",
        "soak 300 s",
        "probe web-1",
        "pause 60 s",
        "activate wave 2 of 2: web-2, web-3",
        "soak 300 s",
        "probe web-1, web-2, web-3",
        "confirm",
    ]


def test_a_failure_in_the_second_wave_returns_the_first_too_and_spares_the_third(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """Each to its own previous release, though they were different; exit 3."""
    assert fleet.deploy(bundle("v2"), stage=fleet.stage(("web-1",))).exit_code == ExitCode.OK
    before = fleet.current()
    fleet.ill("web-2", "v4")
    ended = fleet.deploy(bundle("v4"), stage=fleet.stage(waves=ONE_BY_ONE))
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert words(ended) == {"web-1": "returned", "web-2": "returned", "web-3": "unchanged"}
    assert fleet.current() == before == {"web-1": "v2", "web-2": "v1", "web-3": "v1"}
    assert fleet.runs("web-1")[-2:] == ["v4", "v2"]
    assert "v4" not in fleet.runs("web-3")
    assert len([line for line in ended.problems if line.startswith("web-2: health")]) == 1


def test_what_flaps_after_the_soak_returns_with_all_that_switched(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well at the switch, ill when the second wave has soaked: a failure like any other, though it is the canary."""
    rests: list[float] = []

    def rest(_: Fanout, seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            fleet.ill("web-1", "v2")

    monkeypatch.setattr(Fanout, "rest", rest)
    ended = fleet.deploy(bundle("v2"), stage=fleet.stage(waves=Strategy(batch=1, soak_s=5)))
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert words(ended) == {"web-1": "returned", "web-2": "returned", "web-3": "unchanged"}
    assert "web-1: soak: was well after the switch and is not any more" in ended.problems[0]
    assert set(fleet.current().values()) == {"v1"}


def test_as_many_hosts_as_max_failures_may_stay_behind(fleet: Any, bundle: Make, words: Words) -> None:
    """The others go on and are confirmed; the exit code is 4, never 0, and the closing block says who is where."""
    fleet.ill("web-1", "v2")
    ended = fleet.deploy(bundle("v2"), stage=fleet.stage(waves=Strategy(canary=1, max_failures=1)))
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "returned", "web-2": "live", "web-3": "live"}
    assert "it is live on 2 of 3 hosts, the others serve what they served before" in ended.verdict
    assert any(line.startswith("web-1: health") for line in ended.problems)
    assert "fab deploy:v2 --stage test" in ended.next_step
    assert ended.undo == "fab rollback:v1 --stage test --hosts web-2,web-3"
    assert fleet.current() == {"web-1": "v1", "web-2": "v2", "web-3": "v2"}
    assert all(fleet.history(name).open_switch is None for name in fleet.names)
    for path in fleet.folder.glob("*/shared/ill-*"):
        path.unlink()
    assert fleet.deploy(bundle("v2")).exit_code == ExitCode.OK


def test_one_failure_more_than_max_failures_returns_all(fleet: Any, bundle: Make, words: Words) -> None:
    """Counted over all waves."""
    fleet.ill("web-1", "v2")
    fleet.ill("web-3", "v2")
    ended = fleet.deploy(bundle("v2"), stage=fleet.stage(waves=Strategy(batch=1, max_failures=1)))
    assert ended.exit_code == ExitCode.RETURNED
    assert words(ended) == dict.fromkeys(fleet.names, "returned")
    assert [line.partition(":")[0] for line in ended.problems if not line.startswith(" ")] == ["web-1", "web-3"]
    assert set(fleet.current().values()) == {"v1"}


def test_a_host_that_cannot_go_back_stops_the_waves_whatever_is_tolerated(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """A release that takes the host with it: no further wave, those that switched return, exit 4."""
    stage = fleet.stage(waves=Strategy(batch=1, max_failures=3))
    broken = f'{stage.hosts[1].restart.run}; test ! -e "$DEPLOY_ROOT/shared/ill-v2"'
    fleet.ill("web-2", "v2")
    hosts = (stage.hosts[0], replace(stage.hosts[1], restart=Command(broken, 5.0)), stage.hosts[2])
    ended = fleet.deploy(bundle("v2"), stage=replace(stage, hosts=hosts))
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "returned", "web-2": "stuck", "web-3": "unchanged"}
    assert fleet.current()["web-1"] == fleet.current()["web-3"] == "v1"


def test_own_hooks_run_around_their_wave_and_once_hooks_around_all(fleet: Any, bundle: Make) -> None:
    """What a host needs done is done shortly before it switches, not when the first host does."""
    log = fleet.folder / "order"
    log.unlink(missing_ok=True)
    once = [{"run": f"echo once-{at} >> {log}", "once": True} for at in ("before", "after")]
    made = bundle(
        "v13",
        before_activate=[once[0], f"echo before $DEPLOY_HOST >> {log}"],
        after_activate=[once[1], f"echo after $DEPLOY_HOST >> {log}"],
    )
    assert fleet.deploy(made, stage=fleet.stage(waves=ONE_BY_ONE)).exit_code == ExitCode.OK
    around = [f"{at} {name}" for name in fleet.names for at in ("before", "after")]
    assert log.read_text().splitlines() == ["once-before", *around, "once-after"]


@pytest.mark.parametrize("point", ["before_activate", "after_activate"])
def test_a_hosts_own_hook_that_fails_in_the_second_wave_returns_the_first(
    fleet: Any, bundle: Make, words: Words, point: str
) -> None:
    """A failure after the switch like any other; `failed` hooks run once on every host that had begun."""
    log = fleet.folder / f"failed-{point}"
    made = bundle(f"v14-{point}", **{point: 'test "$DEPLOY_HOST" != web-2', "failed": f"echo $DEPLOY_HOST >> {log}"})
    ended = fleet.deploy(made, stage=fleet.stage(waves=ONE_BY_ONE))
    assert ended.exit_code == ExitCode.RETURNED
    second = {"before_activate": "failed", "after_activate": "returned"}[point]
    assert words(ended) == {"web-1": "returned", "web-2": second, "web-3": "unchanged"}
    assert set(fleet.current().values()) == {"v1"}
    told = {"before_activate": fleet.names, "after_activate": fleet.names[:2]}[point]
    assert sorted(log.read_text().split()) == list(told)


def test_a_hosts_own_hook_that_fails_may_be_tolerated_a_once_hook_never(fleet: Any, bundle: Make, words: Words) -> None:
    """The host with the failing hook stays behind; a failed migration stops the run before anything is switched."""
    stage = fleet.stage(waves=Strategy(max_failures=3))
    own = bundle("v15", before_activate='test "$DEPLOY_HOST" != web-2')
    ended = fleet.deploy(own, stage=stage)
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "live", "web-2": "failed", "web-3": "live"}
    before = fleet.current()
    ended = fleet.deploy(bundle("v16", before_activate={"run": "false", "once": True}), stage=stage)
    assert ended.exit_code == ExitCode.FAILED
    assert fleet.current() == before


def test_a_once_hook_whose_line_is_lost_stops_the_run_and_its_next_one(fleet: Any, bundle: Make, words: Words) -> None:
    """Nothing is switched while it goes on alone to its end; when that is known, the next deploy runs it again."""
    log = fleet.folder / "lost"
    made = bundle("v17", before_activate={"run": f"echo ran >> {log}", "once": True})
    ended = fleet.deploy(made, cuts={"web-1": ("before_activate", "started")})
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "failed", "web-2": "unchanged", "web-3": "unchanged"}
    assert set(fleet.current().values()) == {"v1"}
    assert fleet.deploy(made).exit_code == ExitCode.OK
    assert log.read_text().split() == ["ran", "ran"]
    assert not fleet.history("web-1").unknown_hooks


def test_a_once_hook_with_an_unknown_outcome_stops_the_run_before_the_first_wave(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """Also where it would run after the last one: no host is switched only to be returned."""
    made = bundle("v19", after_activate={"run": "sleep 600", "once": True})
    with closing(Journal(fleet.layout("web-1").journal, "cut-off")) as book:
        intent = {"point": "after_activate", "text": "sleep 600", "release": made.manifest.release_id, "once": True}
        began = book.append("hook", **intent)["seq"]
    ended = fleet.deploy(made, stage=fleet.stage(waves=ONE_BY_ONE))
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "failed", "web-2": "unchanged", "web-3": "unchanged"}
    assert "after_activate hook `sleep 600` was cut off" in ended.problems[0]
    assert switched(fleet) == []
    with closing(Journal(fleet.layout("web-1").journal, "mended")) as book:
        book.append("hook-done", intent=began, point="after_activate", outcome="ok")


def test_ctrl_c_in_a_pause_stops_before_the_next_wave(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 130: what switched and is well is confirmed, the others stay, and both commands to go on are told."""
    interrupted(monkeypatch, 1)
    log = fleet.folder / "after-all"
    made = bundle("v18", after_activate={"run": f"echo all >> {log}", "once": True})
    ended = fleet.deploy(made, stage=fleet.stage(waves=Strategy(canary=1, pause_s=3600)))
    assert ended.exit_code == ExitCode.INTERRUPTED
    assert words(ended) == {"web-1": "live", "web-2": "unchanged", "web-3": "unchanged"}
    assert "interrupted at wave 1 of 2" in ended.verdict
    assert "fab deploy:v18 --stage test" in ended.next_step
    assert ended.undo == "fab rollback:v1 --stage test --hosts web-1"
    assert fleet.current() == {"web-1": "v18", "web-2": "v1", "web-3": "v1"}
    assert fleet.history("web-1").open_switch is None
    assert not log.exists()
    assert any(isinstance(event, Notice) and "it was not run" in event.text for event in fleet.events)
    assert fleet.deploy(made).exit_code == ExitCode.OK
    assert log.read_text().split() == ["all"]


def test_ctrl_c_in_the_last_soak_ends_the_soak_and_finishes(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every host has switched and is asked once more: there is nothing left to stop, and 0 is true."""
    interrupted(monkeypatch, 2)
    ended = fleet.deploy(bundle("v2"), stage=fleet.stage(waves=Strategy(canary=1, soak_s=3600)))
    assert ended.exit_code == ExitCode.OK
    assert words(ended) == dict.fromkeys(fleet.names, "live")


def test_deploying_again_does_not_wait_for_waves_that_change_nothing(
    fleet: Any, bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host has it from a run that was cut short: only the second wave soaks."""
    rested: list[float] = []
    monkeypatch.setattr(Fanout, "rest", lambda _, seconds: rested.append(seconds))
    assert fleet.deploy(bundle("v2"), stage=fleet.stage(("web-1",))).exit_code == ExitCode.OK
    waves = Strategy(canary=1, pause_s=60, soak_s=300)
    assert fleet.deploy(bundle("v2"), stage=fleet.stage(waves=waves)).exit_code == ExitCode.OK
    assert rested == [300]


@pytest.mark.parametrize(("on", "count"), [(("deploy",), 1), (("deploy", "rollback"), 3)])
def test_a_rollback_takes_waves_only_where_settings_say_so(
    fleet: Any, bundle: Make, on: tuple[str, ...], count: int
) -> None:
    """By default all hosts go back at once."""
    assert fleet.deploy(bundle("v2")).exit_code == ExitCode.OK
    fleet.events.clear()
    assert fleet.rollback(stage=fleet.stage(waves=Strategy(batch=1, on=on))).exit_code == ExitCode.OK
    assert len(taken(fleet, "activate")) == count


def test_a_host_that_cannot_be_reached_stops_the_run_unless_it_is_skipped(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """Asked for, it is left out and named, the exit code is 4, and the command that brings it up is told."""
    fleet.away.add("web-2")
    ended = fleet.deploy(bundle("v2"))
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "unchanged", "web-2": "unreachable", "web-3": "unchanged"}
    assert set(fleet.current().values()) == {"v1"}
    ended = fleet.deploy(bundle("v2"), skip_unreachable=True)
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "live", "web-2": "unreachable", "web-3": "live"}
    assert "left out, because they cannot be reached: web-2" in ended.verdict
    assert "fab deploy:v2 --stage test --hosts web-2" in ended.next_step
    assert any(line.startswith("web-2: connect: no route to host") for line in ended.problems)
    assert fleet.current() == {"web-1": "v2", "web-2": "v1", "web-3": "v2"}
    fleet.ill("web-1", "v4")
    ended = fleet.deploy(bundle("v4"), skip_unreachable=True)
    assert ended.exit_code == ExitCode.RETURNED
    assert words(ended) == {"web-1": "returned", "web-2": "unreachable", "web-3": "returned"}


def test_no_host_that_can_be_reached_is_no_deploy(fleet: Any, bundle: Make, words: Words) -> None:
    """Skipping all of them would be a success about nobody."""
    fleet.away.update(fleet.names)
    ended = fleet.deploy(bundle("v2"), skip_unreachable=True)
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == dict.fromkeys(fleet.names, "unreachable")
    assert len([line for line in ended.problems if "no route to host" in line]) == 3


class Died(BaseException):
    """The control process is gone: nothing more is said to anybody."""


@pytest.mark.parametrize("after", ["deploy", "rollback"])
def test_the_control_process_dies_between_two_waves(
    fleet: Any, bundle: Make, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Hosts settle, status shows who serves what, the same deploy finishes or a rollback takes them all back."""

    def die(_: Fanout, seconds: float) -> None:
        raise Died

    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(Fanout, "rest", die)
        fleet.deploy(bundle("v2"), stage=fleet.stage(waves=Strategy(canary=1, pause_s=60)))
    assert fleet.current() == {"web-1": "v2", "web-2": "v1", "web-3": "v1"}
    found = survey(fleet.run("status", fleet.stage()), probe=True)
    assert found["exit_code"] == ExitCode.MIXED
    assert {row["host"]: row["current"]["tag"] for row in found["hosts"]} == fleet.current()
    assert [row["lock"] for row in found["hosts"]] == [None] * 3
    ended: RunEnded = fleet.deploy(bundle("v2")) if after == "deploy" else fleet.rollback("v1")
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert set(fleet.current().values()) == {"v2" if after == "deploy" else "v1"}


def test_a_host_without_a_previous_release_returns_to_nothing(bare: Any, bundle: Make, words: Words) -> None:
    """It says so, and the others are back on theirs."""
    first = bundle("v1")
    assert bare.deploy(first, stage=bare.stage(("web-1",))).exit_code == ExitCode.OK
    bare.ill("web-1", "v2")
    ended = bare.deploy(bundle("v2"), stage=bare.stage(("web-1", "web-2"), waves=Strategy()))
    assert ended.exit_code == ExitCode.RETURNED
    assert words(ended) == {"web-1": "returned", "web-2": "returned"}
    assert {host.host: host.detail for host in ended.hosts} == {
        "web-1": f"back on {first.manifest.release_id}",
        "web-2": "back on nothing live, as before",
    }
    assert bare.current() == {"web-1": "v1", "web-2": None, "web-3": None}


def test_a_bug_while_confirming_is_not_called_a_success(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That host is unknown, exit 4, and the others are live for good."""
    real = Host.confirm

    def broken(host: Host) -> None:
        if host.name == "web-2":
            raise KeyError("surprise")
        real(host)

    monkeypatch.setattr(Host, "confirm", broken)
    ended = fleet.deploy(bundle("v2"))
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "live", "web-2": "unknown", "web-3": "live"}


def test_a_bug_between_two_steps_still_ends_with_the_closing_block(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4 with the hosts whose switch is open called unknown; 70 and a traceback where nothing is in doubt."""

    def broken(*_: Any) -> None:
        raise KeyError("surprise")

    with monkeypatch.context() as patched:
        patched.setattr(Activation, "_confirm", broken)
        ended = fleet.deploy(bundle("v2"))
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == dict.fromkeys(fleet.names, "unknown")
    assert all("a bug in sealed-deploy" in line for line in ended.problems if not line.startswith(" "))
    assert "fab status --stage test" in ended.next_step
    fleet.events.clear()
    monkeypatch.setattr(Phases, "prune", broken)
    with pytest.raises(KeyError, match="surprise"):
        fleet.deploy(bundle("v2"))
    (ended,) = [event for event in fleet.events if isinstance(event, RunEnded)]
    assert ended.exit_code == ExitCode.BUG
    assert words(ended) == dict.fromkeys(fleet.names, "live")


def test_a_host_with_nowhere_to_go_back_to_says_so_and_how_the_others_go_on(
    bare: Any, bundle: Make, words: Words
) -> None:
    """Nothing moves before every host has its target; leaving one out is a decision, and the command for it is told."""
    assert bare.deploy(bundle("v1"), stage=bare.stage(("web-1",))).exit_code == ExitCode.OK
    assert bare.deploy(bundle("v2"), stage=bare.stage(("web-1", "web-2"))).exit_code == ExitCode.OK
    ended = bare.rollback(stage=bare.stage(("web-1", "web-2")))
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "unchanged", "web-2": "failed"}
    assert "fab rollback --stage test --hosts web-1  # without it" in ended.next_step
    assert bare.current() == {"web-1": "v2", "web-2": "v2", "web-3": None}
