"""The real ``fab`` executable on a project: run to its end, or held at an event while something happens to it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import deploy

FAB = Path(sys.executable).with_name("fab")
LIBRARY = Path(deploy.__file__).parents[1]
Record = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and every event that it told as JSON."""

    code: int
    out: str
    err: str
    records: list[Record] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that an operator could have read."""
        return self.out + self.err

    @property
    def document(self) -> Record:
        """The one JSON document of status and releases."""
        return json.loads(self.out)

    @property
    def end(self) -> Record:
        """The closing block."""
        return next(record for record in reversed(self.records) if record["event"] == "run_ended")

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of each host, in one word."""
        return {host["host"]: host["outcome"] for host in self.end["hosts"]}

    @property
    def problems(self) -> str:
        """Every problem that was told, whoever told it."""
        told = [record for record in self.records if record["event"] in ("run_ended", "error")]
        return "\n".join(
            "\n".join([*record["problems"], str(record.get("why", "")), str(record.get("next_step", ""))])
            for record in told
        )

    def steps(self, host: str | None = None, state: str = "done") -> list[str]:
        """The steps that hosts took, in order."""
        found = [r for r in self.records if r["event"] == "host_step" and r["state"] == state]
        return [record["step"] for record in found if host in (None, record["host"])]

    def told(self, host: str, step: str) -> list[Record]:
        """What one host said of one step."""
        return [r for r in self.records if r["event"] == "host_step" and (r["host"], r["step"]) == (host, step)]

    def sent(self, host: str) -> int:
        """Bytes of blobs sent to one host."""
        return max((r["sent"] for r in self.records if r["event"] == "host_bytes" and r["host"] == host), default=0)


class Fab:
    """Runs ``fab`` in one project."""

    def __init__(self, project: Path, state: Path) -> None:
        self.project = project
        self.environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "XDG_STATE_HOME": str(state)}

    def __call__(self, *words: str, json: bool = True, environment: Mapping[str, str] | None = None) -> Ended:
        """Run to the end."""
        return self.start(*words, json=json, environment=environment).wait()

    def start(self, *words: str, json: bool = True, environment: Mapping[str, str] | None = None) -> Running:
        """Run beside the test."""
        process = subprocess.Popen(
            [str(FAB), *words, *(["--json"] if json else [])],
            cwd=self.project,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Running(process)


class Running:
    """A command under way, event by event."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._told: queue.Queue[str | None] = queue.Queue()
        self._lines: list[str] = []
        self._errors: list[str] = []
        assert process.stdout
        assert process.stderr
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout, self._told.put)),
            threading.Thread(target=self._read, args=(process.stderr, self._errors.append)),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: TextIO, take: Callable[[Any], object]) -> None:
        for line in stream:
            take(line)
        if stream is self.process.stdout:
            self._told.put(None)

    def until(self, timeout_s: float = 120, **wanted: str) -> Record:
        """Wait for the first event that has all these fields. Fails where the command ends before."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._told.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {wanted} within {timeout_s} s: {''.join(self._lines[-15:])}") from None
            if line is None:
                self._told.put(None)
                raise AssertionError(f"it ended before {wanted}: {''.join(self._lines[-15:])}{''.join(self._errors)}")
            self._lines.append(line)
            record = _parsed(line)
            if record and all(record.get(key) == value for key, value in wanted.items()):
                return record

    def interrupt(self) -> None:
        """Ctrl-C: the whole foreground group gets SIGINT."""
        os.killpg(self.process.pid, signal.SIGINT)

    @contextlib.contextmanager
    def asleep(self) -> Generator[None]:
        """Stop it as a laptop's lid does; it goes on afterwards as if nothing had been."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, timeout_s: float = 180) -> Ended:
        """Wait for the end."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        for thread in self._threads:
            thread.join()
        while (line := self._told.get()) is not None:
            self._lines.append(line)
        records = [record for line in self._lines if (record := _parsed(line))]
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return Ended(self.process.returncode, "".join(self._lines), "".join(self._errors), records)


def _parsed(line: str) -> Record | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None
