"""The closure: ``requirements/`` and ``vendor/``, locked, fetched and proven closed.

``lock`` writes the pins, ``fetch`` fills ``vendor/``, ``adopt`` does both for what another tool wrote (these use the
configured index); ``check`` proves offline that both are one closed set, ``examine`` does with what ``remarks`` needs;
``read`` gives the lock alone; ``plan`` turns it into what a manifest says; ``traps`` lists what git would do to it.
"""

from __future__ import annotations

from .adding import add
from .adopting import Adopted, adopt
from .auditing import Audit, Finding, audit
from .bill import Application, sbom
from .fetching import Fetched, fetch, prune
from .folders import give
from .git_rules import Trap, mend, traps
from .licensing import Licence, licences
from .locking import Locked, lock
from .model import Archive, Build, Lock, LockTarget
from .newest import Standing, outdated
from .proof import Closed, check, contents, examine, read, who_needs, why
from .remarks import HostNeed, host_needs, remarks
from .reviewing import Change, Held, Holding, changes, holding
from .source import Source, WorkTree

__all__ = [
    "Adopted",
    "Application",
    "Archive",
    "Audit",
    "Build",
    "Change",
    "Closed",
    "Fetched",
    "Finding",
    "Held",
    "Holding",
    "HostNeed",
    "Licence",
    "Lock",
    "LockTarget",
    "Locked",
    "Source",
    "Standing",
    "Trap",
    "WorkTree",
    "add",
    "adopt",
    "audit",
    "changes",
    "check",
    "contents",
    "examine",
    "fetch",
    "give",
    "holding",
    "host_needs",
    "licences",
    "lock",
    "mend",
    "outdated",
    "prune",
    "read",
    "remarks",
    "sbom",
    "traps",
    "who_needs",
    "why",
]
