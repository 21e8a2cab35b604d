"""The journal told to people: which runs did what here, with who asked. Reads only; decides nothing.

Of each record only named fields go out, capped: a journal holds commands and whatever later versions add.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from .history import Record

TOLD: Dict[str, Sequence[str]] = {
    "lock": ("verb", "tag", "refused"),
    "stage": ("release",),
    "staged": ("release", "sealed"),
    "switch": ("to", "from", "verb"),
    "switched": ("to",),
    "confirmed": ("release", "proof", "why"),
    "returned": ("release", "to", "cause"),
    "not-switched": ("release", "cause"),
    "stuck": ("release", "to", "cause"),
    "recovering": ("release", "why"),
    "ended": ("kind",),
    "swept": ("release",),
    "pruned": ("release",),
    "pinned": ("release",),
    "unpinned": ("release",),
    "frozen": ("reason", "until"),
    "thawed": (),
}
"""By record, the fields that are told; other records are not."""
WHO = ("by", "from", "job")
TEXT_CHARACTERS = 500


def told(records: Sequence[Record], number: int) -> List[Record]:
    """The last ``number`` records that say something to people, oldest first, each with who ran the command.

    Of a run that took the lock again and again while it waited for other hosts only the last time is told.
    """
    found: List[Record] = []
    locks: Dict[str, Record] = {}
    for record in records:
        what, run = record.get("what"), str(record.get("run"))
        if what not in TOLD:
            continue
        if what == "lock":
            locks[run] = record
            if found and (found[-1]["what"], found[-1]["run"]) == ("lock", run):
                found.pop()
        found.append(_told(record, locks.get(run)))
    return found[-number:] if number > 0 else []


def _told(record: Record, lock: Optional[Record]) -> Record:
    told: Dict[str, Any] = {name: record.get(name) for name in ("seq", "at", "run", "what")}
    for name in TOLD[record["what"]]:
        told[name] = _short(record.get(name))
    for name in WHO if lock else ():
        # `from` of a switch is a release, of a lock an address.
        told["address" if name == "from" else name] = _short((lock or {}).get(name))
    return told


def _short(value: Any) -> Any:
    return value[:TEXT_CHARACTERS] if isinstance(value, str) else value if isinstance(value, (int, float)) else None
