"""Reading one mapping of settings, key by key, so that every problem is found and each carries its path. No I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
USER = r"[A-Za-z_][A-Za-z0-9._-]{0,31}"
PRINTABLE = r"[^\x00-\x1f\x7f]+"


def plain(value: Any) -> Any:
    """Copy ``value`` into dicts and lists; accepts whatever has ``keys()`` (Fabric's DataProxy is no Mapping)."""
    if hasattr(value, "keys"):
        return {key: plain(value[key]) for key in list(value.keys())}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return value


def did_you_mean(word: str, known: Collection[str]) -> str:
    """``; did you mean 'port'?`` or nothing."""
    # Letters in the wrong order ("prot") are one slip; difflib alone finds "root" as near as "port".
    swapped = [name for name in sorted(known) if sorted(name) == sorted(word)]
    close = swapped or difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class Section:
    """One mapping at one path. Every reader notes a problem and answers the default instead of raising."""

    def __init__(self, value: Any, path: str, problems: list[str]) -> None:
        self.path = path
        self.problems = problems
        self.data: dict[str, Any] = {}
        if value is None:
            return
        if not isinstance(value, Mapping):
            problems.append(f"{path or 'deploy'}: expected a mapping, got {_shown(value)}")
            return
        for key, item in cast("Mapping[Any, Any]", value).items():
            self._take(key, item)

    def _take(self, key: Any, item: Any) -> None:
        # YAML 1.1 reads the bare words on/off/yes/no as booleans, and `on` is a key of ours.
        word = "on" if key is True else key
        if isinstance(word, str):
            self.data[word] = item
        else:
            self.note(_shown(key), "a key must be text; put it in quotes")

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def note(self, key: str, problem: str) -> None:
        self.problems.append(f"{self.at(key)}: {problem}")

    def only(self, known: Iterable[str]) -> None:
        """Note every key that is not known, with the nearest one that is."""
        names = set(known)
        for key in self.data:
            if key not in names:
                self.note(key, f"unknown key{did_you_mean(key, names)}")

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def section(self, key: str) -> Section:
        return Section(self.data.get(key), self.at(key), self.problems)

    def text(self, key: str, pattern: str = PRINTABLE, *, says: str = "text") -> str | None:
        """The text at ``key``, or None where it is absent or wrong."""
        value = self.data.get(key)
        return None if value is None else self._text(key, value, pattern, says)

    def words(self, key: str, pattern: str = PRINTABLE, *, says: str = "text") -> tuple[str, ...] | None:
        """The list of texts at ``key``; a single text counts as a list of one."""
        value = self.data.get(key)
        if value is None:
            return None
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        found = [self._text(f"{key}.{at}", item, pattern, says) for at, item in enumerate(items)]
        return tuple(item for item in found if item is not None)

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        value = self.data.get(key)
        if value is None or value in choices:
            return value
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        self.note(key, f"expected {' or '.join(choices)}, got {_shown(value)}{near}")
        return None

    def choices(self, key: str, choices: Sequence[str]) -> tuple[str, ...] | None:
        found = self.words(key)
        for word in found or ():
            if word not in choices:
                self.note(key, f"expected {' or '.join(choices)}, got {_shown(word)}{did_you_mean(word, choices)}")
        return found

    def boolean(self, key: str) -> bool | None:
        value = self.data.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.note(key, f"expected true or false, got {_shown(value)}")
        return None

    def integer(self, key: str, low: int, high: int) -> int | None:
        value = self.data.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
            return value
        self.note(key, f"expected a whole number from {low} to {high}, got {_shown(value)}")
        return None

    def seconds(self, key: str, *, zero: bool = False) -> float | None:
        value = self.data.get(key)
        if value is None:
            return None
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (0 < value <= 86400 or (value == 0 and zero))
        ):
            return float(value)
        self.note(key, f"expected seconds, {'0' if zero else 'more than 0'} to 86400, got {_shown(value)}")
        return None

    def _text(self, key: str, value: Any, pattern: str, says: str) -> str | None:
        if not isinstance(value, str):
            hint = "; put it in quotes" if isinstance(value, bool | int | float) else ""
            self.note(key, f"expected {says}, got {_shown(value)}{hint}")
        elif not re.fullmatch(pattern, value):
            self.note(key, f"expected {says}, got {_shown(value)}")
        else:
            return value
        return None


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
