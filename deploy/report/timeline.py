"""The answer of ``log`` as rows of text: the journals of all hosts in one time line. Pure.

On one host order is the journal's own, always. Between hosts it is their clocks', which may be off: it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from deploy.fleet.holders import utc
from deploy.report.text import escape, moment

COLUMNS = ("WHEN", "HOST", "WHO", "WHAT")
WIDTH = 300
Record = Mapping[str, Any]


def rows(answer: Mapping[str, Any], number: int) -> list[tuple[str, ...]]:
    """One row for what one run did on one or more hosts at a time; the last ``number`` of them, oldest first."""
    found: list[tuple[str, list[str], str, str]] = []
    places: dict[tuple[str, str], list[int]] = {}
    last: dict[str, int] = {}
    for host, record in _merged(answer):
        what = escape(_what(record), WIDTH)
        same = places.setdefault((str(record.get("run")), what), [])
        at = next((place for place in same if place > last.get(host, -1)), None)
        if at is None:
            at = len(found)
            same.append(at)
            found.append((moment(record.get("at")), [], _who(record), what))
        found[at][1].append(host)
        last[host] = at  # on one host nothing is shown before what came before it
    return [(when, ", ".join(hosts), who, what) for when, hosts, who, what in found[-number:]]


def _merged(answer: Mapping[str, Any]) -> list[tuple[str, Record]]:
    """All records, each host's in its own order; of the hosts' next ones the earliest comes first."""
    queues: list[tuple[str, list[Record]]] = []
    for host in cast("Sequence[Mapping[str, Any]]", answer.get("hosts") or []):
        queues.append((escape(str(host.get("host")), 120), list(cast("Sequence[Record]", host.get("records") or []))))
    found: list[tuple[str, Record]] = []
    while waiting := [(name, records) for name, records in queues if records]:
        name, records = min(waiting, key=lambda one: str(one[1][0].get("at") or ""))
        found.append((name, records.pop(0)))
    return found


def _who(record: Record) -> str:
    address, job = record.get("address"), record.get("job")
    by = f"{record.get('by') or '?'}" + (f" from {address}" if address else "") + (f" ({job})" if job else "")
    return escape(by, WIDTH)


def _what(record: Record) -> str:
    tell = _TOLD.get(str(record.get("what")))
    return tell(record) if tell else str(record.get("what"))


def _because(record: Record) -> str:
    why = record.get("cause") or record.get("why")
    return f": {why}" if why else ""


def _lock(record: Record) -> str:
    what = f"{record.get('verb') or 'something'}" + (f" of {record['tag']}" if record.get("tag") else "")
    return f"{what} refused: {record['refused']}" if record.get("refused") else f"{what} began"


_TOLD: Mapping[str, Callable[[Record], str]] = {
    "lock": _lock,
    "stage": lambda r: f"staging {r.get('release')}",
    "staged": lambda r: f"staged {r.get('release')}, sealed: {r.get('sealed')}",
    "switch": lambda r: f"about to switch to {r.get('to')} from {r.get('from') or 'nothing'}",
    "switched": lambda r: f"switched to {r.get('to')}",
    "confirmed": lambda r: f"{r.get('release')} confirmed, live: {r.get('proof')}" + _because(r),
    "returned": lambda r: f"returned from {r.get('release')} to {r.get('to') or 'nothing live'}" + _because(r),
    "not-switched": lambda r: f"not switched to {r.get('release')}" + _because(r),
    "stuck": lambda r: f"STUCK between {r.get('release')} and {r.get('to') or 'nothing live'}" + _because(r),
    "recovering": lambda r: f"recovering {r.get('release')}" + _because(r),
    "ended": lambda r: f"ended what a {r.get('kind')} of an earlier run left running",
    "swept": lambda r: f"swept {r.get('release')}, which was half made",
    "pruned": lambda r: f"pruned {r.get('release')}",
    "pinned": lambda r: f"pinned {r.get('release')}",
    "unpinned": lambda r: f"unpinned {r.get('release')}",
    "frozen": lambda r: f"frozen {'until ' + utc(r['until']) if r.get('until') else 'until thawed'}: {r.get('reason')}",
    "thawed": lambda _: "thawed",
}
