"""The closure: ``requirements/`` and ``vendor/``, locked, fetched and proven closed.

``lock`` writes the pins, ``fetch`` fills ``vendor/`` (these two use the configured index); ``check`` proves offline
that both are one closed set, ``examine`` does with what ``remarks`` needs; ``read`` gives the lock alone; ``plan``
turns it into what a manifest says; ``traps`` lists what git would do to ``vendor/``.
"""

from __future__ import annotations

from .adding import add
from .adopting import Adopted, adopt
from .fetching import Fetched, fetch, prune
from .folders import give
from .git_rules import Trap, mend, traps
from .locking import Locked, lock
from .model import Archive, Build, Lock, LockTarget
from .proof import Closed, check, examine, read, why
from .remarks import remarks
from .source import Source, WorkTree

__all__ = [
    "Adopted",
    "Archive",
    "Build",
    "Closed",
    "Fetched",
    "Lock",
    "LockTarget",
    "Locked",
    "Source",
    "Trap",
    "WorkTree",
    "add",
    "adopt",
    "check",
    "examine",
    "fetch",
    "give",
    "lock",
    "mend",
    "prune",
    "read",
    "remarks",
    "traps",
    "why",
]
