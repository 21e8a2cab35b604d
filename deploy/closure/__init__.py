"""The closure: ``requirements/`` and ``vendor/``, locked, fetched and proven closed.

``lock`` writes the pins, ``fetch`` fills ``vendor/`` (these two use the configured index); ``check`` proves offline
that both are one closed set, ``examine`` does with what ``remarks`` needs; ``read`` gives the lock alone; ``plan``
turns it into what a manifest says.
"""

from __future__ import annotations

from .adding import add
from .fetching import Fetched, fetch, prune
from .locking import Locked, lock
from .model import Archive, Build, Lock, LockTarget
from .proof import Closed, check, examine, read, why
from .remarks import remarks
from .source import Source, WorkTree

__all__ = [
    "Archive",
    "Build",
    "Closed",
    "Fetched",
    "Lock",
    "LockTarget",
    "Locked",
    "Source",
    "WorkTree",
    "add",
    "check",
    "examine",
    "fetch",
    "lock",
    "prune",
    "read",
    "remarks",
    "why",
]
