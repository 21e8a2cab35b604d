"""All that keeps a release from being switched to is found at once, on a real ROOT; and what staging anew mends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import activate, facts, marker, readiness, stage
from deploy.onhost.history import fold
from deploy.onhost.hooks import Context
from deploy.onhost.layout import remove_tree
from deploy.onhost.session import Session, StepFailed
from deploy.wire.names import ReleaseId

Make = Callable[..., ReleaseId]


def hook(run: str, **other: Any) -> dict[str, Any]:
    """One hook with every key, as a manifest has it."""
    return {
        "run": run, "once": False, "on": ["deploy", "rollback"], "timeout_s": 30, "idempotent": False, "user": None,
        "sealed": False, **other,
    }  # fmt: skip


def causes(session: Session, context: Context, release: ReleaseId) -> list[str]:
    """What keeps it from being switched to."""
    return [problem.cause for problem in readiness.look(session, context.doing("rollback"), release)[1]]


def replace_python(session: Session, release: ReleaseId, script: str | None) -> None:
    """Take a release's interpreter away, or make it another one, and its marker speak of that: the host's changed."""
    link = session.layout.release(release) / "venv/bin/python"
    link.parent.chmod(0o755)
    target = session.layout.root / "usr-bin-python"
    link.unlink()
    link.symlink_to(target)
    found = marker.read(session.layout, release)
    session.layout.marker(release).parent.chmod(0o755)
    session.layout.marker(release).unlink()
    selection = {**found.selection, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    marker.write(session.layout, found.manifest, selection, found.facts)
    session.verified.clear()
    if script is not None:
        target.write_text(script)
        target.chmod(0o755)


def test_a_whole_release_is_ready(session: Session, context: Context, release: Make) -> None:
    """And its probe ran, as the rollback that it is for."""
    told = session.layout.shared / "verb"
    name = release("v1", hooks={"app": {"probe": [hook(f"echo $DEPLOY_VERB > {told}")]}})
    assert causes(session, context, name) == []
    assert told.read_text() == "rollback\n"


def test_everything_that_is_wrong_is_told_at_once(session: Session, context: Context, release: Make) -> None:
    """Two shared things gone and two probes that fail: four problems, none of which staging anew would mend."""
    shared = {"dirs": ["media"], "files": [".env"]}
    probes = [hook("echo no libpq; exit 3"), hook("true"), hook("exit 4"), hook("exit 5", on=["deploy"])]
    name = release("v1", shared=shared, hooks={"app": {"probe": probes}})
    found, problems = readiness.look(session, context.doing("rollback"), name)
    assert found is not None
    first, second, third, fourth = problems
    assert f"shared folder {session.layout.shared / 'media'} is not there" in first.cause
    assert f"install -d -m 2770 -g {os.getgid()} '{session.layout.shared / 'media'}'" in first.next_step
    assert f"shared file {session.layout.shared / '.env'} is not there" in second.cause
    assert third.cause == "probe hook `echo no libpq; exit 3`: exit status 3"
    assert third.log == ["no libpq"]
    assert "exit status 4" in fourth.cause
    assert not any(problem.mends for problem in problems)


def test_altered_code_is_never_run_to_be_probed(session: Session, context: Context, release: Make) -> None:
    """One byte is wrong: that is the finding, and staging anew mends it."""
    ran = session.layout.shared / "ran"
    name = release("v1", hooks={"app": {"probe": [hook(f"touch {ran}")]}})
    path = session.layout.release(name) / "src/app.py"
    path.chmod(0o644)
    path.write_text("changed")
    (problem,) = readiness.look(session, context, name)[1]
    assert (problem.mends, problem.cause) == (True, f"{name} is not as it was staged: altered: src/app.py")
    assert not ran.exists()


def test_a_release_that_is_gone_or_half_there(session: Session, context: Context, release: Make) -> None:
    """Both can be staged anew."""
    half = release("v1")
    session.layout.release(half).chmod(0o755)
    session.layout.marker(half).unlink()
    for name in (half, ReleaseId("v9-00000009")):
        (problem,) = readiness.look(session, context, name)[1]
        assert problem.mends
        assert "is not a complete release" in problem.cause


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "does not run: exit status"),
        ("#!/bin/sh\necho 'error while loading shared libraries: libpython'\nexit 127\n", "127: error while loading"),
        ("#!/bin/sh\necho 3.7\nexit 1\n", "and its interpreter now is Python 3.7"),
    ],
    ids=["removed", "broken", "another version"],
)
def test_a_system_python_that_was_removed_or_upgraded_is_found_before_the_switch(
    session: Session, context: Context, release: Make, script: str | None, said: str
) -> None:
    """Every byte is right, and still it would not run: not ready, not switched to, staged anew when it is offered."""
    name = release("v1")
    replace_python(session, name, script)
    (problem,) = readiness.look(session, context, name)[1]
    assert problem.mends
    assert said in problem.cause
    with pytest.raises(StepFailed, match=r"(?s)interpreter"):
        activate.ready(session, name)
    assert not stage.is_present(session, marker.read(session.layout, name).manifest)
    assert not session.layout.release(name).exists()


def test_a_live_release_whose_python_is_gone_is_not_taken_away(
    session: Session, context: Context, release: Make
) -> None:
    """Nothing is taken from under a running service: the way out is told."""
    name = release("v1")
    session.layout.current.symlink_to(f"releases/{name}")
    replace_python(session, name, None)
    found = marker.read(session.layout, name)
    with pytest.raises(StepFailed, match="it is live") as failed:
        stage.is_present(session, found.manifest)
    assert "another tag, then deploy this one again" in failed.value.next_step
    assert session.layout.release(name).is_dir()
    session.layout.release(name).chmod(0o755)
    session.layout.marker(name).unlink()
    with pytest.raises(StepFailed, match="has lost its marker"):
        stage.is_present(session, found.manifest)
    assert session.layout.release(name).is_dir()


def went_live(session: Session, release: ReleaseId) -> None:
    """Write down that it was deployed."""
    before = session.layout.link_target(session.layout.current)
    session.book.append("switch", to=release, verb="deploy", **{"from": before})
    session.book.append("switched", to=release)
    session.book.append("confirmed", release=release, verb="deploy", proof="")
    session.layout.current.unlink(missing_ok=True)
    session.layout.current.symlink_to(f"releases/{release}")


def test_what_was_live_and_is_gone_is_told(session: Session, release: Make) -> None:
    """A bare rollback wants the newest one that vanished; not one that was pruned, nor older ones, nor bad ones."""
    one, two, three, four, five = (release(f"v{number}") for number in range(1, 6))
    for name in (one, two, three, four, five):
        went_live(session, name)
    for name in (one, two, four):
        if name == two:
            session.book.append("pruned", release=name)
        remove_tree(session.layout.release(name))
    told = {row["release"]: row["wanted"] for row in facts.facts(session.layout)["gone"]}
    assert told == {four: True, two: False, one: False}
    assert facts.facts(session.layout)["rollback_candidates"] == [three]


def test_a_pruned_release_that_is_staged_again_is_not_gone(session: Session, release: Make) -> None:
    """It is there; what it was before stays in the journal only."""
    one, two = release("v1"), release("v2")
    for name in (one, two):
        went_live(session, name)
    session.book.append("pruned", release=one)
    assert one in fold(session.book.records).pruned
    told = facts.facts(session.layout)
    assert told["gone"] == []
    assert {row["release"]: row["lived"] for row in told["releases"]} == {one: True, two: True}


def test_a_root_that_is_not_there_has_nothing_to_tell(tmp_path: Path) -> None:
    """Facts of an empty host do not speak of releases that are gone."""
    from deploy.onhost.layout import Layout

    assert facts.facts(Layout(tmp_path / "none"))["releases"] == []
