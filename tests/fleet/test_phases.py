"""Two phases on three real host programs: nobody switches unless all can; all come back when one fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import ExitCode
from deploy.events import FleetStep, HostBytes, HostStep, Notice, RunEnded
from deploy.fleet.host import Host
from deploy.fleet.phases import Phases
from deploy.link.pipe import LinkLost
from deploy.onhost.lock import Lock
from deploy.settings import Deadlines

Make = Callable[..., Any]
Words = Callable[[Any], dict[str, str]]


def sent(fleet: Any) -> int:
    """Bytes of blobs that went to all hosts."""
    last = {event.host: event.sent for event in fleet.events if isinstance(event, HostBytes)}
    return sum(last.values())


def test_deploy_and_roll_back(fleet: Any, bundle: Make, words: Words) -> None:
    """The main job on three hosts at once; a code-only deploy sends a few bytes, a rollback none."""
    second = bundle("v2")
    ended = fleet.deploy(second)
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "live")
    assert set(fleet.current().values()) == {"v2"}
    assert ended.undo == "fab rollback:v1 --stage test"
    assert 0 < sent(fleet) < 100
    fleet.events.clear()
    ended = fleet.rollback()
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert set(fleet.current().values()) == {"v1"}
    assert sent(fleet) == 0
    for name in fleet.names:
        assert fleet.runs(name) == ["v1", "v2", "v1"]
        assert fleet.history(name).past(second.manifest.release_id).bad


def test_a_rollback_with_nowhere_to_go_changes_nothing(fleet: Any, bundle: Make, words: Words) -> None:
    """Named on every host, with what is there."""
    ended = fleet.rollback("v77")
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == dict.fromkeys(fleet.names, "failed")
    assert len(ended.problems) == 3
    assert set(fleet.current().values()) == {"v1"}


def test_line_47_a_staging_failure_on_one_host_switches_nobody(fleet: Any, bundle: Make, words: Words) -> None:
    """Exit 1, the service unchanged; what failed is named with the end of what it said."""
    ended = fleet.deploy(bundle("v3", prepare='echo no room here; test "$DEPLOY_HOST" != web-2'))
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "unchanged", "web-2": "failed", "web-3": "unchanged"}
    assert "web-2: prepare: prepare hook" in ended.problems[0]
    assert "no room here" in ended.problems[1]
    assert set(fleet.current().values()) == {"v1"}
    assert all(fleet.runs(name) == ["v1"] for name in fleet.names)
    assert not list(fleet.root("web-2").glob("releases/v3-*"))


def test_line_50_an_activation_failure_returns_every_host_to_its_own_release(
    fleet: Any, bundle: Make, words: Words
) -> None:
    """Hosts were on different releases before; each goes back to its own; exit 3."""
    two, three = bundle("v2"), bundle("v4")
    assert fleet.deploy(two, stage=fleet.stage(("web-1",))).exit_code == ExitCode.OK
    before = fleet.current()
    assert before == {"web-1": "v2", "web-2": "v1", "web-3": "v1"}
    fleet.ill("web-3", "v4")
    ended = fleet.deploy(three)
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert words(ended) == dict.fromkeys(fleet.names, "returned")
    assert fleet.current() == before
    assert [fleet.runs(name)[-2:] for name in fleet.names] == [["v4", "v2"], ["v4", "v1"], ["v4", "v1"]]
    assert any(line.startswith("web-3: health") for line in ended.problems)
    assert all(fleet.history(name).past(three.manifest.release_id).bad for name in fleet.names)


@pytest.mark.parametrize("at", [("answer", "lock"), ("unpack", "done"), ("mark", "done")])
def test_a_line_lost_before_the_switch_changes_nothing(
    fleet: Any, bundle: Make, words: Words, at: tuple[str, str]
) -> None:
    """Exit 1; the lock is free again, and the same deploy then needs no clean-up."""
    made = bundle(f"v5-{at[0]}")
    one = fleet.stage(("web-2",))
    ended = fleet.deploy(made, cuts={"web-2": at}, stage=one)
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-2": "failed"}
    assert set(fleet.current().values()) == {"v1"}
    ended = fleet.deploy(made, stage=one)
    assert ended.exit_code == ExitCode.OK, ended.problems


def test_one_lock_refused_releases_all(fleet: Any, bundle: Make, words: Words) -> None:
    """Exit 5, the holder named, nothing uploaded, the other hosts free for whoever holds that one."""
    lock = Lock(fleet.layout("web-3").lock)
    lock.take({"by": "ann@laptop", "verb": "deploy"})
    ended = fleet.deploy(bundle("v2"))
    assert ended.exit_code == ExitCode.LOCKED
    assert words(ended) == {"web-1": "unchanged", "web-2": "unchanged", "web-3": "locked"}
    assert "ann@laptop runs deploy" in ended.problems[0]
    assert sent(fleet) == 0
    free = Lock(fleet.layout("web-1").lock)
    free.take({})
    free.release()
    lock.release()


def test_every_host_that_cannot_be_used_is_listed(bare: Any, bundle: Make, words: Words) -> None:
    """Not the first one: a missing ROOT here, a folder named `current` there."""
    bare.root("web-1").rmdir()
    (bare.root("web-3") / "current").mkdir()
    ended = bare.deploy(bundle("v1"))
    assert ended.exit_code == ExitCode.FAILED
    assert words(ended) == {"web-1": "failed", "web-2": "unchanged", "web-3": "failed"}
    assert "does not exist" in ended.problems[0]
    assert "not a symbolic link" in ended.problems[1]


def test_a_host_without_its_python_is_named(bare: Any, bundle: Make, words: Words) -> None:
    """Reached, but not fit, with the reason and what to do; the others are let go unchanged."""
    ended = bare.deploy(bundle("v1"), stage=bare.stage(python="/no/such/python"))
    assert ended.exit_code == ExitCode.FAILED
    assert set(words(ended).values()) == {"failed"}
    assert all("python is not there (exit status 127)" in line for line in ended.problems)
    assert "install that Python" in ended.next_step


def test_a_once_hook_runs_on_one_host_and_before_the_others_own(fleet: Any, bundle: Make) -> None:
    """A migration for the whole fleet; each host's own hooks everywhere."""
    log = fleet.folder / "log"
    made = bundle(
        "v6",
        before_activate={"run": f"echo migrate $DEPLOY_HOST >> {log}", "once": True, "on": ["deploy"]},
        after_activate=f"echo after $DEPLOY_HOST >> {log}",
    )
    assert fleet.deploy(made).exit_code == ExitCode.OK
    lines = log.read_text().splitlines()
    assert lines[0] == "migrate web-1"
    assert sorted(lines[1:]) == ["after web-1", "after web-2", "after web-3"]


