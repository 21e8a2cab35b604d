"""The host's own append-only record of intents and outcomes: JSON lines, fsync, sequence numbers. It decides nothing.

Order comes from ``seq`` alone, never from a clock (``at`` is for people). A line that a crash tore is skipped by
every reader; the writer starts a new line after it. Space is reserved beforehand, since appending must work on a
full disk (fallocate(2) with FALLOC_FL_KEEP_SIZE).
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, cast

from . import plain
from .history import History, fold
from .layout import sync_folder

FORMAT = 1
RESERVE_BYTES = 256 * 1024
_KEEP_SIZE = 1

Record = Dict[str, Any]


class NewerFormat(Exception):
    """The journal was written by a newer sealed-deploy; nothing may be changed by this one."""


def read(path: Path) -> List[Record]:
    """All whole records, oldest first. Raises NewerFormat."""
    try:
        with open(plain.open_file(path), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    records: List[Record] = []
    for line in data.split(b"\n"):
        record = _record(line)
        if record is not None:
            records.append(record)
    return records


def _record(line: bytes) -> Optional[Record]:
    try:
        value = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    record = cast("Record", value) if isinstance(value, dict) else {}
    if not isinstance(record.get("seq"), int):
        return None
    if record.get("format", 0) > FORMAT:
        raise NewerFormat("the journal has format %s; upgrade sealed-deploy on this machine" % record["format"])
    return record


class Journal:
    """The writer. Only the holder of the lock may have one."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.records = read(path)
        self._run = run
        self._folded: Optional[Tuple[int, int, History]] = None
        self._seq = max([record["seq"] for record in self.records] or [0])
        new = not path.exists()
        self._fd = plain.open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, ours=True)
        if new:
            os.fsync(self._fd)
            sync_folder(path.parent)
        self._torn = self._ends_torn()
        self.reserve()

    @property
    def history(self) -> History:
        """What the records say so far; folded once for as long as none is added. Nobody's to change."""
        last = self.records[-1]["seq"] if self.records else 0
        if self._folded is None or self._folded[:2] != (len(self.records), last):
            self._folded = (len(self.records), last, fold(self.records))
        return self._folded[2]

    def append(self, what: str, **fields: Any) -> Record:
        """Write one record durably and return it. Raises OSError where even the reserved space is gone.

        What could not be made durable is not taken for written, though a later reader may find it.
        """
        record = self.note(what, **fields)
        try:
            os.fsync(self._fd)
        except OSError:
            self.records.remove(record)
            raise
        return record

    def note(self, what: str, **fields: Any) -> Record:
        """Write a record that means nothing after a reboot: it outlives this process, perhaps not a power cut."""
        self._seq += 1
        record: Record = {"format": FORMAT, "seq": self._seq, "run": self._run, "at": round(time.time(), 3)}
        record["what"] = what
        record.update(fields)
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
        data = b"\n" + line if self._torn else line
        self._torn = True
        if os.write(self._fd, data) != len(data):
            raise OSError(28, "the journal could not be written whole", str(self.path))
        self._torn = False
        self.records.append(record)
        return record

    def close(self) -> None:
        """Let go of the file: who gives the lock back writes no more."""
        os.close(self._fd)

    def reserve(self) -> None:
        """Keep space behind the end for what rollback must be able to write on a full disk."""
        libc = ctypes.CDLL(None, use_errno=True)
        size = os.fstat(self._fd).st_size
        # Best effort: a filesystem without fallocate still works while it has room.
        libc.fallocate(self._fd, _KEEP_SIZE, ctypes.c_long(size), ctypes.c_long(RESERVE_BYTES))

    def _ends_torn(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
