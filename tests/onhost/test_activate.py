"""Switch, bring up, confirm or give back, on a real ROOT with real commands; and what recovery does after a kill."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import activate, hooks, marker, prune, recovery, switch
from deploy.onhost.activate import Stuck
from deploy.onhost.history import fold
from deploy.onhost.hooks import Context
from deploy.onhost.journal import read
from deploy.onhost.session import Session, StepFailed
from deploy.wire.names import ReleaseId, tag_of

Make = Callable[..., ReleaseId]


def operator(**other: Any) -> dict[str, Any]:
    """A service that is a file: restarting writes which release runs; it is well unless a file says its tag is ill."""
    restart = 'echo "$DEPLOY_TAG" >> "$DEPLOY_ROOT/shared/runs"'
    health = 'test ! -e "$DEPLOY_ROOT/shared/ill-$(tail -n 1 "$DEPLOY_ROOT/shared/runs")"'
    filled = {
        "restart": {"run": restart, "timeout_s": 30, "user": None},
        "stop": {"run": 'echo stopped >> "$DEPLOY_ROOT/shared/runs"', "timeout_s": 30, "user": None},
        "health": {
            "url": None, "socket": None, "path": None, "host_header": None, "expect_status": [200], "successes": 1,
            "command": {"run": health, "timeout_s": 30, "user": None}, "timeout_s": 0.2, "interval_s": 0.05,
        },
    }  # fmt: skip
    return {**filled, **other}


def runs(session: Session) -> list[str]:
    """What was restarted, in order."""
    path = session.layout.shared / "runs"
    return path.read_text().split() if path.exists() else []


def ill(session: Session, release: ReleaseId) -> Path:
    """Make a release unhealthy from now on."""
    path = session.layout.shared / f"ill-{tag_of(release)}"
    path.touch()
    return path


def current(session: Session) -> str | None:
    """What is live."""
    return session.layout.link_target(session.layout.current)


def words(session: Session) -> list[str]:
    """The journal's words, children apart."""
    skipped = ("child", "child-done", "lock", "stage", "staged")
    return [r["what"] for r in read(session.layout.journal) if r["what"] not in skipped]


def go_live(session: Session, context: Context, release: ReleaseId, **other: Any) -> None:
    """Activate and confirm."""
    assert activate.activate(session, context, release, operator(**other))["outcome"] == "live"
    activate.confirm(session, "proven")


def test_a_healthy_release_goes_live_and_the_one_before_is_previous(
    session: Session, context: Context, release: Make
) -> None:
    """Intent before, outcomes after; restarted once each."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    go_live(session, context, new)
    assert (current(session), session.layout.link_target(session.layout.previous)) == (new, old)
    assert runs(session) == ["v1", "v2"]
    assert words(session) == ["switch", "switched", "restarted", "confirmed"] * 2
    assert recovery.look(session.layout, fold(session.book.records)) == []


def test_an_unhealthy_release_is_given_back_and_marked(session: Session, context: Context, release: Make) -> None:
    """The old one is live, restarted, checked; the new one is bad and kept for inspection."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    ill(session, new)
    outcome = activate.activate(session, context, new, operator())
    assert (outcome["outcome"], outcome["from"]) == ("returned", old)
    assert "not healthy" in outcome["failure"]["cause"]
    assert current(session) == old
    assert runs(session) == ["v1", "v2", "v1"]
    assert fold(session.book.records).past(new).bad
    assert marker.is_complete(session.layout, new)


def test_the_first_release_ever_is_withdrawn_and_stopped(session: Session, context: Context, release: Make) -> None:
    """There is nothing to return to: nothing is live, as before."""
    new = release("v1")
    ill(session, new)
    assert activate.activate(session, context, new, operator())["outcome"] == "returned"
    assert current(session) is None
    assert runs(session) == ["v1", "stopped"]


