"""One mutating run at a time: the kernel decides, the text is for people."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.onhost import lock as locks
from deploy.onhost.lock import HOLDER_BYTES, Busy, Lock, holder_of

RACER = """
import sys, time
from pathlib import Path
from deploy.onhost import lock as locks
from deploy.onhost.lock import Busy, Lock
path, log, rounds, me = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
won = 0
for round in range(rounds):
    print("ready", flush=True)
    sys.stdin.readline()
    lock = Lock(path)
    try:
        lock.take({"by": me})
    except Busy as busy:
        assert busy.holder is not None
        print("lost", flush=True)
        sys.stdin.readline()
    else:
        print("won", flush=True)
        sys.stdin.readline()
        lock.release()
"""


def test_two_processes_race_and_exactly_one_wins_each_time(tmp_path: Path) -> None:
    """Two hundred starts at the same moment: never both, never neither."""
    command = [sys.executable, "-c", RACER, str(tmp_path / "lock"), "", "200"]
    racers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for name in ("ann", "bob")
    ]

    def said() -> list[str]:
        return [racer.stdout.readline().strip() for racer in racers if racer.stdout]

    def go() -> None:
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("\n")

    results = []
    for _ in range(200):
        assert said() == ["ready", "ready"]
        go()
        results.append(sorted(said()))
        go()
    assert results == [["lost", "won"]] * 200
    for racer in racers:
        racer.communicate(timeout=10)
        assert racer.returncode == 0


def test_the_refused_one_is_told_who_holds_it(tmp_path: Path) -> None:
    """And since when, for what: whatever the holder wrote."""
    holder = {"by": "ann@laptop", "run": "r1", "verb": "deploy", "since": 1}
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.take(holder)
    with pytest.raises(Busy) as caught:
        second.take({"by": "bob"})
    told = caught.value.holder or {}
    assert told.pop("held_s") >= 0
    assert told == holder
    assert (holder_of(tmp_path / "lock") or {}).items() >= holder.items()
    assert (first.is_held, second.is_held) == (True, False)
    first.release()
    assert holder_of(tmp_path / "lock") is None
    second.take({"by": "bob"})
    assert (holder_of(tmp_path / "lock") or {})["by"] == "bob"
    second.release()


def test_asking_who_holds_it_never_takes_it(tmp_path: Path) -> None:
    """No file is made, and one that lies there free has no holder whatever its text says."""
    assert holder_of(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists()
    (tmp_path / "lock").write_text('{"by": "a dead run"}')
    assert holder_of(tmp_path / "lock") is None


def test_a_holder_is_known_where_the_kernels_list_names_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on overlayfs and btrfs: the process that wrote itself down runs. Once it ended, its text says nothing."""
    monkeypatch.setattr(locks, "_is_locked", lambda _: False)
    path, script = tmp_path / "lock", (
        "import sys; from pathlib import Path; from deploy.onhost.lock import Lock\n"
        "Lock(Path(sys.argv[1])).take({'by': 'ann'}); print(flush=True); sys.stdin.read()"
    )  # fmt: skip
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    assert (holder_of(path) or {})["by"] == "ann"
    holder.kill()
    holder.communicate()
    assert b"ann" in path.read_bytes()
    assert holder_of(path) is None


@pytest.mark.parametrize("text", [b"", b"not json", b"[]", b"\xff\xff", b"{}"])
def test_a_holder_whose_text_cannot_be_read_is_still_a_holder(tmp_path: Path, text: bytes) -> None:
    """The kernel's lock counts; its name is then unknown."""
    path = tmp_path / "lock"
    lock = Lock(path)
    lock.take({"by": "ann"})
    path.write_bytes(text)
    assert holder_of(path) == {"by": "unknown"}
    with pytest.raises(Busy):
        Lock(path).take({})
    lock.release()


def test_a_holder_that_does_not_fit_keeps_the_file_at_its_size(tmp_path: Path) -> None:
    """The file never grows, so that writing it needs no free space later."""
    path = tmp_path / "lock"
    lock = Lock(path)
    lock.take({"by": "x" * 5000, "job": "\N{SNOWMAN}" * 900, "verb": "deploy"})
    assert path.stat().st_size == HOLDER_BYTES
    told = holder_of(path) or {}
    assert (told["verb"], told["by"][:9]) == ("deploy", "xxxxxxxxx")
    lock.release()
    assert path.stat().st_size == HOLDER_BYTES


def test_the_lock_goes_with_its_process_even_by_kill_nine(tmp_path: Path) -> None:
    """And is not held on by a child that outlives it."""
    path = tmp_path / "lock"
    script = (
        "import subprocess, sys, os; from pathlib import Path; from deploy.onhost.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1])); lock.take({'by': 'ann'})\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False, start_new_session=True, stdout=-3)\n"
        "print(child.pid, flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(Busy):
            Lock(path).take({})
        holder.kill()
        holder.communicate()
        os.kill(child, 0)
        lock = Lock(path)
        lock.take({"by": "bob"})
        lock.release()
    finally:
        os.kill(child, 9)


def test_line_57_the_file_is_never_deleted_and_a_link_is_not_followed(tmp_path: Path) -> None:
    """Deleting it would let two in; a planted link would let another file be written."""
    lock = Lock(tmp_path / "lock")
    lock.take({})
    inode = (tmp_path / "lock").stat().st_ino
    lock.release()
    assert (tmp_path / "lock").stat().st_ino == inode
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        Lock(tmp_path / "link").take({})
    assert not (tmp_path / "elsewhere").exists()


def test_a_filesystem_whose_locks_keep_nobody_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network filesystems are: refused, since two operators would both believe to be alone."""
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
    lock = Lock(tmp_path / "lock")
    with pytest.raises(OSError, match="locks keep nobody out"):
        lock.take({"by": "ann"})
    assert not lock.is_held
