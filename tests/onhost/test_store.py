"""Content by sha256: what is there was hashed on the way in and is hashed on the way out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from deploy.onhost import store as stores
from deploy.onhost.layout import Layout
from deploy.onhost.store import Store, WrongContent
from deploy.wire.names import Sha256

DATA = b"some archive" * 1000
DIGEST = Sha256(hashlib.sha256(DATA).hexdigest())
SIZES = {DIGEST: len(DATA)}
OTHER = Sha256("0" * 64)


@pytest.fixture
def store(layout: Layout) -> Store:
    """An empty store."""
    return Store(layout)


def everything(layout: Layout) -> list[Path]:
    """Every file below `.deploy`, temporary ones included."""
    return [path for path in layout.state.rglob("*") if path.is_file()]


def test_received_content_can_be_read_by_its_digest(store: Store) -> None:
    """In whatever pieces it came, read-only, for its owner alone."""
    store.receive(DIGEST, iter([DATA[:5], b"", DATA[5:]]))
    assert store.read(DIGEST) == DATA
    assert store.path(DIGEST).stat().st_mode & 0o777 == 0o400


def test_wrong_content_leaves_nothing(store: Store, layout: Layout) -> None:
    """One byte off, and neither the digest nor a temporary file is there."""
    with pytest.raises(WrongContent, match=DIGEST):
        store.receive(DIGEST, iter([DATA[:-1] + b"!"]))
    assert everything(layout) == []
    assert store.lacks([DIGEST], SIZES) == [DIGEST]


def test_a_line_that_dies_in_the_middle_leaves_nothing(store: Store, layout: Layout) -> None:
    """Whatever ends the pieces early."""

    def pieces() -> Iterator[bytes]:
        yield DATA[:100]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store.receive(DIGEST, pieces())
    assert everything(layout) == []


def test_altered_content_is_dropped_and_asked_for_again(store: Store) -> None:
    """A flipped byte on disk is found when it would be used, never used."""
    store.receive(DIGEST, iter([DATA]))
    store.path(DIGEST).chmod(0o600)
    store.path(DIGEST).write_bytes(DATA[:-1] + b"!")
    with pytest.raises(WrongContent, match="altered"):
        store.read(DIGEST)
    assert store.lacks([DIGEST], SIZES) == [DIGEST]


def test_what_is_lacked_is_told_once_and_in_order(store: Store) -> None:
    """An archive that two targets use is asked for once."""
    store.receive(DIGEST, iter([DATA]))
    first, second = Sha256("f" * 64), Sha256("1" * 64)
    assert store.lacks([first, DIGEST, second, first], {**SIZES, first: 1, second: 1}) == [first, second]


def test_what_a_power_cut_emptied_is_asked_for_again(store: Store) -> None:
    """A blob of the wrong size is lacking, and all wrong content goes at once when one is found."""
    store.receive(DIGEST, iter([DATA]))
    store.path(DIGEST).chmod(0o600)
    store.path(DIGEST).write_bytes(b"")
    assert store.lacks([DIGEST], SIZES) == [DIGEST]
    assert (store.drop_wrong(SIZES), store.drop_wrong(SIZES)) == (1, 0)


def test_a_link_in_the_store_is_not_followed(store: Store, tmp_path: Path) -> None:
    """Not even where what it points at has the digest."""
    (tmp_path / "secret").write_bytes(DATA)
    store.path(DIGEST).parent.mkdir()
    store.path(DIGEST).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        store.read(DIGEST)
    assert (tmp_path / "secret").exists()


def test_copies_are_files_of_their_own(store: Store, tmp_path: Path) -> None:
    """Never hard links: writing one cannot change the store or another release. Modes as asked."""
    store.receive(DIGEST, iter([DATA]))
    before = os.umask(0o077)
    try:
        store.copy_to(DIGEST, tmp_path / "copy", 0o755)
    finally:
        os.umask(before)
    assert (tmp_path / "copy").read_bytes() == DATA
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "copy").stat().st_ino != store.path(DIGEST).stat().st_ino
    (tmp_path / "copy").write_bytes(b"changed")
    assert store.read(DIGEST) == DATA


def test_a_copy_never_replaces_or_follows_what_is_there(store: Store, tmp_path: Path) -> None:
    """Unpacking into a fresh folder, so anything in the way was planted."""
    store.receive(DIGEST, iter([DATA]))
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        store.copy_to(DIGEST, tmp_path / "link", 0o644)
    assert not (tmp_path / "elsewhere").exists()


def test_absent_content_is_an_error_of_the_filesystem(store: Store) -> None:
    """The caller says which step it was."""
    with pytest.raises(FileNotFoundError):
        store.read(OTHER)


def test_content_that_is_exchanged_while_it_is_used_is_noticed(store: Store, tmp_path: Path) -> None:
    """Written over in place or replaced between being checked and being used: what comes out is right, or refused."""
    evil, stop = DATA[:-1] + b"!", threading.Event()
    path = store.path(DIGEST)

    def exchange() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                path.parent.mkdir(exist_ok=True)
                for data in (evil, DATA):
                    path.write_bytes(data)  # the same inode
                    (tmp_path / "other").write_bytes(data)
                    (tmp_path / "other").replace(path)  # another one

    thread = threading.Thread(target=exchange)
    thread.start()
    refused = used = 0
    try:
        while (refused < 20 or used < 20) and refused + used < 20_000:
            target = tmp_path / "copy"
            try:
                store.copy_to(DIGEST, target, 0o644)
                assert target.read_bytes() == DATA
                target.unlink()
                assert store.read(DIGEST) == DATA
                used += 1
            except (WrongContent, FileNotFoundError):
                refused += 1
                assert not target.exists()
    finally:
        stop.set()
        thread.join()
    assert refused
    assert used


def test_content_that_changes_after_it_was_copied_is_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is hashed, not what was read: a copy made of something else never stays."""
    store.receive(DIGEST, iter([DATA]))
    copied = stores.clone_or_copy

    def swapped(source: BinaryIO, target: BinaryIO) -> None:
        store.path(DIGEST).chmod(0o600)
        store.path(DIGEST).write_bytes(DATA[:-1] + b"!")
        copied(source, target)

    monkeypatch.setattr(stores, "clone_or_copy", swapped)
    with pytest.raises(WrongContent, match="altered"):
        store.copy_to(DIGEST, tmp_path / "copy", 0o644)
    assert not (tmp_path / "copy").exists()
    assert not store.path(DIGEST).exists()
