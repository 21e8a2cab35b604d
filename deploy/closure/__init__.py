"""The closure: ``requirements/`` and ``vendor/``, locked, fetched and proven closed.

``lock`` writes the pins, ``fetch`` fills ``vendor/``, ``adopt`` does both for what another tool wrote (these use the
configured index); ``check`` proves offline that both are one closed set; ``read`` gives the lock alone; ``plan`` turns
it into what a manifest says.
"""

from __future__ import annotations

from .adding import add
from .adopting import Adopted, adopt
from .fetching import Fetched, fetch, prune
from .locking import Locked, lock
from .model import Archive, Build, Lock, LockTarget
from .proof import check, read, why
from .source import Source, WorkTree

__all__ = [
    "Adopted",
    "Archive",
    "Build",
    "Fetched",
    "Lock",
    "LockTarget",
    "Locked",
    "Source",
    "WorkTree",
    "add",
    "adopt",
    "check",
    "fetch",
    "lock",
    "prune",
    "read",
    "why",
]
