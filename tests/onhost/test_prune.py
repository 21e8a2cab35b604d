"""What pruning deletes and what it keeps, each with its reason, on a real ROOT."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import activate, envs, marker, prune, recovery, switch, upkeep
from deploy.onhost.history import fold
from deploy.onhost.hooks import Context
from deploy.onhost.journal import Journal, read
from deploy.onhost.layout import Layout
from deploy.onhost.lock import Busy, Lock
from deploy.onhost.processes import boot_id, up_s
from deploy.onhost.session import Session, StepFailed
from deploy.wire.names import ReleaseId
from tests.onhost.test_activate import operator

Make = Callable[..., ReleaseId]


def live(session: Session, release: ReleaseId, verb: str = "deploy") -> None:
    """Make a release live, with the records and links of a switch; nothing is restarted."""
    layout = session.layout
    session.book.append("switch", to=release, verb=verb, **{"from": layout.link_target(layout.current)})
    switch.point(layout, layout.current, release)
    session.book.append("switched", to=release, boot=boot_id(), up_s=round(up_s(), 2))
    activate.confirm(session, "proven")


@pytest.fixture
def five(session: Session, release: Make) -> list[ReleaseId]:
    """Five releases that were live one after the other, each with a megabyte of its own."""
    names = [release(f"v{number}", content=b"%d" % number * 1_000_000) for number in range(1, 6)]
    for name in names:
        live(session, name)
    return names


def size(folder: Path) -> int:
    """Bytes of all files below, whatever a filesystem makes of them."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_release_that_stays_has_its_reasons(session: Session, five: list[ReleaseId]) -> None:
    """Current, previous, the way back, pinned and by whom, one of the newest; a process with pid and program."""
    upkeep.pin(session, {"releases": [five[0]], "pinned": True})
    worker = subprocess.Popen(["sleep", "60"], cwd=session.layout.release(five[1]) / "src")
    try:
        found: Any = prune.prune(session, 3)
    finally:
        worker.kill()
        worker.wait()
    assert found["pruned"] == []
    assert found["in_use"] == [five[1]]
    assert list(found["kept"]) == five[::-1]  # newest first
    assert found["kept"][five[4]] == "current, of the newest 3 good ones"
    assert found["kept"][five[3]] == "previous, way back, of the newest 3 good ones"
    assert found["kept"][five[2]] == "of the newest 3 good ones"
    assert found["kept"][five[1]].startswith(f"in use by pid {worker.pid} (sleep) of user ")
    assert found["kept"][five[0]] == "pinned by tester"
    found = prune.prune(session, 3)
    assert found["pruned"] == [five[1]]


def test_the_newest_failure_stays_and_says_so(
    session: Session, context: Context, five: list[ReleaseId], release: Make
) -> None:
    """The evidence of what went wrong last."""
    for tag in ("v6", "v7"):
        (session.layout.shared / f"ill-{tag}").touch()
        assert activate.activate(session, context, release(tag), operator())["outcome"] == "returned"
    found: Any = prune.prune(session, 2)
    (kept,) = [name for name, why in found["kept"].items() if why == "the newest that is not good"]
    assert kept.startswith("v7-")
    assert {name[:2] for name in found["pruned"]} == {"v1", "v2", "v3", "v6"}


def test_unpinned_it_goes(session: Session, five: list[ReleaseId]) -> None:
    """A pin holds over any number of prunes, and over staging anew; asking twice changes nothing."""
    assert upkeep.pin(session, {"releases": five[:1], "pinned": True}) == {"changed": five[:1]}
    assert upkeep.pin(session, {"releases": five[:1], "pinned": True}) == {"changed": []}
    for _ in range(2):
        prune.prune(session, 1)
    assert set(session.layout.present()) == {five[0], five[3], five[4]}
    assert upkeep.pin(session, {"releases": five[:1], "pinned": False}) == {"changed": five[:1]}
    assert prune.prune(session, 1)["pruned"] == five[:1]


def test_what_is_not_complete_here_cannot_be_pinned(session: Session, five: list[ReleaseId]) -> None:
    """And none of those asked for with it."""
    with pytest.raises(StepFailed, match="v9-00000000 is not here"):
        upkeep.pin(session, {"releases": [five[0], "v9-00000000"], "pinned": True})
    assert not fold(session.book.records).past(five[0]).pinned