def test_a_restart_command_that_fails_is_a_failure(session: Session, context: Context, release: Make) -> None:
    """With the end of what it said."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    restart = {"run": f"echo cannot; test $DEPLOY_RELEASE = {old}", "timeout_s": 30, "user": None}
    outcome = activate.activate(session, context, new, operator(restart=restart, health=None))
    assert outcome["outcome"] == "returned"
    assert outcome["failure"]["log"] == ["cannot"]
    assert current(session) == old


def test_a_bug_after_the_switch_is_given_back_too(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised: a switched host is never left alone with it."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    real = activate._bring_up

    def bring_up(session: Session, context: Context, found: marker.Release, operator: Any, *, tries: int = 1) -> str:
        if found.id == new:
            raise ZeroDivisionError
        return real(session, context, found, operator, tries=tries)

    monkeypatch.setattr(activate, "_bring_up", bring_up)
    outcome = activate.activate(session, context, new, operator())
    assert (outcome["outcome"], current(session)) == ("returned", old)
    assert "ZeroDivisionError" in outcome["failure"]["cause"]


def test_a_release_that_is_not_as_it_was_staged_is_never_switched_to(
    session: Session, context: Context, release: Make
) -> None:
    """A changed byte, a missing marker, an interpreter that is gone: found before the switch; `current` stays."""
    old, altered, broken, blind = release("v1"), release("v2"), release("v3"), release("v4")
    go_live(session, context, old)
    path = session.layout.release(altered) / "src/app.py"
    path.chmod(0o644)
    path.write_text("changed")
    session.layout.release(broken).chmod(0o755)
    session.layout.marker(broken).unlink()
    folder = session.layout.release(blind) / "venv/bin"
    folder.chmod(0o755)
    (folder / "python").unlink()
    for name, cause in (
        (altered, "altered: src/app.py"),
        (broken, "not a complete release"),
        (blind, "missing: venv/bin/python"),
    ):
        with pytest.raises(StepFailed, match=cause):
            activate.activate(session, context, name, operator())
    assert current(session) == old
    assert words(session).count("switch") == 1


class Telling(http.server.BaseHTTPRequestHandler):
    """Answers with the release that the server was made with."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"release": getattr(self.server, "release")}).encode())  # noqa: B009

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class says so
        """Say nothing."""


@pytest.fixture
def told(session: Session) -> Iterator[Callable[[ReleaseId], dict[str, Any]]]:
    """Give health settings whose answers name a release, as a service does that says what it runs."""
    servers: list[http.server.HTTPServer] = []

    def serve(release: ReleaseId) -> dict[str, Any]:
        server = http.server.HTTPServer(("127.0.0.1", 0), Telling)
        setattr(server, "release", release)  # noqa: B010
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        return dict(operator()["health"], command=None, url=url, timeout_s=5)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_asking_again_for_what_is_live_leaves_one_alone_that_is_proven_well(
    session: Session, context: Context, release: Make, told: Callable[[ReleaseId], dict[str, Any]]
) -> None:
    """No restart, no switch."""
    live = release("v1")
    for _ in range(2):
        go_live(session, context, live, health=told(live))
    assert runs(session) == ["v1"]


def test_asking_again_for_what_is_live_restarts_one_that_is_not(
    session: Session, context: Context, release: Make
) -> None:
    """Unproven, never asked or ill: it may be dead, or the old one. Where that does not help a person must look."""
    live = release("v1")
    go_live(session, context, live)
    go_live(session, context, live)
    assert runs(session) == ["v1", "v1"]
    go_live(session, context, live, health=None)
    assert runs(session) == ["v1", "v1", "v1"]
    ill(session, live)
    with pytest.raises(Stuck, match="does not come up"):
        activate.activate(session, context, live, operator())
    assert runs(session) == ["v1"] * 4
    assert current(session) == live
    assert fold(session.book.records).open_switch is None


def test_what_can_be_brought_up_neither_way_is_stuck_and_tried_once(
    session: Session, context: Context, release: Make
) -> None:
    """A person must look; the next run goes on, so that a mended release can be deployed."""
    old, new, mended = release("v1"), release("v2"), release("v3")
    go_live(session, context, old)
    ill(session, old)
    ill(session, new)
    with pytest.raises(Stuck, match=r"returning to v1.* failed too"):
        activate.activate(session, context, new, operator())
    assert current(session) == old
    assert [action["do"] for action in recovery.recover(session)] == ["cancel"]
    go_live(session, context, mended)
    assert current(session) == mended


def fails_for(session: Session, tag: str, times: int, how: str = "exit 1") -> dict[str, Any]:
    """A restart of one tag that goes wrong so often, and then goes well."""
    shared = session.layout.shared
    wrong = f'[ "$DEPLOY_TAG" = {tag} ] && [ "$(wc -l < {shared}/tried)" -lt {times} ]'
    script = f'if {wrong}; then echo x >> {shared}/tried; {how}; fi; echo "$DEPLOY_TAG" >> {shared}/runs'
    (shared / "tried").touch()
    return {"run": script, "timeout_s": 1, "user": None}


