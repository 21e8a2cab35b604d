"""Ten thousand races for one lock between real processes, kills of its holders, and what may lie at its path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.onhost import lock as locks
from deploy.onhost.lock import Busy, Lock, holder_of

TOP = Path(__file__).parents[2]
RACERS, ROUNDS, BATCH = 4, 1000, 10

RACER = """
import mmap, os, sys
from pathlib import Path
from deploy.onhost import lock as locks
from deploy.onhost.lock import Busy, Lock

folder, me, racers, rounds, batch = Path(sys.argv[1]), *map(int, sys.argv[2:])
paths = [folder / ("lock-%d" % number) for number in range(batch)]
fd = os.open(folder / "board", os.O_RDWR)
cells = memoryview(mmap.mmap(fd, 8 * racers * (batch + 1))).cast("q")
board, won = cells[:racers], cells[racers:]

def together(point):
    board[me] = point
    while min(board) < point:
        os.sched_yield()

wins = refused = 0
for round in range(rounds):
    held, saw = [], []
    together(3 * round + 1)
    for path in paths:
        lock = Lock(path)
        try:
            lock.take({"by": "racer-%d" % me, "verb": "deploy", "since": round})
            held.append(lock)
            saw.append(me)
        except Busy as busy:
            assert busy.holder["verb"] == "deploy" and busy.holder["since"] == round, busy.holder
            saw.append(int(busy.holder["by"].partition("-")[2]))
            refused += 1
    wins += len(held)
    for number, winner in enumerate(saw):
        won[number * racers + me] = winner
    together(3 * round + 2)
    for number, winner in enumerate(saw):
        assert set(won[number * racers : (number + 1) * racers]) == {winner}, "all saw the same one win"
    together(3 * round + 3)
    for lock in held:
        lock.release()
print(wins, refused)
"""


def test_ten_thousand_races_have_one_winner_each(tmp_path: Path) -> None:
    """Line 43: never two, never none, and each of the others is told who won, at what, since when."""
    (tmp_path / "board").write_bytes(bytes(8 * RACERS * (BATCH + 1)))
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    racers = [
        subprocess.Popen([*command, *map(str, (me, RACERS, ROUNDS, BATCH))], stdout=subprocess.PIPE, cwd=TOP, text=True)
        for me in range(RACERS)
    ]
    try:
        results = [tuple(map(int, racer.communicate(timeout=300)[0].split())) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert sum(wins for wins, _ in results) == ROUNDS * BATCH == 10_000
    assert sum(refused for _, refused in results) == ROUNDS * BATCH * (RACERS - 1)


def test_a_killed_holder_frees_it_at_once_a_hundred_times(tmp_path: Path) -> None:
    """Lines 1 and 7: by kill -9, while a child that it started lives on; and nobody is told the dead one's name."""
    path = tmp_path / "lock"
    daemons: list[int] = []
    try:
        for number in range(100):
            read, write = os.pipe()
            holder = os.fork()
            if holder == 0:
                Lock(path).take({"by": f"dead-{number}"})
                if number % 10 == 0:
                    daemon = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsid=True)
                    os.write(write, b"%d" % daemon)
                os.kill(os.getpid(), signal.SIGKILL)
            os.close(write)
            os.waitpid(holder, 0)
            daemons += [int(said) for said in [os.read(read, 20)] if said]
            os.close(read)
            assert f"dead-{number}".encode() in path.read_bytes()
            while number % 10 == 0 and holder_of(path) is not None:
                time.sleep(0.001)  # until execve(2) of the daemon has closed what is closed on exec
            assert holder_of(path) is None
            lock = Lock(path)
            lock.take({"by": "next"})
            assert (holder_of(path) or {})["by"] == "next"
            lock.release()
        for daemon in daemons:
            os.kill(daemon, 0)
        assert len(daemons) == 10
    finally:
        for daemon in daemons:
            os.kill(daemon, signal.SIGKILL)


def test_the_text_of_a_dead_holder_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who took it after a kill and could not write its name (a full disk) is not called by the dead one's."""
    path = tmp_path / "lock"
    script = "import sys; from pathlib import Path; from deploy.onhost.lock import Lock; Lock(Path(sys.argv[1])).take({'by': 'ann'}); import os; os._exit(9)"  # noqa: E501
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=TOP)
    assert b"ann" in path.read_bytes()
    lock = Lock(path)
    with monkeypatch.context() as patched:
        patched.setattr(locks.Lock, "_write", lambda *_: None)
        lock.take({"by": "bob"})
    with pytest.raises(Busy) as caught:
        Lock(path).take({})
    assert caught.value.holder == {"by": "unknown"}
    lock.release()


def test_who_was_refused_waits_a_moment_for_the_holders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between flock(2) and the text there is a gap, in which a killed holder's name still stands there."""
    path = tmp_path / "lock"
    lock = Lock(path)
    written: list[float] = []

    def late(seconds: float) -> None:
        if not written:
            written.append(seconds)
            lock._write(dict(locks._me(), by="bob"))

    with monkeypatch.context() as patched:
        patched.setattr(locks.Lock, "_write", lambda *_: None)
        lock.take({"by": "bob"})
    monkeypatch.setattr(locks.time, "sleep", late)
    with pytest.raises(Busy) as caught:
        Lock(path).take({})
    assert (caught.value.holder or {})["by"] == "bob"
    assert written
    lock.release()


def test_what_is_no_plain_file_of_ours_is_refused_at_once(tmp_path: Path) -> None:
    """Line 57: a FIFO keeps nobody waiting, a folder and a link lead nowhere; asking who holds it says nobody."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / "link").symlink_to(elsewhere)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    began = time.monotonic()
    for name in ("fifo", "folder", "link"):
        with pytest.raises(OSError, match=r"regular file|Is a directory|symbolic link"):
            Lock(tmp_path / name).take({"by": "x"})
        assert holder_of(tmp_path / name) is None
    assert time.monotonic() - began < 10
    assert elsewhere.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_lock_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    """Line 57: whoever owns the file could hold it for ever, or write what is shown."""
    path = tmp_path / "lock"
    path.write_text('{"by": "mallory"}')
    os.chown(path, 65534, 65534)
    with pytest.raises(OSError, match="belongs to nobody"):
        Lock(path).take({})
    assert path.read_text() == '{"by": "mallory"}'
