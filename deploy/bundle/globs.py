"""Which paths `exclude` leaves out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def excluder(globs: Sequence[str]) -> Callable[[str], bool]:
    """Make the predicate of ``exclude``, in the manner of gitignore(5) without its negation.

    ``*`` and ``?`` stop at a slash, ``**`` does not; without a slash (but at the end) a glob fits a name at any depth;
    a glob that fits a folder leaves out all that is below it.
    """
    if not globs:
        return lambda _path: False
    pattern = re.compile("|".join(map(_regex, globs)), re.DOTALL)
    return lambda path: pattern.fullmatch(path) is not None


def _regex(glob: str) -> str:
    body = glob.rstrip("/")
    anchored = "/" in body
    out = ""
    for piece in re.findall(r"\*\*/|\*\*|\*|\?|\[!?[^\]/]+\]|.", body.removeprefix("./").lstrip("/"), re.DOTALL):
        if piece == "**/":
            out += "(?:.*/)?"
        elif piece == "**":
            out += ".*"
        elif piece == "*":
            out += "[^/]*"
        elif piece == "?":
            out += "[^/]"
        elif len(piece) > 1:
            out += "[" + ("^" if piece[1] == "!" else "") + piece[1:-1].removeprefix("!").replace("\\", "\\\\") + "]"
        else:
            out += re.escape(piece)
    return f"{'' if anchored else '(?:.*/)?'}(?:{out})(?:/.*)?"