def test_the_way_back_tries_the_restart_again(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that died at once has used up the starts that systemd allows in ten seconds."""
    monkeypatch.setattr(activate, "RETURN_PAUSE_S", 0.01)
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    ill(session, new)
    answer = activate.activate(session, context, new, operator(restart=fails_for(session, "v1", 2)))
    assert (answer["outcome"], current(session), runs(session)[-1]) == ("returned", old, "v1")


@pytest.mark.parametrize(("times", "how", "tried"), [(9, "exit 1", 3), (9, "sleep 60", 1)])
def test_the_way_back_is_not_tried_for_ever(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch, times: int, how: str, tried: int
) -> None:
    """Three times, and only once where a restart did not come to its end: a second one beside it would not help."""
    monkeypatch.setattr(activate, "RETURN_PAUSE_S", 0.01)
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    ill(session, new)
    with pytest.raises(Stuck, match="failed too"):
        activate.activate(session, context, new, operator(restart=fails_for(session, "v1", times, how)))
    assert len((session.layout.shared / "tried").read_text().split()) == tried


def test_returning_never_points_at_a_release_without_its_marker(
    session: Session, context: Context, release: Make
) -> None:
    """Where the old one was damaged meanwhile, the new one keeps serving as well as it can."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    session.layout.release(old).chmod(0o755)
    session.layout.marker(old).unlink()
    ill(session, new)
    with pytest.raises(Stuck):
        activate.activate(session, context, new, operator())
    assert current(session) == new


def killed_after_switch(session: Session, context: Context, to: ReleaseId, *, restarted: bool) -> None:
    """Leave the journal and disk of a run that was killed after the switch."""
    came_from = current(session)
    intent = {"to": to, "verb": "deploy", "operator": operator(), "context": activate._context_json(context)}
    session.book.append("switch", **{**intent, "from": came_from})
    switch.point(session.layout, session.layout.current, to)
    session.book.append("switched", to=to)
    if restarted:
        activate._bring_up(session, context, marker.read(session.layout, to), operator())


@pytest.mark.parametrize("restarted", [True, False])
def test_a_healthy_switch_that_nobody_confirmed_is_kept(
    session: Session, context: Context, release: Make, restarted: bool
) -> None:
    """Restarted first where the run was killed before that: the old process must not answer for the new release."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    killed_after_switch(session, context, new, restarted=restarted)
    (done,) = recovery.recover(session)
    assert done["outcome"] == "live"
    assert runs(session) == ["v1", "v2"]
    assert current(session) == new
    assert recovery.recover(session) == []


def test_an_unhealthy_one_is_returned(session: Session, context: Context, release: Make) -> None:
    """By the settings that the switch's intent carries: the next run may know others."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    killed_after_switch(session, context, new, restarted=True)
    ill(session, new)
    (done,) = recovery.recover(session)
    assert done["outcome"] == "returned"
    assert (current(session), runs(session)) == (old, ["v1", "v2", "v1"])


def test_a_return_that_was_cut_short_restarts_the_old_release(
    session: Session, context: Context, release: Make
) -> None:
    """`current` was back, the service was not."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    killed_after_switch(session, context, new, restarted=True)
    switch.point(session.layout, session.layout.current, old)
    (done,) = recovery.recover(session)
    assert done["outcome"] == "returned"
    assert (current(session), runs(session)[-1]) == (old, "v1")


def test_a_return_cut_short_after_a_switch_that_was_never_written_down(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after rename(2), settled, returned, killed before the old one's restart: it is restarted all the same."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    intent = {"to": new, "verb": "deploy", "operator": operator(), "context": activate._context_json(context)}
    session.book.append("switch", **{**intent, "from": old})
    switch.point(session.layout, session.layout.current, new)
    ill(session, new)
    real = activate._bring_up

    def bring_up(session: Session, context: Context, found: marker.Release, operator: Any, *, tries: int = 1) -> str:
        if found.id == old:
            raise KeyboardInterrupt
        return real(session, context, found, operator, tries=tries)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(activate, "_bring_up", bring_up)
        recovery.recover(session)
    assert (current(session), runs(session)) == (old, ["v1", "v2"])
    (done,) = recovery.recover(session)
    assert done["outcome"] == "returned"
    assert (current(session), runs(session)) == (old, ["v1", "v2", "v1"])


def test_line_8_recovery_that_is_cut_off_each_time_ends(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three it restarts nothing and asks for a person, who may then deploy; the count is of that switch alone."""
    old, new, mended = release("v1"), release("v2"), release("v3")
    go_live(session, context, old)
    killed_after_switch(session, context, new, restarted=False)

    def killed(*_: Any) -> str:
        tried.append(1)
        raise KeyboardInterrupt

    tried: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(activate, "_bring_up", killed)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                recovery.recover(session)
        with pytest.raises(Stuck, match="3 times"):
            recovery.recover(session)
    assert (len(tried), runs(session)) == (3, ["v1"])
    assert [action["do"] for action in recovery.recover(session)] == ["cancel"]
    killed_after_switch(session, context, mended, restarted=True)
    assert [action["outcome"] for action in recovery.recover(session)] == ["live"]


@pytest.mark.parametrize("well", [True, False])
def test_a_full_journal_does_not_hide_how_a_return_ended(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch, *, well: bool
) -> None:
    """Returned is told as returned, stuck as stuck; the record is missing, so the next run returns once more."""
    old, new = release("v1"), release("v2")
    go_live(session, context, old)
    ill(session, new)
    if not well:
        ill(session, old)
    append = session.book.append

    def full(what: str, **fields: Any) -> Any:
        if what in ("stuck", "returned"):
            raise OSError(28, "No space left on device")
        return append(what, **fields)

    monkeypatch.setattr(session.book, "append", full)
    if well:
        assert activate.activate(session, context, new, operator())["outcome"] == "returned"
    else:
        with pytest.raises(Stuck):
            activate.activate(session, context, new, operator())
    assert current(session) == old
    assert [action.do for action in recovery.look(session.layout, fold(session.book.records))] == ["return"]


def test_half_made_releases_and_scratch_are_swept(session: Session, context: Context, release: Make) -> None:
    """Whatever an interrupted stage left; a complete release and a stranger's folder stay."""
    kept = release("v1")
    half = session.layout.release(ReleaseId("v9-00000009"))
    (half / "src").mkdir(parents=True)
    (half / "src").chmod(0o555)
    (session.layout.releases / "backup").mkdir()
    session.layout.scratch("stage")
    (session.layout.envs / ("e" * 64)).mkdir()
    (session.layout.root / ".current.1.2").symlink_to("releases/x")
    recovery.recover(session)
    assert sorted(path.name for path in session.layout.releases.iterdir()) == ["backup", kept]
    assert list(session.layout.tmp.iterdir()) == []
    assert list(session.layout.envs.iterdir()) == []
    assert not (session.layout.root / ".current.1.2").is_symlink()


def test_pruning_keeps_what_is_live_good_or_in_use(session: Session, context: Context, release: Make) -> None:
    """Old ones go with their spares; what they alone used goes from the store; kept ones are still intact."""
    names = [release(f"v{number}", content=b"v%d" % number) for number in range(1, 6)]
    for name in names:
        go_live(session, context, name)
    found = prune.prune(session, 2)
    assert found["pruned"] == [names[2], names[1], names[0]]
    assert session.layout.present() == names[3:]
    assert {path.name.split(".", 1)[1] for path in (session.layout.state / "links").iterdir()} <= set(names[3:])
    for name in names[3:]:
        assert marker.differences(session.layout, marker.read(session.layout, name)) == []


def test_a_release_that_a_process_still_runs_from_is_spared(session: Session, context: Context, release: Make) -> None:
    """An old worker that drains its requests has its files to the end."""
    names = [release(f"v{number}") for number in range(1, 5)]
    for name in names:
        go_live(session, context, name)
    worker = subprocess.Popen(["sleep", "60"], cwd=session.layout.release(names[0]) / "src")
    try:
        found = prune.prune(session, 1)
    finally:
        worker.kill()
        worker.wait()
    assert found["in_use"] == [names[0]]
    assert names[0] in session.layout.present()
    assert names[1] not in session.layout.present()


def test_a_hook_sees_the_documented_environment(session: Session, context: Context, release: Make) -> None:
    """Its release, its host, the settings of its level, its secrets; and nothing of onhost's own."""
    (session.layout.shared / ".env").write_text("export SECRET='hunter22'\n# no\nNO\nSHORT=1\n")
    command = (
        "pwd; echo $DEPLOY_TAG $DEPLOY_HOST $DEPLOY_STAGE $DEPLOY_VERB $COLOUR $SHORT; echo $SECRET; command -v python"
    )
    settings = {
        "env_files": ["shared/.env", "shared/absent.env"],
        "environment": {"app": {"COLOUR": "red"}, "host:test/web-1": {"COLOUR": "blue"}},
    }
    name = release("v1", **settings)
    found = marker.read(session.layout, name)
    finished = hooks.configured(
        session, context, found.manifest, hooks.Configured(["/bin/sh", "-c", command], "prepare", 30)
    )
    folder = session.layout.release(name)
    assert finished.output.splitlines() == [
        f"{folder}/src", "v1 web-1 test deploy blue 1", "[redacted]", f"{folder}/venv/bin/python",
    ]  # fmt: skip
    assert "hunter22" not in session.layout.journal.read_text()


def test_an_env_file_that_is_no_text_is_an_outcome_that_names_it(
    session: Session, context: Context, release: Make
) -> None:
    """Found before the switch, since the interpreter is tried in the same environment."""
    (session.layout.shared / ".env").write_bytes(b"A=\xe9\n")
    name = release("v1", env_files=["shared/.env"])
    with pytest.raises(StepFailed, match=r"shared/\.env is not UTF-8"):
        activate.activate(session, context, name, operator())
    assert current(session) is None
