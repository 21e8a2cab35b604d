"""Where the events of a run go: live lines on a terminal, plain lines elsewhere, JSON lines if asked; always a log."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO

from deploy.errors import DeployError
from deploy.events import Emit, Event, FleetStep, HostBytes, HostStep, Notice, Progress, RunEnded, RunStarted
from deploy.report import records
from deploy.report.plain import Plain
from deploy.report.records import Records


class _Sink(Protocol):
    def __call__(self, event: Event) -> None: ...
    def failed(self, error: DeployError, started: RunStarted | None) -> None: ...
    def close(self) -> None: ...


@contextmanager
def sink(*, json: bool, verbose: bool) -> Generator[Emit, None, None]:
    """Give the Emit for one run: shows every event as it comes and writes all of them to the run's log file.

    The Emit may be called from several threads and never raises because nobody can read it any more: a closed pipe,
    a full disk or a lost terminal ends the showing, not the run. A DeployError that leaves the block closes the JSON
    lines with an ``error`` record, and the lines for people with the one that says stage and hosts; it is raised on.
    """
    opened = records.open_log()
    log = str(opened[1]) if opened else None
    sinks: list[_Sink] = [_screen(sys.stdout, json=json, verbose=verbose, log=log)]
    if opened:
        sinks.append(Records(opened[0], skip=(HostBytes, Progress)))  # too many, and each only the next one's prefix
    started: list[RunStarted] = []
    ended: list[RunEnded] = []

    def emit(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(event)
        elif isinstance(event, RunEnded):
            ended.append(event)
        for one in sinks:
            with suppress(OSError, ValueError):  # ValueError: a closed file, or a character that the locale cannot say
                one(event)

    try:
        yield emit
    except DeployError as error:
        for one in sinks:
            with suppress(OSError, ValueError):
                one.close()
                if not ended:
                    one.failed(error, started[0] if started else None)
        raise
    finally:
        for one in sinks:
            with suppress(OSError, ValueError):
                one.close()
        if opened:
            with suppress(OSError):
                opened[0].close()


@contextmanager
def quiet_sink(*, verbose: bool) -> Generator[Emit, None, None]:
    """Give the Emit of a command whose answer is a table or a document: only what needs attention, on stderr."""
    screen = Plain(sys.stderr, verbose=True)

    def emit(event: Event) -> None:
        troubled = isinstance(event, FleetStep | HostStep) and event.state in {"failed", "warned"}
        if verbose or troubled or isinstance(event, Notice):
            with suppress(OSError, ValueError):
                screen(event)

    yield emit


def is_terminal(out: TextIO) -> bool:
    """A terminal that can move its cursor."""
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _screen(out: TextIO, *, json: bool, verbose: bool, log: str | None) -> _Sink:
    if json:
        return Records(out)
    if is_terminal(out):
        from deploy.report.live import Live

        return Live(out, verbose=verbose, log=log)
    return Plain(out, verbose=verbose, log=log)
