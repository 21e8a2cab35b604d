"""Operators at work on three real host programs: prune, pin, freeze and thaw, the log, and waiting for each other."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy import pipeline, upkeep
from deploy.errors import ExitCode
from deploy.events import Notice, RunEnded
from deploy.fleet import locking
from deploy.fleet.host import Host
from deploy.onhost.journal import read
from deploy.onhost.lock import Lock, holder_of
from deploy.pipeline import Request

Make = Callable[..., Any]
Words = Callable[[Any], dict[str, str]]


@pytest.fixture
def request_(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A command's request whose runs are made on this fleet."""
    for name in ("begin", "asking"):
        monkeypatch.setattr(upkeep, name, lambda verb, request, emit, **named: fleet.run(verb, fleet.stage(), **named))
    return Request(Path(), {}, "test", None, "tester")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are tried again at once."""
    monkeypatch.setattr(locking, "RETRY_LOCK_S", 0.05)


def notices(fleet: Any) -> list[str]:
    """What was told besides steps."""
    return [event.text for event in fleet.events if isinstance(event, Notice)]


def locks(fleet: Any, name: str) -> list[dict[str, Any]]:
    """Who took a host's lock, by its journal."""
    return [record for record in read(fleet.layout(name).journal) if record["what"] == "lock"]


def test_a_freeze_stops_every_deploy_until_it_is_thawed(
    fleet: Any, request_: Request, bundle: Make, words: Words
) -> None:
    """Exit 5 with who, why and how it ends, on every host; nothing is sent; then deploys go on."""
    ended = upkeep.freeze(request_, "release day", upkeep.Term(), fleet.events.append)
    assert (ended.exit_code, ended.undo) == (0, "fab thaw --stage test")
    try:
        ended = fleet.deploy(bundle("v2"))
        assert ended.exit_code == ExitCode.LOCKED
        assert words(ended) == dict.fromkeys(fleet.names, "frozen")
        assert "did not start, hosts are frozen" in ended.verdict
        assert len(ended.problems) == 3
        assert "frozen by tester since 20" in ended.problems[0]
        assert ended.problems[0].endswith("until somebody thaws it: release day")
        assert ended.next_step == "fab thaw --stage test  # ends the freeze"
        for refused in (
            upkeep.prune(request_, fleet.events.append),
            upkeep.pin(request_, "v1", fleet.events.append, pinned=True),
        ):
            assert refused.exit_code == ExitCode.LOCKED
        assert set(fleet.current().values()) == {"v1"}
        assert locks(fleet, "web-1")[-1]["refused"] == "frozen"
    finally:
        ended = upkeep.thaw(request_, fleet.events.append)
    assert ended.exit_code == 0
    assert ended.hosts[0].detail.startswith("was frozen by tester")
    assert fleet.deploy(bundle("v2")).exit_code == 0


def test_a_rollback_goes_on_while_frozen_and_says_so(fleet: Any, request_: Request, bundle: Make) -> None:
    """A freeze must not keep a service down at night."""
    assert fleet.deploy(bundle("v2")).exit_code == 0
    upkeep.freeze(request_, "audit", upkeep.Term(), fleet.events.append)
    try:
        fleet.events.clear()
        ended = fleet.rollback()
        assert ended.exit_code == 0, ended.problems
        assert set(fleet.current().values()) == {"v1"}
        assert sum("audit; this goes on all the same" in text for text in notices(fleet)) == 3
    finally:
        upkeep.thaw(request_, fleet.events.append)


