"""The exec line: ``PYTHON -I -S -c LOADER SHA256 ROOT``, words from a safe alphabet under sh, fish and csh alike."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

LOADER = Path(__file__).resolve().parent.parent / "onhost" / "loader.py"
_WORD = re.compile(r"[A-Za-z0-9_./+%@-]+")


@cache
def loader() -> str:
    """The constant loader as one word of Python: its source in base64, since csh takes no newline and no ``!``."""
    source = LOADER.read_bytes()
    return f'import base64;exec(base64.b64decode("{base64.b64encode(source).decode("ascii")}"))'


def exec_line(python: str, digest: str, root: str) -> str:
    """The one line of shell there is. Raises ValueError for a word that is not of the safe alphabet."""
    words = [python, digest, quote(root, safe="/._+@-").replace("~", "%7E")]
    for word in words:
        if not _WORD.fullmatch(word) or word.startswith(("-", "%")):
            raise ValueError(f"not a safe word: {word!r}")
    return f"{words[0]} -I -S -c '{loader()}' {words[1]} {words[2]}"