@pytest.mark.parametrize("more", [0, 1, 3, 99])
def test_for_space_the_oldest_go_until_enough_is_free(
    session: Session, five: list[ReleaseId], monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """Never the live one, the one before, a pinned one or one in use: then less is free than was asked for."""
    capacity = size(session.layout.root) + 100_000
    monkeypatch.setattr(prune, "_free", lambda layout: capacity - size(layout.root))
    upkeep.pin(session, {"releases": [five[1]], "pinned": True})
    found: Any = prune.prune(session, 5, free=50_000 + more * 900_000)
    gone = [five[0], five[2]][:more]
    assert found["pruned"] == gone
    assert session.layout.present() == [name for name in five if name not in gone]
    assert (found["free"] >= 50_000 + more * 900_000) is (more < 3)
    for name in session.layout.present():
        assert marker.differences(session.layout, marker.read(session.layout, name)) == []


def test_for_space_what_belongs_to_no_release_goes_first(
    session: Session, five: list[ReleaseId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a deploy sent that was never staged; then no release has to go."""
    capacity = size(session.layout.root) + 3_000_000
    monkeypatch.setattr(prune, "_free", lambda layout: capacity - size(layout.root))
    (session.layout.files / "aa").mkdir()
    (session.layout.files / "aa" / ("a" * 64)).write_bytes(b"x" * 2_000_000)
    found: Any = prune.prune(session, 5, free=2_500_000)
    assert (found["pruned"], found["store_files"]) == ([], 1)


def test_for_space_the_way_back_stays(session: Session, five: list[ReleaseId]) -> None:
    """After a rollback it is the older one; what was rolled away from is no way back."""
    live(session, five[3], "rollback")
    found: Any = prune.prune(session, 1, free=1 << 60)
    assert session.layout.present() == five[2:4]
    assert found["kept"][five[2]].startswith("previous, way back")


def test_nothing_is_pruned_while_a_rollback_holds_the_lock(session: Session, five: list[ReleaseId]) -> None:
    """Line 46: prune and a rollback to what it prunes cannot run at the same time, in this order or the other."""
    other = Lock(session.layout.lock)
    with pytest.raises(Busy):
        other.take({"by": "bob", "verb": "rollback"})
    prune.prune(session, 1)
    session.lock.release()
    other.take({"by": "bob", "verb": "rollback"})
    assert five[0] not in session.layout.present()
    with pytest.raises(StepFailed, match="not a complete release"):
        activate.ready(session, five[0])
    other.release()


def test_a_prune_that_was_cut_off_leaves_nothing_half_made(
    session: Session, five: list[ReleaseId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker goes first: the rest is swept by the next run, and was never a release to go back to."""

    def killed(path: Path) -> None:
        if path.parent == session.layout.releases:
            raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(prune, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune.prune(session, 4)
    assert five[0] in session.layout.present()
    assert not marker.is_complete(session.layout, five[0])
    session.journal = Journal(session.layout.journal, "run-2")
    assert [done["do"] for done in recovery.recover(session)] == ["sweep"]
    assert session.layout.present() == five[1:]


def test_an_environment_loses_its_marker_before_its_files(
    session: Session, five: list[ReleaseId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in between, what is left is incomplete for everybody."""
    entry = session.layout.envs / ("e" * 64)
    (entry / "site-packages").mkdir(parents=True)
    (entry / envs.MARKER).write_text("{}")
    entry.chmod(0o555)

    def killed(path: Path) -> None:
        assert path == entry
        raise KeyboardInterrupt

    monkeypatch.setattr(prune, "remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune.prune(session, 5)
    assert envs.known(session.layout) == []
    recovery.recover(session)
    assert not entry.exists()


def test_pins_and_freezes_of_a_later_version_do_not_disturb_this_one(layout: Layout) -> None:
    """Records with more fields than this version knows are read as far as it does."""
    book = Journal(layout.journal, "r")
    book.append("lock", by="ann", mood="good")
    book.append("pinned", release="v1-aaaaaaaa", why="audit")
    book.append("frozen", reason="x", until=None, for_s=None, scope="all")
    history = fold(read(layout.journal))
    assert (history.past("v1-aaaaaaaa").pinned_by, (history.freeze or {})["by"]) == ("ann", "ann")
    book.close()