def test_one_frozen_host_stops_the_whole_fleet(
    fleet: Any, request_: Request, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or none, as with locks; those that are not frozen are free again. It is not waited for."""
    monkeypatch.setattr(upkeep, "begin", lambda verb, *_, **named: fleet.run(verb, fleet.stage(("web-2",)), **named))
    assert upkeep.freeze(request_, "disk swap", upkeep.Term(), fleet.events.append).exit_code == 0
    try:
        run = fleet.run("deploy", fleet.stage(), tag="v2")
        ended = run.guard(lambda phases: pipeline._deploy(run, phases, bundle("v2"), restage=False, wait_s=60))
        assert ended.exit_code == ExitCode.LOCKED
        assert words(ended) == {"web-1": "unchanged", "web-2": "frozen", "web-3": "unchanged"}
        assert holder_of(fleet.layout("web-1").lock) is None
    finally:
        upkeep.thaw(request_, fleet.events.append)


def test_a_freeze_ends_by_itself(fleet: Any, request_: Request, bundle: Make) -> None:
    """By the host's clock; nobody has to thaw it."""
    term = upkeep.Term(time.time() + 3, 1)
    ended = upkeep.freeze(request_, "short", term, fleet.events.append)
    assert ended.exit_code == 0
    assert f"until {time.strftime('%Y-', time.gmtime(term.until))}" in ended.hosts[0].detail
    eventually(lambda: time.time() > (term.until or 0) + 0.1)
    assert fleet.deploy(bundle("v2")).exit_code == 0


def test_a_host_left_unsettled_is_settled_though_frozen(fleet: Any, request_: Request, bundle: Make) -> None:
    """The refused deploy recovers first: a freeze never keeps a host between two releases."""
    upkeep.freeze(request_, "audit", upkeep.Term(), fleet.events.append)
    try:
        half = fleet.root("web-1") / "releases/v9-00000000"
        half.mkdir()
        assert fleet.deploy(bundle("v2")).exit_code == ExitCode.LOCKED
        assert not half.exists()
    finally:
        upkeep.thaw(request_, fleet.events.append)


def test_a_tag_is_pinned_on_every_host_or_on_none(
    fleet: Any, request_: Request, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without it stops the whole; pinned, it outlives any prune; the answer names the way back."""
    assert fleet.deploy(bundle("v21"), stage=fleet.stage(("web-1",))).exit_code == 0
    ended = upkeep.pin(request_, "v21", fleet.events.append, pinned=True)
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "unchanged", "web-2": "failed", "web-3": "failed"}
    assert "v21 is not on this host" in ended.problems[0]
    assert not any(past.pinned for past in fleet.history("web-1").releases.values())
    ended = upkeep.pin(request_, "v1", fleet.events.append, pinned=True)
    assert (ended.exit_code, ended.undo) == (0, "fab unpin:v1 --stage test")
    for tag in ("v22", "v23", "v24"):
        assert fleet.deploy(bundle(tag), stage=fleet.stage(keep=1)).exit_code == 0
    assert all(list(fleet.root(name).glob("releases/v1-*")) for name in fleet.names)
    ended = upkeep.prune(request_, fleet.events.append)
    assert any("pinned by tester" in line for line in ended.hosts[0].detail.splitlines())
    assert upkeep.pin(request_, "v1", fleet.events.append, pinned=False).exit_code == 0
    assert upkeep.pin(request_, "v1", fleet.events.append, pinned=False).undo == ""
    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "begin", lambda verb, *_, **named: fleet.run(verb, fleet.stage(("web-2",)), **named))
        assert upkeep.pin(request_, "v1", fleet.events.append, pinned=True).exit_code == 0
    ended = upkeep.pin(request_, "v1", fleet.events.append, pinned=True)
    assert ended.undo == "fab unpin:v1 --stage test --hosts web-1,web-3"
    assert upkeep.pin(request_, "v1", fleet.events.append, pinned=False).exit_code == 0


def test_what_fails_on_one_host_is_done_on_the_others_and_told(
    fleet: Any, request_: Request, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never "unchanged" of hosts that changed; the next command asks the one that failed, and only it."""
    true = Host.freeze

    def freeze(host: Host, reason: str, until: float | None, for_s: float | None) -> dict[str, Any]:
        return true(host, reason, until if host.name != "web-2" else time.time() - 5, for_s)

    monkeypatch.setattr(Host, "freeze", freeze)
    ended = upkeep.freeze(request_, "disk's swap", upkeep.Term(4102444800.0, 1e9), fleet.events.append)
    monkeypatch.setattr(Host, "freeze", true)
    try:
        assert ended.exit_code == ExitCode.FAILED
        assert words(ended) == {"web-1": "answered", "web-2": "failed", "web-3": "answered"}
        assert ended.verdict.startswith("freeze FAILED on web-2; 2 hosts frozen until 2100-01-01")
        again = ended.next_step.splitlines()[-1]
        assert again == """fab freeze 'disk'"'"'s swap' --until 2100-01-01T00:00:00Z --stage test --hosts web-2"""
        assert ended.undo == "fab thaw --stage test"
        assert [bool(fleet.history(name).freeze) for name in fleet.names] == [True, False, True]
    finally:
        assert upkeep.thaw(request_, fleet.events.append).exit_code == 0


def test_ctrl_c_while_one_host_works_loses_nothing_that_was_done(
    fleet: Any, request_: Request, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 130; hosts that froze are told as frozen, with the way back, and the other one is to be looked at."""
    true, frozen = Host.freeze, set[str]()

    def freeze(host: Host, *terms: Any) -> dict[str, Any]:
        if host.name == "web-2":
            eventually(lambda: len(frozen) == 2)
            os.kill(os.getpid(), signal.SIGINT)
            eventually(lambda: any("interrupted" in text for text in notices(fleet)))
            time.sleep(0.5)  # its line is let go
        answer = true(host, *terms)
        frozen.add(host.name)
        return answer

    monkeypatch.setattr(Host, "freeze", freeze)
    ended = upkeep.freeze(request_, "audit", upkeep.Term(), fleet.events.append)
    monkeypatch.setattr(Host, "freeze", true)
    try:
        assert ended.exit_code == ExitCode.INTERRUPTED
        assert words(ended) == {"web-1": "answered", "web-2": "unknown", "web-3": "answered"}
        assert ended.verdict.startswith("freeze was interrupted on web-2; 2 hosts frozen")
        assert "fab log --stage test --hosts web-2  # what was done there" in ended.next_step
        assert ended.undo == "fab thaw --stage test"
    finally:
        assert upkeep.thaw(request_, fleet.events.append).exit_code == 0


def test_a_line_lost_before_the_answer_is_unknown(fleet: Any, request_: Request, words: Words) -> None:
    """Exit 4: it may be frozen, and is; the way back is told all the same, and what shows it."""
    cuts = dict.fromkeys(fleet.names, ("answer", "freeze"))
    run = fleet.run("freeze", fleet.stage(), cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "begin", lambda *_, **__: run)
        ended = upkeep.freeze(request_, "audit", upkeep.Term(), fleet.events.append)
    try:
        assert ended.exit_code == ExitCode.MIXED
        assert words(ended) == dict.fromkeys(fleet.names, "unknown")
        assert ended.verdict.startswith("freeze is UNKNOWN on web-1, web-2, web-3")
        assert "fab log" in ended.next_step
        assert ended.undo == "fab thaw --stage test"
        assert all(fleet.history(name).freeze for name in fleet.names)
    finally:
        assert upkeep.thaw(request_, fleet.events.append).exit_code == 0


def test_a_bug_of_this_side_is_told_and_raised(
    fleet: Any, request_: Request, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the closing block, so that its report is saved: never an ordinary failure."""

    def thaw(host: Host) -> None:
        if host.name == "web-2":
            raise KeyError("oops")

    monkeypatch.setattr(Host, "thaw", thaw)
    with pytest.raises(KeyError, match="oops"):
        upkeep.thaw(request_, fleet.events.append)
    (ended,) = [event for event in fleet.events if isinstance(event, RunEnded)]
    assert ended.exit_code == ExitCode.BUG
    assert words(ended) == {"web-1": "answered", "web-2": "unknown", "web-3": "answered"}


def test_a_prune_for_space_that_cannot_be_had_says_what_keeps_the_rest(
    fleet: Any, request_: Request, bundle: Make, words: Words
) -> None:
    """Exit 1; the live release, the one to go back to and a pinned one are never given for it."""
    assert upkeep.pin(request_, "v1", fleet.events.append, pinned=True).exit_code == 0
    for tag in ("v25", "v26", "v2"):
        assert fleet.deploy(bundle(tag)).exit_code == 0
    ended = upkeep.prune(request_, fleet.events.append, free=1 << 60)
    assert upkeep.pin(request_, "v1", fleet.events.append, pinned=False).exit_code == 0
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == dict.fromkeys(fleet.names, "failed")
    assert "nothing more may go" in ended.problems[0]
    kept = ended.hosts[0].detail.splitlines()[1:]
    assert [line.split()[1].rpartition("-")[0] for line in kept] == ["v2", "v26", "v1"]
    assert fleet.rollback().exit_code == 0
    assert set(fleet.current().values()) == {"v26"}


def test_a_failed_prune_is_a_warning_never_a_failed_deploy(
    fleet: Any, bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release is live; what could not be deleted is told."""
    monkeypatch.setattr("deploy.fleet.host.Host.prune", lambda host, free=None: host._ask("prune", keep="no number"))
    ended = fleet.deploy(bundle("v2"))
    assert ended.exit_code == 0, ended.problems
    assert sum(text.startswith("prune: ") for text in notices(fleet)) == 3


def test_the_log_tells_each_hosts_journal(fleet: Any, request_: Request, bundle: Make) -> None:
    """What was done, by whom, with which tag; a host that does not answer is named, exit 4."""
    assert fleet.deploy(bundle("v2")).exit_code == 0
    answer = upkeep.log(request_, fleet.events.append, number=4)
    assert answer["exit_code"] == 0
    for row in answer["hosts"]:
        told = row["records"]
        assert len(told) == 4
        assert [one["what"] for one in told][-1] in ("confirmed", "pruned")
        assert {one["by"] for one in told} == {"tester"}
        assert [one["seq"] for one in told] == sorted(one["seq"] for one in told)
    whole = upkeep.log(request_, fleet.events.append, number=500)["hosts"][0]["records"]
    assert {"verb": "deploy", "tag": "v2"}.items() <= [one for one in whole if one["what"] == "lock"][-1].items()
    fleet.root("web-2").rename(fleet.folder / "away")
    try:
        answer = upkeep.log(request_, fleet.events.append, number=4)
    finally:
        (fleet.folder / "away").rename(fleet.root("web-2"))
    assert [row["records"] == [] for row in answer["hosts"]] == [False, True, False]


def test_line_43_the_loser_is_told_every_host_and_its_holder(fleet: Any, bundle: Make, words: Words) -> None:
    """Who, what, for how long, from where, and the CI job: for all hosts that are locked, not the first."""
    held = {"by": "octocat@runner", "verb": "deploy", "tag": "v3", "from": "192.0.2.7", "job": "https://ci.example/7"}
    one, two = Lock(fleet.layout("web-1").lock), Lock(fleet.layout("web-3").lock)
    one.take(held)
    two.take({"by": "ann@laptop", "verb": "prune"})
    try:
        ended = fleet.deploy(bundle("v2"))
    finally:
        one.release()
        two.release()
    assert ended.exit_code == ExitCode.LOCKED
    assert words(ended) == {"web-1": "locked", "web-2": "unchanged", "web-3": "locked"}
    first, second = ended.problems
    who = r"web-1: lock: octocat@runner runs deploy of v3 from 192\.0\.2\.7, for \d+ s \(https://ci\.example/7\)"
    assert re.fullmatch(who, first)
    assert re.fullmatch(r"web-3: lock: ann@laptop runs prune, for \d+ s", second)


def deploy_waiting(fleet: Any, bundle: Make, wait_s: float) -> Any:
    """Deploy v2, waiting for locks."""
    run = fleet.run("deploy", fleet.stage(), tag="v2")
    return run.guard(lambda phases: pipeline._deploy(run, phases, bundle("v2"), restage=False, wait_s=wait_s))


def told_waiting(fleet: Any, holder: str) -> bool:
    """Whether the operator was told that this holder is waited for."""
    return any(text.startswith(f"waiting: {holder}") for text in notices(fleet))


def eventually(what: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("soon")
def test_waiting_takes_all_locks_once_they_are_free(fleet: Any, bundle: Make) -> None:
    """Each holder is named once, and its successor once; meanwhile no other host is held or written to."""
    lock = Lock(fleet.layout("web-3").lock)
    lock.take({"by": "ann@laptop", "verb": "deploy", "run": "a"})
    before = [len(locks(fleet, name)) for name in fleet.names]

    def others() -> None:
        eventually(lambda: told_waiting(fleet, "ann@laptop"))
        lock.release()
        lock.take({"by": "bob@laptop", "verb": "prune", "run": "b"})
        eventually(lambda: told_waiting(fleet, "bob@laptop"))
        for name in ("web-1", "web-2"):
            eventually(lambda name=name: holder_of(fleet.layout(name).lock) is None)
        lock.release()

    thread = threading.Thread(target=others)
    thread.start()
    ended = deploy_waiting(fleet, bundle, 60)
    thread.join(60)
    assert ended.exit_code == 0, ended.problems
    waited = [text for text in notices(fleet) if text.startswith("waiting: ")]
    assert [text.split()[1] for text in waited] == ["ann@laptop", "bob@laptop"]
    assert [len(locks(fleet, name)) - n for name, n in zip(fleet.names, before, strict=True)] == [2, 2, 1]


@pytest.mark.usefixtures("soon")
def test_waiting_ends_with_everybody_who_is_in_the_way(fleet: Any, bundle: Make, words: Words) -> None:
    """When time is up all hosts are asked once more, so that one that was locked meanwhile is named too."""
    one, two = Lock(fleet.layout("web-1").lock), Lock(fleet.layout("web-2").lock)
    one.take({"by": "ann@laptop", "verb": "deploy", "run": "a"})

    def later() -> None:
        eventually(lambda: told_waiting(fleet, "ann@laptop"))
        eventually(lambda: holder_of(fleet.layout("web-2").lock) is None)
        two.take({"by": "bob@laptop", "verb": "deploy", "run": "b"})

    thread = threading.Thread(target=later)
    thread.start()
    try:
        ended = deploy_waiting(fleet, bundle, 2)
        thread.join(60)
    finally:
        one.release()
        two.release()
    assert ended.exit_code == ExitCode.LOCKED
    assert words(ended) == {"web-1": "locked", "web-2": "locked", "web-3": "unchanged"}


def test_line_3_ctrl_c_while_waiting_ends_at_once_with_nothing_held(fleet: Any, bundle: Make, words: Words) -> None:
    """Exit 130, no host locked, long before the wait is over."""
    lock = Lock(fleet.layout("web-2").lock)
    lock.take({"by": "ann@laptop", "verb": "deploy"})

    def interrupt() -> None:
        eventually(lambda: told_waiting(fleet, "ann@laptop"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    try:
        ended = deploy_waiting(fleet, bundle, 600)
        thread.join(60)
        assert ended.exit_code == ExitCode.INTERRUPTED
        assert time.monotonic() - began < 60
        assert set(words(ended).values()) == {"unchanged"}
        for name in ("web-1", "web-3"):
            eventually(lambda name=name: holder_of(fleet.layout(name).lock) is None)
    finally:
        lock.release()
    assert set(fleet.current().values()) == {"v1"}


@pytest.mark.usefixtures("soon")
def test_line_44_fleets_that_overlap_in_another_order_never_block_each_other(fleet: Any) -> None:
    """Two operators want the same hosts the other way round, again and again: both get them, one after the other."""
    results: list[int] = []

    def lock_all(names: tuple[str, ...]) -> None:
        for _ in range(3):
            run = fleet.run("prune", fleet.stage(names))

            def held(phases: Any, run: Any = run) -> Any:
                run.connect(phases)
                phases.lock(60)
                return run.ended([], "done", code=ExitCode.OK)

            results.append(run.guard(held).exit_code)

    threads = [threading.Thread(target=lock_all, args=(names,)) for names in (fleet.names, fleet.names[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [0] * 6


def test_line_46_a_prune_against_a_rollback_to_what_it_prunes(fleet: Any, request_: Request, bundle: Make) -> None:
    """At the same moment, again and again: the rollback wins and its release stays, or it is told what is here."""
    assert upkeep.pin(request_, "v1", fleet.events.append, pinned=True).exit_code == 0
    fleet.keep = 1
    try:
        for tag in ("v31", "v32", "v33"):
            assert fleet.deploy(bundle(tag), stage=fleet.stage(keep=9)).exit_code == 0
        for _ in range(3):
            with ThreadPoolExecutor(2) as pool:
                pruned = pool.submit(upkeep.prune, request_, fleet.events.append)
                back = pool.submit(fleet.rollback, "v31").result()
                assert pruned.result().exit_code in (0, ExitCode.LOCKED)
            assert back.exit_code in (0, ExitCode.FAILED, ExitCode.LOCKED), back.problems
            live = set(fleet.current().values())
            assert live == {"v31"} if back.exit_code == 0 else live in ({"v31"}, {"v33"})
            for name in fleet.names:
                assert (fleet.root(name) / "current/release.json").is_file()
    finally:
        fleet.keep = 5
        assert upkeep.pin(request_, "v1", fleet.events.append, pinned=False).exit_code == 0
