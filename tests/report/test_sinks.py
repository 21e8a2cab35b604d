"""What a run shows: in a pipe, as JSON lines, in its log, and when nobody reads it any more."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import deploy
from deploy import report
from deploy.errors import Failed
from deploy.events import Event, FleetStep, HostBytes, HostEnded, HostStep, Notice, Progress, RunEnded, RunStarted
from deploy.report.records import RUNS_KEPT

HOSTS = ("web-1", "web-2")
RUN: tuple[Event, ...] = (
    RunStarted("deploy", "production", HOSTS, tag="v1.1"),
    Notice("the working tree has changes; only the tag is shipped"),
    FleetStep("check and pack", "done", "30 files", 1.4),
    FleetStep("lock", "done", "", 0.2),
    FleetStep("stage", "started"),
    HostBytes("web-1", 10, 1000),
    HostBytes("web-1", 1000, 1000),
    HostStep("web-1", "unpack", "done", "12 files", 0.0, {"elapsed_s": 0.0}),
    HostStep("web-1", "build Django 5.2", "started"),
    HostStep("web-1", "build Django 5.2", "done", "", 12.31),
    HostStep("web-2", "health", "failed", "HTTP 500\n\x1b[31m[bold]Traceback[/bold]", 3.0),
    HostEnded("web-1", "returned", "to v1.0-aaaaaaaa"),
    RunEnded(
        "deploy",
        "production",
        3,
        "every host is back on its own previous release",
        21.04,
        problems=("web-2: health: HTTP 500",),
        next_step="fab status --stage production",
        tag="v1.1",
    ),
)
SHOWN = """\
deploy v1.1 | stage production | 2 hosts: web-1, web-2
note: the working tree has changes; only the tag is shipped
fleet: check and pack: done, 1.4 s: 30 files
fleet: stage: started
web-1: sent 1.0 kB
web-1: build Django 5.2: done, 12.3 s
web-2: health: FAILED, 3.0 s
web-2: | HTTP 500
web-2: | \\x1b[31m[bold]Traceback[/bold]
web-1: outcome returned: to v1.0-aaaaaaaa
verdict: every host is back on its own previous release
  - web-2: health: HTTP 500
next: fab status --stage production
log: {log}
deploy v1.1 | stage production | 2 hosts: web-1, web-2 | RETURNED (exit 3) | 21.0 s
"""


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of log files, out of the real home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "sealed-deploy" / "runs"


def test_plain_lines_in_a_pipe(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    """One event a line, the host first, no ANSI; first and last line name stage and hosts."""
    with report.sink(json=False, verbose=False) as emit:
        for event in RUN:
            emit(event)
    (log,) = runs.iterdir()
    assert capsys.readouterr().out == SHOWN.format(log=log)


def test_progress_in_a_pipe_is_its_end_and_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    """A long download says how far it is from time to time; the log file keeps none of it."""
    with report.sink(json=False, verbose=False) as emit:
        emit(Progress("small.whl", 10, 1000))
        emit(Progress("small.whl", 1000, 1000))
        emit(Progress("unknown.whl", 10, 0))
        emit(Progress("large.whl", 1_000_000, 9_000_000))
        monkeypatch.setattr("deploy.report.plain.STILL_S", 0.0)
        emit(Progress("large.whl", 4_000_000, 9_000_000))
    assert capsys.readouterr().out == "small.whl: 1.0 kB\nlarge.whl: 4.0 MB of 9.0 MB\n"
    (log,) = runs.iterdir()
    assert log.read_text() == ""


def test_verbose_tells_of_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    """`--verbose` adds the beginning of each host's steps, and those that took a moment."""
    with report.sink(json=False, verbose=True) as emit:
        emit(HostStep("web-1", "build", "started"))
        emit(HostStep("web-1", "build", "done", "", 0.3))
    assert capsys.readouterr().out == "web-1: build: started\nweb-1: build: done, 0.3 s\n"


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` gives one object a line and nothing else; every event is there with all its fields."""
    with report.sink(json=True, verbose=False) as emit:
        for event in RUN:
            emit(event)
    out = capsys.readouterr().out
    assert out.isascii()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["event"] for record in records] == [
        "run_started",
        "notice",
        "fleet_step",
        "fleet_step",
        "fleet_step",
        "host_bytes",
        "host_bytes",
        "host_step",
        "host_step",
        "host_step",
        "host_step",
        "host_ended",
        "run_ended",
    ]
    assert all(record["format"] == 1 for record in records)
    assert records[-1]["exit_code"] == 3
    assert records[-1]["hosts"] == []
    assert records[10]["detail"] == "HTTP 500\n\x1b[31m[bold]Traceback[/bold]"


def test_an_error_closes_the_json_lines(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    """A machine that reads stdout learns the error there too, and so does the log."""

    def run() -> None:
        with report.sink(json=True, verbose=False) as emit:
            emit(RUN[0])
            raise Failed("web-1 still serves v0", "disk full", "free space", problems=["a", "b"])

    with pytest.raises(Failed):
        run()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last.pop("at")
    assert last == {
        "format": 1,
        "event": "error",
        "what": "web-1 still serves v0",
        "why": "disk full",
        "problems": ["a", "b"],
        "next_step": "free space",
        "exit_code": 1,
    }
    (log,) = runs.iterdir()
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "error"


def test_the_log_is_whole_and_private(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every event but the ticks of an upload lies in a file of mode 0600, whatever the screen showed."""
    with report.sink(json=False, verbose=False) as emit:
        for event in RUN:
            emit(event)
    (log,) = runs.iterdir()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(runs.stat().st_mode) == 0o700
    assert len(log.read_text().splitlines()) == len(RUN) - 2


def test_old_logs_go(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder holds the newest runs only, by the time in their names."""
    runs.mkdir(parents=True)
    for number in range(RUNS_KEPT + 20):
        (runs / f"20200101T0000{number:02}-1.jsonl").write_text("")
    with report.sink(json=False, verbose=False):
        pass
    left = sorted(path.name for path in runs.iterdir())
    assert len(left) == RUNS_KEPT
    assert left[0] == "20200101T000021-1.jsonl"


def test_no_log_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing can be written the run goes on without a log."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with report.sink(json=False, verbose=False) as emit:
        for event in RUN:
            emit(event)
    assert "\nlog:" not in capsys.readouterr().out


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_reader_that_goes_away_does_not_stop_the_run(json_lines: bool) -> None:
    """`fab deploy | head -1` must not break a deploy in its middle: events go on being accepted."""
    code = (
        "import sys\nfrom deploy import report\nfrom deploy.events import Notice\n"
        f"with report.sink(json={json_lines}, verbose=False) as emit:\n"
        "    for n in range(20000): emit(Notice(f'number {n}'))\n"
        "    print('went on', file=sys.stderr)\n"
    )
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -1 >/dev/null', sys.executable, code],
        env={"PYTHONPATH": str(Path(deploy.__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr.splitlines()[0] == "went on"


def test_threads_do_not_mix_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Hosts report from threads of their own; every line stays whole."""
    with report.sink(json=False, verbose=False) as emit:

        def work(host: str) -> None:
            for number in range(200):
                emit(HostStep(host, f"step {number}", "done"))

        threads = [threading.Thread(target=work, args=(f"web-{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shown = capsys.readouterr().out.splitlines()
    assert sorted(shown) == sorted(f"web-{host}: step {number}: done" for host in range(8) for number in range(200))


def test_a_quiet_command_tells_only_of_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a table or a document, stdout stays clean; notes and failures go to stderr."""
    with report.quiet_sink(verbose=False) as emit:
        for event in RUN[:-1]:
            emit(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[:2] == [
        "note: the working tree has changes; only the tag is shipped",
        "web-2: health: FAILED, 3.0 s",
    ]
