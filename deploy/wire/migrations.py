"""Migrations by name: reading what a release's command lists, and comparing two releases. Pure, no I/O.

A line of the list is ``[X] NAME`` (applied), ``[ ] NAME`` (not applied), or a bare NAME (known, and nobody says
whether it is applied): what Django's ``manage.py showmigrations --plan`` prints, and what any script can. Where a line
with a mark is there, lines without one are talk. Of ``showmigrations`` without ``--plan``, which indents names below
the name of their app, names are read as APP.NAME.
"""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence

MOST = 20000
_MARKED = re.compile(r"(\s*)\[([Xx ])\]\s+(\S{1,200})")
_NAME = re.compile(r"[A-Za-z0-9][\w.:/+-]{0,199}", re.ASCII)


class Listing(NamedTuple):
    """What one release knows, in the order told, and what of it is not applied; None where the list does not say."""

    known: List[str]
    pending: Optional[List[str]]

    def to_json(self) -> Dict[str, Any]:
        return {"known": self.known, "pending": self.pending}


def read(text: str, *, leave_out: Collection[str] = ()) -> Listing:
    """Read a list; what ``leave_out`` holds (secrets that an app may print) is no name. Raises ValueError."""
    marked: Dict[str, bool] = {}
    bare: Dict[str, None] = {}
    heading = ""
    for line in text.splitlines():
        found = _MARKED.match(line)
        if found:
            name = found.group(3)
            if found.group(1) and heading and not name.startswith(heading + "."):
                name = "%s.%s" % (heading, name)
            if _NAME.fullmatch(name) and name not in leave_out:
                marked[name] = marked.get(name, False) or found.group(2) != " "
            continue
        word = line.strip()
        heading = word if _NAME.fullmatch(line) else heading
        if _NAME.fullmatch(word) and word not in leave_out:
            bare[word] = None
    known = list(marked or bare)
    if len(known) > MOST:
        raise ValueError("it lists more than %d names" % MOST)
    return Listing(known, [name for name, applied in marked.items() if not applied] if marked else None)


def union(listings: Sequence[Listing]) -> Listing:
    """Several lists as one; not applied is what no list calls applied."""
    known = list(dict.fromkeys(name for one in listings for name in one.known))
    if any(one.pending is None for one in listings):
        return Listing(known, None)
    applied = {name for one in listings for name in one.known if name not in (one.pending or ())}
    return Listing(known, [name for name in known if name not in applied])


class Difference(NamedTuple):
    """Applied migrations that a release does not know: those one would go back across, and those passed before."""

    across: List[str]
    before: List[str]


def unknown_to(target: Collection[str], current: Optional[Collection[str]], applied: Sequence[str]) -> Difference:
    """Compare: ``current`` is what the live release knows (None: not recorded, then all count as gone across)."""
    unknown = [name for name in applied if name not in set(target)]
    across = [name for name in unknown if current is None or name in set(current)]
    return Difference(across, [name for name in unknown if name not in set(across)])


def last_known(names: Sequence[str], target: Sequence[str]) -> Dict[str, str]:
    """For each app of ``names`` (APP.NAME) the last migration of it that ``target`` lists, or ``zero``."""
    found: Dict[str, str] = {}
    for app in dict.fromkeys(name.partition(".")[0] for name in names):
        own = [name.partition(".")[2] for name in target if name.startswith(app + ".")]
        found[app] = own[-1] if own else "zero"
    return found
