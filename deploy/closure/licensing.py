"""Which licence each package of a closure states in its own metadata. Offline; judges none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING

from .model import Lock

if TYPE_CHECKING:
    from .metadata import Metadata

UNKNOWN = "unknown"
MAX_CHARACTERS = 100
"""Some projects put the whole text on one line of License."""


@dataclass(frozen=True)
class Licence:
    """One package of a closure. ``used`` is ``run-time``, ``build`` or ``toolchain``; ``kind`` sdist or wheel."""

    name: str
    version: str
    licence: str
    used: str
    kind: str


def stated(headers: Message) -> str:
    """Give the License-Expression (PEP 639), else the licence classifiers, else the first line of License, else ''."""
    expression = str(headers.get("License-Expression", ""))
    classifiers = [str(line).strip() for line in headers.get_all("Classifier", [])]
    named = [line.rpartition("::")[2].strip() for line in classifiers if line.startswith("License ::")]
    listed = ", ".join(dict.fromkeys(name for name in named if name != "OSI Approved"))
    lines = [line for line in str(headers.get("License", "")).splitlines() if line.strip()]
    first = lines[0] if lines and lines[0].strip().upper() != "UNKNOWN" else ""
    return " ".join((expression.strip() or listed or first).split())[:MAX_CHARACTERS]


def licences(lock: Lock, known: Mapping[str, Metadata]) -> tuple[Licence, ...]:
    """List every package of a lock once, run-time ones first. ``known`` is what its archives say, by file name."""
    uses = lock.uses()
    found = {
        Licence(archive.name, archive.version, known[file].license or UNKNOWN, uses[file], archive.kind)
        for file, archive in lock.archives.items()
    }
    order = ("run-time", "build", "toolchain")
    return tuple(sorted(found, key=lambda one: (order.index(one.used), one.name, one.version, one.kind)))
