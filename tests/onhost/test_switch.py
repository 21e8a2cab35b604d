"""Point `current`: at every instant old or new, also on a disk without a free inode."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.onhost import switch
from deploy.onhost.layout import Layout
from deploy.onhost.switch import NotSwitched
from deploy.wire.names import ReleaseId

OLD, NEW, OLDER = ReleaseId("v1-01234567"), ReleaseId("v2-89abcdef"), ReleaseId("v0-00000000")


def leftovers(layout: Layout) -> list[str]:
    """What a switch should not leave behind."""
    return [path.name for path in layout.root.iterdir() if path.name.startswith((".current", ".previous"))]


def test_the_link_is_relative_and_reads_back(layout: Layout) -> None:
    """The contract of design 4: `current -> releases/ID`; a ROOT that is mounted elsewhere still works."""
    switch.point(layout, layout.current, NEW)
    assert str(layout.current.readlink()) == f"releases/{NEW}"
    switch.point(layout, layout.previous, OLD)
    assert layout.link_target(layout.previous) == OLD
    assert leftovers(layout) == []


def test_a_reader_never_finds_nothing_or_anything_else(layout: Layout) -> None:
    """A thread reads the link all the time while it is switched five hundred times."""
    switch.point(layout, layout.current, OLD)
    seen: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                seen.add(str(layout.current.readlink()))
            except OSError as error:
                seen.add(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(500):
        switch.point(layout, layout.current, NEW if number % 2 else OLD)
    ended.set()
    reader.join()
    assert seen == {f"releases/{OLD}", f"releases/{NEW}"}
    assert leftovers(layout) == []


@pytest.mark.parametrize("kind", ["folder", "file", "full folder"])
def test_a_current_that_is_no_link_is_refused_and_left_alone(layout: Layout, kind: str) -> None:
    """Where `ln -sfn` would link inside the folder and report success."""
    if kind == "file":
        layout.current.write_text("x")
    else:
        layout.current.mkdir()
    if kind == "full folder":
        (layout.current / "app.py").write_text("x")
    with pytest.raises(NotSwitched, match="not a symbolic link"):
        switch.point(layout, layout.current, NEW)
    assert not layout.current.is_symlink()
    assert leftovers(layout) == []


def test_withdrawing_leaves_nothing_live(layout: Layout) -> None:
    """And is fine when nothing was."""
    switch.point(layout, layout.current, NEW)
    switch.withdraw(layout)
    switch.withdraw(layout)
    assert not os.path.lexists(layout.current)


def test_spares_come_once_and_go_with_their_release(layout: Layout) -> None:
    """Staging the same release again finds them; without their release they are taken away; twice is fine."""
    for release in (OLD, NEW):
        layout.release(release).mkdir()
        switch.leave_spare(layout, release)
    switch.leave_spare(layout, NEW)
    layout.release(OLD).rmdir()
    switch.mend_spares(layout, [NEW])
    assert sorted(str(path.readlink()) for path in (layout.state / "links").iterdir()) == [f"releases/{NEW}"] * 2
    layout.release(NEW).rmdir()
    switch.mend_spares(layout, [])
    switch.mend_spares(layout, [])
    assert list((layout.state / "links").iterdir()) == []


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Layout]:
    """A ROOT on a real filesystem of forty inodes."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-o", "nr_inodes=40,size=4m"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "none", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    layout = Layout(folder)
    layout.make()
    yield layout
    subprocess.run(["umount", str(folder)], check=True)


def fill(layout: Layout) -> None:
    """Take every free inode."""
    with pytest.raises(OSError, match="No space"):
        for _ in range(100):
            (layout.tmp / f"x{time.monotonic_ns()}").symlink_to("x")


def test_without_a_free_inode_the_spare_is_exchanged_in(few_inodes: Layout) -> None:
    """A new link cannot be made; forth and back, and forth again, still work."""
    layout = few_inodes
    for release in (OLD, NEW):
        switch.leave_spare(layout, release)
    switch.point(layout, layout.current, NEW)
    fill(layout)
    for release in (OLD, NEW, OLD):
        switch.point(layout, layout.current, release)
        assert str(layout.current.readlink()) == f"releases/{release}"
        fill(layout)
    assert leftovers(layout) == []


def test_rollback_and_its_previous_need_no_free_inode(few_inodes: Layout) -> None:
    """`current` and then `previous`, again and again, with somebody taking every inode that comes free in between."""
    layout = few_inodes
    for release in (OLDER, OLD, NEW):
        switch.leave_spare(layout, release)
    switch.point(layout, layout.previous, OLDER)
    switch.point(layout, layout.current, NEW)
    now = NEW
    fill(layout)
    for release in (OLD, NEW, OLDER, OLD):
        switch.point(layout, layout.current, release)
        fill(layout)
        switch.point(layout, layout.previous, now)
        fill(layout)
        now = release
        assert layout.link_target(layout.current) == release


def test_without_a_spare_the_old_release_stays(few_inodes: Layout) -> None:
    """An error that says why, and `current` as it was."""
    layout = few_inodes
    switch.point(layout, layout.current, OLD)
    fill(layout)
    with pytest.raises(OSError, match="no spare link names v2"):
        switch.point(layout, layout.current, NEW)
    assert layout.link_target(layout.current) == OLD


def test_an_exchange_that_was_cut_off_misleads_nobody(few_inodes: Layout) -> None:
    """Killed between the exchange and giving the spare its new name: the next one goes by what links name."""
    layout = few_inodes
    for release in (OLDER, OLD, NEW):
        switch.leave_spare(layout, release)
    switch.point(layout, layout.current, OLD)
    links = layout.state / "links"
    (links / f"current.{NEW}").unlink()
    (links / f"current.{NEW}").symlink_to(f"releases/{OLDER}")  # what an exchange of OLDER for NEW leaves
    (links / f"current.{OLDER}").unlink()
    (links / f"current.{OLDER}").symlink_to(f"releases/{NEW}")
    fill(layout)
    switch.point(layout, layout.current, NEW)
    assert layout.link_target(layout.current) == NEW


def test_a_spare_under_the_wrong_name_is_mended(layout: Layout) -> None:
    """By the next stage of that release."""
    switch.leave_spare(layout, NEW)
    spare = layout.state / "links" / f"current.{NEW}"
    spare.unlink()
    spare.symlink_to(f"releases/{OLD}")
    switch.leave_spare(layout, NEW)
    assert layout.link_target(spare) == NEW


def test_a_first_switch_needs_no_free_inode_either(few_inodes: Layout) -> None:
    """Nothing to exchange with: the spare itself becomes the link."""
    layout = few_inodes
    switch.leave_spare(layout, NEW)
    fill(layout)
    switch.point(layout, layout.current, NEW)
    assert layout.link_target(layout.current) == NEW
