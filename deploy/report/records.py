"""Events as JSON lines: what ``--json`` prints and what the log file of a run keeps, whole and unescaped but ASCII."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import TextIO

from deploy.errors import DeployError
from deploy.events import Event, RunStarted

FORMAT = 1
RUNS_KEPT = 50
"""Log files kept per user; enough for weeks of deploys, a few MB."""


def record(event: Event | DeployError) -> str:
    """One JSON object: ``format``, ``at`` (UTC), ``event`` (host_step, ... or error) and the event's own fields."""
    if isinstance(event, DeployError):
        fields: dict[str, object] = {
            "what": event.what,
            "why": event.why,
            "problems": event.problems,
            "next_step": event.next_step,
            "exit_code": int(event.exit_code),
        }
        name = "error"
    else:
        fields = dataclasses.asdict(event)
        name = re.sub(r"(?<!^)([A-Z])", r"_\1", type(event).__name__).lower()
    at = dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"format": FORMAT, "at": at, "event": name, **fields}, default=str)


class Records:
    """A sink that writes one record a line; may be called from several threads."""

    def __init__(self, out: TextIO, *, skip: type[Event] | tuple[type[Event], ...] = ()) -> None:
        self._out = out
        self._skip = skip
        self._lock = threading.Lock()

    def __call__(self, event: Event | DeployError) -> None:
        if isinstance(event, self._skip):
            return
        line = record(event) + "\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()

    def failed(self, error: DeployError, started: RunStarted | None) -> None:
        """Write the error that ended the run as its last record."""
        del started
        self(error)

    def close(self) -> None:
        pass


def state_folder() -> Path:
    """Where logs and bug reports lie: ``$XDG_STATE_HOME/sealed-deploy`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    home = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return home / "sealed-deploy"


def open_log() -> tuple[TextIO, Path] | None:
    """Open a new log file of mode 0600, dropping the oldest; None where that fails: a log never stops a run."""
    folder = state_folder() / "runs"
    path = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}.jsonl"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.jsonl"))[: -RUNS_KEPT + 1]:
            old.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return os.fdopen(descriptor, "a", encoding="utf-8"), path
