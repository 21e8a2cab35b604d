"""What a killed run leaves in odd places, each found by the fault harness, and who takes it away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.onhost import activate, prune, recovery, shared, switch
from deploy.onhost.history import fold
from deploy.onhost.hooks import Context
from deploy.onhost.layout import Layout
from deploy.onhost.session import Session
from deploy.wire.names import ReleaseId

Make = Callable[..., ReleaseId]
CLOSED = 0o700
NOTHING: dict[str, Any] = {"restart": None, "stop": None, "health": None}


def go_live(session: Session, context: Context, release: ReleaseId) -> None:
    """Activate and confirm."""
    assert activate.activate(session, context, release, NOTHING)["outcome"] == "live"
    activate.confirm(session, "proven")


def spares(layout: Layout) -> set[ReleaseId | None]:
    """What could be exchanged in for ``current``."""
    return {layout.link_target(path) for path in (layout.state / "links").glob("current.*")}


def test_a_prune_killed_between_a_release_and_the_store(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spare links of the release that went are swept by recovery, the store by the next prune."""
    names = [release(f"v{number}") for number in range(4)]
    for name in names:
        go_live(session, context, name)
    stray = session.layout.files / "aa"
    stray.mkdir()
    (stray / ("a" * 64)).write_bytes(b"only a release that went needed it")
    with monkeypatch.context() as patched:
        patched.setattr(switch, "drop_spare", _killed)
        with pytest.raises(_Killed):
            prune.prune(session, 2)
    assert names[1] in spares(session.layout)
    recovery.recover(session)
    assert names[1] not in spares(session.layout)
    assert prune.prune(session, 2)["pruned"] == [names[0]]
    assert list(stray.iterdir()) == []
    assert prune.prune(session, 2)["store_files"] == 0


def test_a_loader_killed_while_it_kept_the_program(session: Session) -> None:
    """Its temporary file goes with the next run that takes the lock; the program stays."""
    programs = session.layout.programs
    (programs / ("b" * 64 + ".pyz")).touch()
    (programs / ("c" * 64 + ".pyz.4711")).touch()
    recovery.recover(session)
    assert [path.name for path in programs.iterdir()] == ["b" * 64 + ".pyz"]


def test_a_spare_that_was_exchanged_in_is_left_again(session: Session, context: Context, release: Make) -> None:
    """Gone back to on a full disk, then left behind with room again: that release can be gone back to once more."""
    old, new, newest = release("v1"), release("v2"), release("v3")
    go_live(session, context, old)
    go_live(session, context, new)
    switch._exchange(session.layout, session.layout.current, old)
    assert old not in spares(session.layout)
    go_live(session, context, newest)
    assert {old, new} <= spares(session.layout)


def test_a_folder_for_the_app_killed_before_it_was_opened(layout: Layout) -> None:
    """It is opened by the next run; one that an operator closed, and that somebody uses, stays as it is."""
    folder = layout.shared / "media"
    folder.mkdir(CLOSED)
    shared.make_folder(layout, "media")
    assert folder.stat().st_mode & 0o7777 == 0o2770
    (folder / "used").touch()
    folder.chmod(CLOSED)
    shared.make_folder(layout, "media")
    assert folder.stat().st_mode & 0o7777 == CLOSED


def test_a_release_killed_between_its_marker_and_its_record(session: Session, context: Context, release: Make) -> None:
    """Recovery writes down how it was staged, once."""
    made = release("v1")
    session.book.records[:] = [record for record in session.book.records if record["what"] != "staged"]
    for _ in range(2):
        recovery.recover(session)
        assert [r["release"] for r in session.book.records if r["what"] == "staged"] == [made]


def test_a_release_that_cannot_be_pruned_is_not_forgotten(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error before its marker went leaves it one that can be gone back to, and the next prune takes it."""
    names = [release(f"v{number}") for number in range(4)]
    for name in names:
        go_live(session, context, name)
    with monkeypatch.context() as patched:
        patched.setattr(prune, "unmark", _failing)
        with pytest.raises(OSError, match="read-only"):
            prune.prune(session, 2)
    assert fold(session.book.records).was_live(names[1])
    assert prune.prune(session, 2)["pruned"] == [names[1], names[0]]


class _Killed(BaseException):
    """As if killed: nothing catches it."""


def _failing(*_: object) -> None:
    raise OSError("read-only")


def _killed(*_: object) -> None:
    raise _Killed
