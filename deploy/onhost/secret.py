"""A value of env_files: whatever is done with it but ``reveal`` says ``[redacted]``.

Text that stands for itself in logs, messages, JSON and tracebacks, so that no mistake elsewhere can tell it.
"""

from __future__ import annotations

import json
import shlex
from typing import Any, Iterable, List, Mapping, Set
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
FROM_CHARS = 4
"""Shorter values (``1``, ``on``) are not blanked out of output: they would blank out ordinary text."""


class Secret(str):
    """As text, in JSON, by ``repr`` and in any formatting: ``[redacted]``. Equal to nothing but itself."""

    __slots__ = ("_value",)

    def __new__(cls, value: str) -> Secret:
        made = super().__new__(cls, REDACTED)
        made._value = value
        return made

    def reveal(self) -> str:
        """The value itself, for the one who is to have it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


def revealed(text: str) -> str:
    """A secret's value; other text as it is."""
    return text.reveal() if isinstance(text, Secret) else text


def redact(text: str, secrets: Mapping[str, str], *, cut: str = "") -> str:
    """Blank every value out of what a command said, also as JSON, Python, a shell or a URL would spell it.

    Where the text was shortened at a mark ``cut``, the part of a value that is left before or behind it goes too.
    """
    spellings = sorted(_spellings(map(revealed, secrets.values())), key=len, reverse=True)
    for value in spellings:
        text = text.replace(value, REDACTED)
    head, mark, tail = text.partition(cut) if cut else (text, "", "")
    if mark:
        for value in spellings:
            head, tail = _without_end(head, value), _without_beginning(tail, value)
    return head + mark + tail


def _spellings(values: Iterable[str]) -> Set[str]:
    found: Set[str] = set()
    for value in values:
        if len(value) >= FROM_CHARS:
            escaped: List[str] = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
            plain = value.encode("utf-8", "replace").decode("utf-8")
            found |= {value, *escaped, repr(value)[1:-1], quote(plain), quote(plain, safe=""), quote_plus(plain)}
            found.add(shlex.quote(value)[1:-1] if "'" in value else value)
    return found


def _without_end(text: str, value: str) -> str:
    for length in range(len(value) - 1, FROM_CHARS - 1, -1):
        if text.endswith(value[:length]):
            return text[:-length] + REDACTED
    return text


def _without_beginning(text: str, value: str) -> str:
    for length in range(len(value) - 1, FROM_CHARS - 1, -1):
        if text.startswith(value[-length:]):
            return REDACTED + text[length:]
    return text
