"""Words for people: foreign text made safe to show, sizes, durations, times. Pure; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence

LINE_LIMIT = 1000
"""Characters of one line of foreign text that reach a screen; the log file keeps all of it."""
COMMAND_LIMIT = 4000
"""Of a next command that is to be typed or copied: half of one is none."""
LINES_LIMIT = 40
"""Lines of one event's detail that reach a screen; the last ones, where causes stand."""


def escape(text: str, limit: int = LINE_LIMIT) -> str:
    r"""Show ``text`` on one line without letting it act on the terminal.

    Control characters, ANSI sequences, line breaks, NUL, bidirectional overrides, invisible characters and bytes that
    were no UTF-8 become visible escapes (``\x1b``, ``\u202e``); the rest is unchanged. Longer text is cut to
    ``limit`` characters, with a mark.
    """
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    # str.isprintable is false for exactly the categories Other and Separator, the plain blank excepted.
    return text if text.isprintable() else "".join(char if char.isprintable() else _visible(char) for char in text)


def lines(text: str, limit: int = LINES_LIMIT, *, width: int = LINE_LIMIT) -> list[str]:
    """Split foreign text into safe lines, the last ``limit`` of them, saying how many were left out."""
    found = [escape(line, width) for line in text.replace("\r\n", "\n").split("\n")]
    while found and not found[-1].strip():
        found.pop()
    if len(found) > limit:
        found = [f"... {len(found) - limit} lines before, in the log", *found[-limit:]]
    return found


def duration(seconds: float) -> str:
    """``0.4 s``, ``12.3 s``, ``2 min 5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def size(count: int) -> str:
    """Bytes in decimal units: ``512 B``, ``48.0 MB``."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def hosts(names: Sequence[str], limit: int = 10) -> str:
    """``2 hosts: web-1, web-2``; of a large fleet the first ten."""
    if not names:
        return "no host"
    shown = ", ".join(escape(name) for name in names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)} {'host' if len(names) == 1 else 'hosts'}: {shown}{more}"


def moment(iso: str | None) -> str:
    """``2026-11-23 08:30 UTC`` from an ISO 8601 time; what is no such time is shown as it came."""
    import datetime as dt

    if not iso:
        return ""
    try:
        at = dt.datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return escape(iso, 40)
    if at.tzinfo is None:
        at = at.replace(tzinfo=dt.timezone.utc)
    return at.astimezone(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _visible(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, kept by surrogateescape (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("ascii", "backslashreplace").decode("ascii") if code > 0x7F else f"\\x{code:02x}"