def test_every_once_hook_runs_once_whoever_has_it(fleet: Any, bundle: Make) -> None:
    """Groups may have different ones: each runs on the first host that has it, none twice, none never."""
    log = fleet.folder / "once"

    def once(what: str) -> dict[str, Any]:
        return {"run": f"echo {what} $DEPLOY_HOST >> {log}", "once": True}

    levels = {
        "app": {"before_activate": [once("common")]},
        "host:test/web-2": {"before_activate": [once("second"), once("common")]},
        "host:test/web-3": {"before_activate": [once("third"), once("second")]},
    }
    assert fleet.deploy(bundle("v11", by_level=levels)).exit_code == ExitCode.OK
    assert log.read_text().splitlines() == ["common web-1", "second web-2", "third web-3"]


def test_a_failing_migration_switches_nobody(fleet: Any, bundle: Make, words: Words) -> None:
    """Before the gate is passed; the `failed` hooks are told."""
    log = fleet.folder / "failed"
    made = bundle("v7", before_activate={"run": "false", "once": True}, failed=f"echo failed $DEPLOY_HOST >> {log}")
    ended = fleet.deploy(made)
    assert ended.exit_code == ExitCode.FAILED
    assert set(fleet.current().values()) == {"v1"}
    assert sorted(log.read_text().splitlines()) == [f"failed {name}" for name in fleet.names]


def test_ctrl_c_lets_a_migration_end_and_then_switches_nobody(fleet: Any, bundle: Make, words: Words) -> None:
    """Exit 130: the running hook comes to its end, the next ones and the `failed` hooks are not begun."""
    log, flag = fleet.folder / "migration", fleet.folder / "go-on"
    hook = f"echo began >> {log}; while [ ! -e {flag} ]; do sleep 0.02; done; echo ended >> {log}"
    made = bundle("v10", before_activate={"run": hook, "once": True}, failed=f"echo failed >> {log}")

    def interrupt() -> None:
        began = time.monotonic()
        while not log.exists():
            if time.monotonic() - began > 120:  # else a late signal would hit another test
                return
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
        while time.monotonic() - began < 180 and not any(
            isinstance(event, Notice) and "is finished first" in event.text for event in fleet.events
        ):
            time.sleep(0.02)
        flag.touch()

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    ended = fleet.deploy(made)
    thread.join(200)
    assert ended.exit_code == ExitCode.INTERRUPTED
    assert "nothing was switched" in ended.verdict
    assert words(ended) == dict.fromkeys(fleet.names, "unchanged")
    assert set(fleet.current().values()) == {"v1"}
    assert log.read_text().split() == ["began", "ended"]


def test_a_failing_hook_after_the_switch_returns_all(fleet: Any, bundle: Make, words: Words) -> None:
    """The release is healthy, and still not what was wanted: exit 3; the `failed` hooks run once on each host."""
    log = fleet.folder / "failed-after"
    made = bundle("v8", after_activate='test "$DEPLOY_HOST" != web-1', failed=f"echo $DEPLOY_HOST >> {log}")
    ended = fleet.deploy(made)
    assert sorted(log.read_text().split()) == list(fleet.names)
    assert ended.exit_code == ExitCode.RETURNED, ended.problems
    assert set(words(ended).values()) == {"returned"}
    assert set(fleet.current().values()) == {"v1"}


