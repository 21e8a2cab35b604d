"""TOML 1.0: reads any, and writes the small part a lock needs, always with the same bytes for the same value."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Scalar = str | int | bool
Value = Scalar | Sequence["Value"] | Mapping[str, "Value"]


def loads(data: bytes) -> dict[str, Any]:
    """Read a document. Raises ValueError where it is not TOML in UTF-8."""
    return tomllib.loads(data.decode("utf-8"))


def dumps(table: Mapping[str, Value]) -> str:
    """Write a table; keys keep their order. A list of tables becomes ``[[...]]``, a nested table ``[...]``."""
    return "\n".join(_table(table, ())).lstrip("\n") + "\n"


def _table(table: Mapping[str, Value], path: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in table.items() if not _is_section(value)]
    for key, value in table.items():
        at = (*path, key)
        if isinstance(value, Mapping):
            lines += ["", f"[{'.'.join(map(_key, at))}]", *_table(value, at)]
        elif _is_section(value) and isinstance(value, Sequence):
            for entry in value:
                if isinstance(entry, Mapping):
                    lines += ["", f"[[{'.'.join(map(_key, at))}]]", *_table(entry, at)]
    return lines


def _is_section(value: Value) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return isinstance(value, Mapping)
    return bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _inline(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_inline(entry)}" for key, entry in value.items()) + "}"
    if len(value) <= 1:
        return "[" + ", ".join(map(_inline, value)) + "]"
    return "[\n" + "".join(f"    {_inline(entry)},\n" for entry in value) + "]"


def _key(key: str) -> str:
    bare = key and all(char.isascii() and (char.isalnum() or char in "-_") for char in key)
    return key if bare else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are a subset of TOML's basic strings, but JSON leaves DEL raw, which TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
