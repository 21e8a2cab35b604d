"""What a release holds, by path, kind and digest: any change of it is found and named."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.onhost import inventory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one of each kind."""
    made = tmp_path / "release"
    (made / "sub/empty").mkdir(parents=True)
    (made / "file").write_text("content")
    (made / "sub/run").write_text("#!/bin/sh\n")
    (made / "sub/run").chmod(0o755)
    (made / "link").symlink_to("sub/run")
    (made / "dangling").symlink_to("nowhere")
    return made


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda at: (at / "file").write_text("Content"), "altered: file"),
    "a file gone": (lambda at: (at / "file").unlink(), "missing: file"),
    "a file more": (lambda at: (at / "sub/new").write_text(""), "not ours: sub/new"),
    "an empty folder gone": (lambda at: (at / "sub/empty").rmdir(), "missing: sub/empty"),
    "an empty folder more": (lambda at: (at / "other").mkdir(), "not ours: other"),
    "no longer executable": (lambda at: (at / "sub/run").chmod(0o644), "altered: sub/run"),
    "now executable": (lambda at: (at / "file").chmod(0o755), "altered: file"),
    "a link elsewhere": (
        lambda at: ((at / "link").unlink(), (at / "link").symlink_to("/etc/passwd")),
        "altered: link",
    ),
    "a file made a link to equal content": (
        lambda at: ((at / "file").rename(at.parent / "kept"), (at / "file").symlink_to("../kept")),
        "altered: file",
    ),
    "a link made a file": (lambda at: ((at / "link").unlink(), (at / "link").write_text("sub/run")), "altered: link"),
    "a pipe": (lambda at: os.mkfifo(at / "pipe"), "neither a file, a folder nor a link"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_and_named(folder: Path, what: str) -> None:
    """One line that says which path and how; before the change there was none."""
    change, line = CHANGES[what]
    listed = inventory.take(folder)
    assert inventory.differences(folder, listed) == []
    change(folder)
    (found,) = inventory.differences(folder, listed)
    assert line in found


def test_touching_without_changing_is_no_difference(folder: Path) -> None:
    """Times and owners of a backup that was restored do not matter, content does."""
    listed = inventory.take(folder)
    os.utime(folder / "file", (1, 1))
    assert inventory.differences(folder, listed) == []


def test_the_list_is_sorted_and_holds_every_kind(folder: Path) -> None:
    """Two listings of equal folders are equal, so markers can be compared."""
    listed = inventory.take(folder)
    assert [entry[0] for entry in listed] == sorted(entry[0] for entry in listed)
    assert {entry[0]: entry[1] for entry in listed} == {
        "file": "f", "sub": "d", "sub/empty": "d", "sub/run": "x", "link": "l", "dangling": "l",
    }  # fmt: skip


def test_names_that_are_not_utf_8_are_listed(folder: Path) -> None:
    """And found again when they change."""
    odd = os.fsdecode(b"caf\xe9\n")
    (folder / odd).write_text("x")
    listed = inventory.take(folder)
    assert inventory.differences(folder, listed) == []
    (folder / odd).unlink()
    assert inventory.differences(folder, listed) == [f"missing: {odd}"]


def test_the_marker_itself_can_be_left_out(folder: Path) -> None:
    """It is written after the list that it holds; a file of that name deeper down still counts."""
    listed = inventory.take(folder)
    (folder / "release.json").write_text("{}")
    assert inventory.differences(folder, listed, leave_out=("release.json",)) == []
    (folder / "sub/release.json").write_text("{}")
    assert inventory.differences(folder, listed, leave_out=("release.json",)) == ["not ours: sub/release.json"]


def test_sockets_and_pipes_cannot_be_part_of_a_release(folder: Path) -> None:
    """They have no content to hash."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        with pytest.raises(OSError, match="neither"):
            inventory.take(folder)


def test_at_most_twenty_lines(folder: Path) -> None:
    """An operator reads the first ones; a thousand more help nobody."""
    listed = inventory.take(folder)
    for number in range(50):
        (folder / f"new{number}").write_text("")
    assert len(inventory.differences(folder, listed)) == 20


def test_write_bits_go_and_modes_become_two(folder: Path, tmp_path: Path) -> None:
    """0444 and 0555, set-user-id and odd bits included; what links point at outside is left alone."""
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o666)
    (folder / "out").symlink_to(outside)
    (folder / "file").chmod(0o4666)
    (folder / "sub/run").chmod(0o700)
    (folder / "sub").chmod(0o2777)
    inventory.take_write_bits(folder)
    found = {str(p.relative_to(folder)): p.stat().st_mode & 0o7777 for p in folder.rglob("*") if not p.is_symlink()}
    assert found == {"file": 0o444, "sub": 0o555, "sub/run": 0o555, "sub/empty": 0o555}
    assert folder.stat().st_mode & 0o777 == 0o555
    assert outside.stat().st_mode & 0o777 == 0o666
    for path in (folder, folder / "sub", folder / "sub/empty"):
        path.chmod(0o755)
