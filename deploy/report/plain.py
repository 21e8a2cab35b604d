"""Progress without a terminal: stable lines, one event each, the host first, no ANSI. For pipes, CI logs and grep."""

from __future__ import annotations

import threading
import time
from typing import TextIO

from deploy.errors import DeployError
from deploy.events import Event, Progress, RunEnded, RunStarted
from deploy.report.words import closing, describe, failed_line

STILL_S = 10.0
"""How often something that is still under way says how far it is."""


class Plain:
    """A sink of events; may be called from several threads."""

    def __init__(self, out: TextIO, *, verbose: bool, log: str | None = None) -> None:
        self._out = out
        self._verbose = verbose
        self._log = log
        self._lock = threading.Lock()
        self._hosts: tuple[str, ...] = ()
        self._told_at: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, RunStarted):
                self._hosts = event.hosts
            if isinstance(event, RunEnded):
                told = closing(event, self._hosts, self._log)
            else:
                told = describe(event, verbose=self._verbose or (isinstance(event, Progress) and self._is_due(event)))
            self._write(told)

    def _is_due(self, event: Progress) -> bool:
        now = time.monotonic()
        due = now - self._told_at.setdefault(event.what, now) >= STILL_S
        if due:
            self._told_at[event.what] = now
        return due

    def _write(self, told: list[str]) -> None:
        if told:
            # A locale that cannot say a character shows its escape; it never stops a line.
            encoding = self._out.encoding or "ascii"
            self._out.write("\n".join(told).encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._out.flush()

    def failed(self, error: DeployError, started: RunStarted | None) -> None:
        """Close the run that ``error`` ended. The error itself is the boundary's to print, on stderr."""
        if started:
            self._write([failed_line(started, error)])

    def close(self) -> None:
        pass