def test_a_failing_hook_after_deploying_what_is_live_changes_nothing(fleet: Any, bundle: Make, words: Words) -> None:
    """There is nothing to return to; the `failed` hooks run once on each host all the same."""
    log, ill = fleet.folder / "failed-again", fleet.folder / "ill"
    made = bundle("v12", after_activate=f"test ! -e {ill}", failed=f"echo $DEPLOY_HOST >> {log}")
    assert fleet.deploy(made).exit_code == ExitCode.OK
    ill.touch()
    ended = fleet.deploy(made)
    assert ended.exit_code == ExitCode.FAILED, ended.problems
    assert set(words(ended).values()) == {"unchanged"}
    assert set(fleet.current().values()) == {"v12"}
    assert sorted(log.read_text().split()) == list(fleet.names)


def test_a_confirm_that_fails_on_the_host_is_not_called_unchanged(fleet: Any, bundle: Make, words: Words) -> None:
    """One host, switched and healthy, whose answer to confirm is lost for good: exit 4, never "unchanged"."""

    def gone(host: str) -> None:
        raise LinkLost(f"{host} is gone", reached=False)

    fleet.before_reopening = gone
    one = fleet.stage(("web-1",), deadlines=Deadlines(reconnect_s=0))
    ended = fleet.deploy(bundle("v2"), stage=one, cuts={"web-1": ("answer", "confirm")})
    assert ended.exit_code == ExitCode.MIXED
    assert words(ended) == {"web-1": "unknown"}
    assert fleet.current()["web-1"] == "v2"


def test_ctrl_c_after_the_confirm_names_what_is_live(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While old releases are pruned: the new one is live for good, and is not called unchanged."""

    def interrupted(_: Phases) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Phases, "prune", interrupted)
    ended = fleet.deploy(bundle("v2"))
    assert ended.exit_code == ExitCode.INTERRUPTED
    assert words(ended) == dict.fromkeys(fleet.names, "live")
    assert all(host.detail.startswith("v2-") for host in ended.hosts)
    assert "what is known of each host stands above" in ended.verdict


@pytest.mark.parametrize("method", ["stage", "activate", "hooks"])
def test_a_bug_on_one_host_abandons_nobody(
    fleet: Any, bundle: Make, words: Words, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Before the switch nothing changes, exit 70; after it the others come back and that host is unknown, exit 4."""
    real = getattr(Host, method)

    def broken(host: Host, *args: Any, **named: Any) -> Any:
        answer = real(host, *args, **named)
        if host.name == "web-2":
            raise KeyError("surprise")
        return answer

    monkeypatch.setattr(Host, method, broken)
    made = bundle(f"v11-{method}", after_activate="true")
    if method == "stage":
        with pytest.raises(KeyError, match="surprise"):
            fleet.deploy(made)
        (ended,) = [event for event in fleet.events if isinstance(event, RunEnded)]
        assert ended.exit_code == ExitCode.BUG
        assert words(ended) == {"web-1": "unchanged", "web-2": "failed", "web-3": "unchanged"}
        assert set(fleet.current().values()) == {"v1"}
        return
    ended = fleet.deploy(made)
    left = {"activate": ("unknown", ExitCode.MIXED), "hooks": ("returned", ExitCode.RETURNED)}[method]
    assert ended.exit_code == left[1], ended.problems
    assert words(ended) == {"web-1": "returned", "web-2": left[0], "web-3": "returned"}
    assert ended.problems[0] == "web-2: bug: a bug in sealed-deploy: KeyError('surprise')"
    assert any("surprise" in line for line in ended.problems[1:])


def test_a_tag_that_moved_is_refused(fleet: Any, bundle: Make, words: Words) -> None:
    """Released here with other content before: said before anything is sent."""
    ended = fleet.deploy(bundle("v1", prepare="true"))
    assert ended.exit_code == ExitCode.FAILED
    assert "--restage" in ended.next_step


def test_every_step_ends_as_it_began(fleet: Any, bundle: Make) -> None:
    """What is started is done or failed, on the fleet and on each host: a live display never hangs on a step."""
    assert fleet.deploy(bundle("v2")).exit_code == ExitCode.OK
    assert fleet.deploy(bundle("v9", prepare="false")).exit_code == ExitCode.FAILED
    open_steps: list[tuple[str, str]] = []
    for event in fleet.events:
        if isinstance(event, FleetStep | HostStep):
            key = (getattr(event, "host", ""), event.step)
            if event.state == "started":
                open_steps.append(key)
            elif key in open_steps:
                open_steps.remove(key)
    assert open_steps == []
    assert not [event for event in fleet.events if isinstance(event, Notice) and "prune" in event.text]
    assert Path(fleet.root("web-1") / "current").resolve().name.startswith("v2-")
