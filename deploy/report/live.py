"""Progress on a terminal, by rich: one live line per host, and above it the lines worth keeping."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.errors import DeployError
from deploy.events import Event, FleetStep, HostBytes, HostEnded, HostStep, Progress, RunEnded, RunStarted
from deploy.report.text import duration, escape, size
from deploy.report.words import closing, describe, failed_line, far

_STYLES = {"done": "green", "failed": "bold red", "warned": "yellow"}
_ROWS_BELOW = 6
"""Terminal rows left to what is not a host's line."""


@dataclass
class _Host:
    name: str
    step: str = ""
    state: str = "waiting"
    since: float = field(default_factory=time.monotonic)
    sent: int = 0
    total: int = 0
    ended: bool = False


class Live:
    """A sink of events for a terminal; may be called from several threads. ``close`` leaves the terminal clean."""

    def __init__(self, out: TextIO, *, verbose: bool, log: str | None = None) -> None:
        self._console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._verbose = verbose
        self._log = log
        # rich's own lock is held while it asks for the table: so ours must be free whenever rich is called.
        self._telling = threading.RLock()
        self._lock = threading.RLock()
        self._hosts: dict[str, _Host] = {}
        self._fleet = _Host("fleet")
        self._under_way: dict[str, Progress] = {}
        self._live = RichLive(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        with self._telling:
            with self._lock:
                self._note(event)
            told = closing(event, tuple(self._hosts), self._log) if isinstance(event, RunEnded) else self._kept(event)
            if isinstance(event, RunEnded):
                self.close()
            for at, line in enumerate(told):
                # Of the closing block only the verdict and the last line, which says where, are set off.
                plain = isinstance(event, RunEnded) and 0 < at < len(told) - 1
                self._console.print(Text(line, style="" if plain else _style(event)))
            if isinstance(event, RunStarted | Progress):
                self._live.start()

    def failed(self, error: DeployError, started: RunStarted | None) -> None:
        """Close the run that ``error`` ended. The error itself is the boundary's to print, on stderr."""
        self.close()
        if started:
            self._console.print(Text(failed_line(started, error), style="bold red"))

    def close(self) -> None:
        self._live.stop()

    def _kept(self, event: Event) -> list[str]:
        if isinstance(event, HostStep | FleetStep) and event.state == "started":
            return []
        if isinstance(event, HostStep) and event.state == "done" and not self._verbose:
            return []
        if isinstance(event, HostBytes | Progress) and not self._verbose:
            return []
        return describe(event, verbose=self._verbose)

    def _note(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._hosts = {name: _Host(name) for name in event.hosts}
            case FleetStep():
                _move(self._fleet, event)
            case HostStep():
                _move(self._host(event.host), event)
            case HostBytes():
                host = self._host(event.host)
                host.sent, host.total = event.sent, event.total
            case Progress():
                self._under_way[event.what] = event
                if event.is_whole:
                    del self._under_way[event.what]
            case HostEnded():
                host = self._host(event.host)
                host.step, host.state, host.ended = event.outcome, "ended", True
            case _:
                pass

    def _host(self, name: str) -> _Host:
        return self._hosts.setdefault(name, _Host(name))

    def _render(self) -> Group:
        with self._lock:
            room = max(1, self._console.height - _ROWS_BELOW)
            # Whoever is at work or failed comes first where the screen cannot hold the whole fleet.
            order = list(self._hosts.values())
            if len(order) > room:
                order.sort(key=lambda host: (host.ended, host.state == "done", host.state == "waiting"))
            table = Table.grid(padding=(0, 2))
            for host in [self._fleet, *order[:room]] if self._hosts else []:
                table.add_row(*_row(host))
            for progress in list(self._under_way.values())[:room]:
                table.add_row(*_bar(progress))
            more = [Text(f"... and {len(order) - room} hosts more", style="dim")] if len(order) > room else []
            return Group(table, *more)


def _move(line: _Host, event: FleetStep | HostStep) -> None:
    line.step, line.state, line.since = event.step, event.state, time.monotonic()


def _row(host: _Host) -> list[Text | ProgressBar]:
    sending = host.total > 0 and host.sent < host.total
    elapsed = "" if host.ended or host.state != "started" else duration(time.monotonic() - host.since)
    return [
        Text(escape(host.name, 30), style="bold"),
        Text(escape(host.step, 50) or "waiting", style=_STYLES.get(host.state, "")),
        ProgressBar(total=host.total, completed=host.sent, width=20) if sending else Text(""),
        Text(f"{size(host.sent)} of {size(host.total)}" if sending else ""),
        Text(elapsed, style="dim"),
    ]


def _bar(progress: Progress) -> list[Text | ProgressBar]:
    bar = ProgressBar(total=progress.total or None, completed=progress.done, width=20)
    return [Text(escape(progress.what, 50), style="bold"), bar, Text(far(progress))]


def _style(event: Event) -> str:
    match event:
        case RunStarted():
            return "bold"
        case RunEnded():
            return "bold green" if event.exit_code == 0 else "bold red"
        case FleetStep() | HostStep():
            return _STYLES.get(event.state, "")
        case _:
            return ""
