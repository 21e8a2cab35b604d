"""The live display, on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from io import StringIO
from pathlib import Path

import deploy
from deploy.events import HostStep, RunStarted
from deploy.report.live import Live

SCRIPT = """
import time
from deploy import report
from deploy.events import *
hosts = tuple(f"web-{n}" for n in range(1, COUNT + 1))
with report.sink(json=False, verbose=False) as emit:
    emit(RunStarted("deploy", "production", hosts, tag="v1.1"))
    emit(FleetStep("stage", "started"))
    for host in hosts:
        emit(HostBytes(host, 24_000_000, 48_000_000))
    time.sleep(1.0)
    for host in hosts:
        emit(HostBytes(host, 48_000_000, 48_000_000))
        emit(HostStep(host, "build [red]Django\\x1b[31m", "started"))
    time.sleep(1.0)
    emit(HostStep("web-1", "health", "failed", "HTTP 500\\n\\x1b]0;owned\\x07", 1.5))
    emit(RunEnded("deploy", "production", 3, "returned", 2.0, next_step="fab status", tag="v1.1"))
"""

FETCHING = """
import time
from deploy import report
from deploy.events import *
with report.sink(json=False, verbose=False) as emit:
    for n in range(1, COUNT + 1):
        emit(Progress(f"lib{n}-1.0.tar.gz", 24_000_000, 48_000_000))
    emit(Progress("lib1-1.0.tar.gz", 48_000_000, 48_000_000))
    time.sleep(0.6)
    emit(Notice("vendor/: done"))
"""


def test_telling_and_drawing_do_not_wait_for_each_other() -> None:
    """The table is drawn by a thread of its own, and hosts are told of by theirs: neither may hold up the other."""
    live = Live(StringIO(), verbose=True)
    live._console.__dict__.update(_force_terminal=True, is_interactive=True)
    hosts = tuple(f"web-{number}" for number in range(20))
    live(RunStarted("deploy", "production", hosts))

    def tell() -> None:
        for _ in range(5):
            for host in hosts:
                live(HostStep(host, "build", "started"))
                live(HostStep(host, "build", "done"))

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    deadline = time.monotonic() + 60
    drawing = threading.Thread(target=_draw, args=(live, telling), daemon=True)
    drawing.start()
    telling.join(deadline - time.monotonic())
    assert not telling.is_alive()
    live.close()


def _draw(live: Live, until: threading.Thread) -> None:
    while until.is_alive():
        live._live.refresh()


def _on_a_terminal(tmp_path: Path, count: int, rows: int = 24, *, script: str = SCRIPT, **environment: str) -> str:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    running = subprocess.Popen(
        [sys.executable, "-c", script.replace("COUNT", str(count))],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={
            "PYTHONPATH": str(Path(deploy.__file__).parents[1]),
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "XDG_STATE_HOME": str(tmp_path),
            "LINES": str(rows),
            "COLUMNS": "100",
            "PYTHONIOENCODING": "utf-8",
            **environment,
        },
    )
    os.close(theirs)
    seen = b""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other side has closed
                break
        elif running.poll() is not None:
            break
    os.close(ours)
    assert running.wait(timeout=60) == 0, seen.decode()
    return seen.decode()


def _text(seen: str) -> list[str]:
    """The screen's text without rich's own sequences; whatever else could act on a terminal would be left in it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).replace("\r", "\n").split("\n")


def test_one_line_per_host_and_a_clean_end(tmp_path: Path) -> None:
    """Hosts show their step and upload while they work; the end is the closing block, the cursor is back."""
    seen = _on_a_terminal(tmp_path, 3)
    shown = _text(seen)
    assert "deploy v1.1 | stage production | 3 hosts: web-1, web-2, web-3" in shown
    assert any(line.startswith("web-2") and "24.0 MB of 48.0 MB" in line for line in shown)
    assert any(line.startswith("web-3") and "build [red]Django\\x1b[31m" in line for line in shown)
    assert "web-1: health: FAILED, 1.5 s" in shown
    assert [line for line in shown if line][-1] == (
        "deploy v1.1 | stage production | 3 hosts: web-1, web-2, web-3 | RETURNED (exit 3) | 2.0 s"
    )
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")


def test_downloads_are_bars_until_they_are_whole(tmp_path: Path) -> None:
    """What is under way has a bar, within the screen; what is whole has none, and the end is clean."""
    seen = _on_a_terminal(tmp_path, 30, rows=20, script=FETCHING)
    shown = _text(seen)
    assert any(line.startswith("lib2-1.0.tar.gz") and "24.0 MB of 48.0 MB" in line for line in shown)
    assert not any("48.0 MB of 48.0 MB" in line or line.startswith("fleet") for line in shown)
    assert max(len(frame.split("\n")) for frame in seen.split("\x1b[1A")) <= 20
    assert "note: vendor/: done" in shown
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")


def test_host_output_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    """Sequences in a host's words are spelled out, markup is not read: no byte of them reaches the terminal raw."""
    seen = _on_a_terminal(tmp_path, 2)
    assert "\x1b]0;" not in seen
    assert "\x07" not in seen
    assert "web-1: | \\x1b]0;owned\\x07" in _text(seen)


def test_a_large_fleet_fits_the_screen(tmp_path: Path) -> None:
    """With more hosts than rows the display stays within the screen and says how many are not shown."""
    seen = _on_a_terminal(tmp_path, 60, rows=20)
    assert any("hosts more" in line for line in _text(seen))
    longest = max(len(frame.split("\n")) for frame in seen.split("\x1b[1A"))
    assert longest <= 20


def test_no_color_is_honoured(tmp_path: Path) -> None:
    """NO_COLOR (no-color.org) leaves out colours, which are there otherwise."""
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    assert colour.search(_on_a_terminal(tmp_path, 2))
    assert not colour.search(_on_a_terminal(tmp_path, 2, NO_COLOR="1"))


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    """TERM=dumb cannot move its cursor."""
    assert "\x1b" not in _on_a_terminal(tmp_path, 2, TERM="dumb")
