"""The host's own record: whole lines, numbers that only grow, readable after any crash, writable on a full disk."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.onhost import journal as journals
from deploy.onhost.journal import Journal, NewerFormat, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal will be."""
    return tmp_path / "journal.jsonl"


def test_records_come_back_in_order_with_run_and_number(path: Path) -> None:
    """Two runs, one after the other: the second goes on counting where the first ended."""
    Journal(path, "one").append("lock", by="ann")
    second = Journal(path, "two")
    second.append("lock", by="bob")
    second.append("staged", release="v1-01234567")
    assert [(r["seq"], r["run"], r["what"]) for r in read(path)] == [
        (1, "one", "lock"),
        (2, "two", "lock"),
        (3, "two", "staged"),
    ]
    assert read(path) == second.records
    assert all(r["format"] == journals.FORMAT for r in read(path))


def test_no_journal_yet_is_an_empty_one(path: Path) -> None:
    """Reading never makes it."""
    assert read(path) == []
    assert not path.exists()


def test_only_its_owner_may_read_it(path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        Journal(path, "r")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_torn_at_any_byte_loses_only_itself(path: Path) -> None:
    """Cut anywhere in the last record: all before it is read, the next record is whole, the next number fits."""
    book = Journal(path, "one")
    book.append("a")
    whole = path.stat().st_size
    book.append("b", text="some more")
    data = path.read_bytes()
    for cut in range(whole, len(data)):
        path.write_bytes(data[:cut])
        again = Journal(path, "two")
        again.append("c")
        found = [(r["seq"], r["what"]) for r in read(path)]
        # Cut right before its newline the record was whole already.
        assert found == ([(1, "a"), (2, "b"), (3, "c")] if cut == len(data) - 1 else [(1, "a"), (2, "c")]), cut


@pytest.mark.parametrize(
    "junk",
    [
        b"\0\0\0\0\0\0\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"7\n",
        b'{"what":"x"}\n',
        b'{"seq":"1"}\n',
        b"\n\n",
    ],
)
def test_lines_that_are_no_records_are_skipped(path: Path, junk: bytes) -> None:
    """Zeroed blocks after a power cut, and anything else that is not ours."""
    Journal(path, "one").append("a")
    with path.open("ab") as file:
        file.write(junk)
    Journal(path, "two").append("b")
    assert [r["what"] for r in read(path)] == ["a", "b"]


def test_a_newer_format_is_refused_before_anything_is_written(path: Path) -> None:
    """Readers take all older formats; a newer one means that this program does not know what happened."""
    path.write_text(json.dumps({"format": journals.FORMAT + 1, "seq": 1, "what": "lock"}) + "\n")
    before = path.read_bytes()
    with pytest.raises(NewerFormat, match="upgrade"):
        read(path)
    with pytest.raises(NewerFormat):
        Journal(path, "r")
    assert path.read_bytes() == before


def test_a_link_planted_in_its_place_is_not_written_through(path: Path) -> None:
    """O_NOFOLLOW: what it points at stays as it was."""
    target = path.with_name("elsewhere")
    target.write_text("")
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        Journal(path, "r")
    assert target.read_text() == ""


def test_every_record_is_durable_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each fsync(2) the whole record is already in the file."""
    seen: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        seen.append(len(read(path)))
        real(fd)

    book = Journal(path, "r")
    monkeypatch.setattr(os, "fsync", fsync)
    for number in range(3):
        book.append("x")
        assert seen[-1] == number + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real ext4 of eight megabytes, mounted through a loop device."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], capture_output=True, check=False)
    if (
        made.returncode
        or subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True).returncode
    ):
        pytest.skip("no mkfs.ext4, or mounting a loop device is not allowed here")
    yield folder
    subprocess.run(
        ["umount", "--lazy", str(folder)],  # a journal has no close: its process ends
        check=True,
    )


def fill(folder: Path) -> None:
    """Leave not one free block."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def test_a_full_disk_still_takes_what_a_rollback_writes(small_disk: Path) -> None:
    """Space is reserved behind the end while there is room; twenty records fit when nothing else does."""
    path = small_disk / "journal.jsonl"
    book = Journal(path, "r")
    fill(small_disk)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(b"x" * 4096)
    for number in range(20):
        book.append("switch", to="v1-01234567", number=number, operator={"health": "x" * 2000})
    assert len(read(path)) == 20


def test_what_could_not_be_made_durable_is_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed fsync is never retried into success: this run goes on as if it had not said it, under a new number."""
    journal = Journal(tmp_path / "journal.jsonl", "run-1")

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output error"):
            journal.append("confirmed", release="v1-00000000")
    assert journal.records == []
    assert journal.append("lock")["seq"] == 2
    journal.close()
