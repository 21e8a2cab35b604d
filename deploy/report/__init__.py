"""The only place that prints: sinks for events, tables for answers, lines for errors. Decides and contacts nothing.

``sink`` picks live lines on a terminal, plain lines elsewhere, JSON lines where asked; a log of every event lies
beside it. rich is imported only when a terminal is there to draw on.
"""

from __future__ import annotations

import json as json_format
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from deploy.errors import DeployError
from deploy.events import Emit, Event, FleetStep, HostStep, Notice, RunEnded, RunStarted
from deploy.report import records, tables, words
from deploy.report.plain import Plain
from deploy.report.records import Records, state_folder
from deploy.report.text import hosts as hosts_in_words

__all__ = [
    "quiet_sink",
    "show_bug",
    "show_error",
    "show_releases",
    "show_sandbox",
    "show_status",
    "show_stopped",
    "sink",
    "state_folder",
]


class _Sink(Protocol):
    def __call__(self, event: Event) -> None: ...
    def close(self) -> None: ...


@contextmanager
def sink(*, json: bool, verbose: bool) -> Generator[Emit, None, None]:
    """Give the Emit for one run: shows every event as it comes and writes all of them to the run's log file.

    Safe to call from several threads. A DeployError that leaves the block ends the JSON lines with an ``error``
    record, and on a screen with the line that says which stage and hosts it was about; it is raised on.
    """
    opened = records.open_log()
    log = str(opened[1]) if opened else None
    screen = _screen(sys.stdout, json=json, verbose=verbose, log=log)
    file = Records(opened[0]) if opened else None
    started: list[RunStarted] = []
    ended: list[RunEnded] = []

    def emit(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(event)
        if isinstance(event, RunEnded):
            ended.append(event)
        if file:
            file(event)
        screen(event)

    try:
        yield emit
    except DeployError as error:
        screen.close()
        if file:
            file(error)
        if isinstance(screen, Records):
            screen(error)
        elif started and not ended:
            run = started[0]
            where = words.line_of_run(run.verb, run.tag or run.release, run.stage, run.hosts)
            print(f"{where} | {words.exit_word(error.exit_code)}", flush=True)
        raise
    finally:
        screen.close()
        if opened:
            opened[0].close()


@contextmanager
def quiet_sink(*, verbose: bool) -> Generator[Emit, None, None]:
    """Give the Emit of a command whose answer is a table or a document: only what needs attention, on stderr."""
    screen = Plain(sys.stderr, verbose=True)

    def emit(event: Event) -> None:
        troubled = isinstance(event, FleetStep | HostStep) and event.state in {"failed", "warned"}
        if verbose or troubled or isinstance(event, Notice):
            screen(event)

    yield emit


def show_status(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print what is live on each host."""
    _show(answer, tables.STATUS_COLUMNS, tables.status_rows(answer), json=json)


def show_releases(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print the releases on each host, newest first."""
    _show(answer, tables.RELEASES_COLUMNS, tables.releases_rows(answer), json=json)


def show_sandbox(hosts: Sequence[Mapping[str, Any]]) -> None:
    """Print the sandbox hosts, one a line, or that there is none."""
    if hosts:
        print("\n".join(tables.aligned(tables.SANDBOX_COLUMNS, tables.sandbox_rows(hosts))))
    else:
        print("no sandbox host; start three: fab sandbox.up")


def show_stopped(hosts: Sequence[Mapping[str, Any]]) -> None:
    """Print which sandbox hosts were stopped."""
    print(f"stopped {hosts_in_words([str(host.get('name')) for host in hosts])}")


def show_error(error: DeployError) -> None:
    """Print an expected error on stderr: what is true now, why, every problem, the next command."""
    sys.stdout.flush()
    print("\n".join(words.describe_error(error)), file=sys.stderr, flush=True)


def show_bug(command: str, error: BaseException, saved: Path) -> None:
    """Print where a bug's traceback was saved and how to report it."""
    sys.stdout.flush()
    print(
        f"{command}: a bug in sealed-deploy ({type(error).__name__}); what is live is not known from here: fab status\n"
        f"the traceback was saved: {saved}\n"
        "to report it, send that file (secrets are redacted; look before you send) and the command you ran",
        file=sys.stderr,
        flush=True,
    )


def _screen(out: TextIO, *, json: bool, verbose: bool, log: str | None) -> _Sink:
    if json:
        return Records(out)
    if is_terminal(out):
        from deploy.report.live import Live

        return Live(out, verbose=verbose, log=log)
    return Plain(out, verbose=verbose, log=log)


def is_terminal(out: TextIO) -> bool:
    """A terminal that can move its cursor."""
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _show(answer: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]], *, json: bool) -> None:
    if json:
        print(json_format.dumps(answer, indent=2, sort_keys=True))
        return
    names = tables.host_names(answer)
    print(words.line_of_run("releases" if "TAG" in columns else "status", None, str(answer.get("stage")), names))
    if is_terminal(sys.stdout):
        from deploy.report.drawn import draw

        draw(columns, rows)
    else:
        print("\n".join(tables.aligned(columns, rows)))
    for line in tables.remarks(answer):
        print(line)
