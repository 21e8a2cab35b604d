"""The closure: ``requirements/`` and ``vendor/``, locked, fetched and proven closed.

``lock`` writes the pins, ``fetch`` fills ``vendor/`` (these two use the configured index); ``check`` proves offline
that both are one closed set; ``read`` gives the lock alone; ``plan`` turns it into what a manifest says.
"""

from __future__ import annotations

from .adding import add
from .auditing import Audit, Finding, audit
from .bill import Application, sbom
from .fetching import Fetched, fetch, prune
from .licensing import Licence, licences
from .locking import Locked, lock
from .model import Archive, Build, Lock, LockTarget
from .newest import Standing, outdated
from .proof import check, contents, read, why
from .reviewing import Change, Held, Holding, changes, holding
from .source import Source, WorkTree

__all__ = [
    "Application",
    "Archive",
    "Audit",
    "Build",
    "Change",
    "Fetched",
    "Finding",
    "Held",
    "Holding",
    "Licence",
    "Lock",
    "LockTarget",
    "Locked",
    "Source",
    "Standing",
    "WorkTree",
    "add",
    "audit",
    "changes",
    "check",
    "contents",
    "fetch",
    "holding",
    "licences",
    "lock",
    "outdated",
    "prune",
    "read",
    "sbom",
    "why",
]
