"""What building from source asks of this host besides Python, as the control side read it from the archives.

Programs and Python's own headers are looked for; libraries cannot be, and show when their package is built.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from typing import Any, Collection, List, Mapping, Sequence

from .children import environment


def unmet(needs: Sequence[Mapping[str, Any]], to_build: Collection[str]) -> List[str]:
    """Name what is not here and which packages will be built and need it, with the package that brings it."""
    found: List[str] = []
    for need in needs:
        users = sorted({str(label) for digest, label in need["users"].items() if digest in to_build})
        lacks = _lacks(need) if users else []
        if lacks:
            words = (need["text"], ", ".join(users), ", ".join(lacks))
            found.append("needs %s to build %s; not found here: %s" % words)
    return found


def _lacks(need: Mapping[str, Any]) -> List[str]:
    path = environment()["PATH"]
    groups: List[List[str]] = need["programs"]
    lacks = [group[0] for group in groups if not any(shutil.which(name, path=path) for name in group)]
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    return lacks + ([header] if need["headers"] and not os.path.exists(header) else [])
