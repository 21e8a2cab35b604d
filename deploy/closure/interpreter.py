"""Finds the target's Python on this machine, by starting it. Installs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROBE = (
    "import json,os,platform,sys,sysconfig;print(json.dumps({'full':platform.python_version(),"
    "'short':'%d.%d'%sys.version_info[:2],'implementation':sys.implementation.name,"
    "'platform':sysconfig.get_platform().replace('-','_').replace('.','_'),"
    "'path':sys.executable,'folders':[sys.prefix,sys.base_prefix,sys.base_exec_prefix,os.path.dirname(os.path.realpath(sys.executable))]}))"
)


@dataclass(frozen=True)
class FoundPython:
    """A working interpreter and what it says it is."""

    path: Path
    python: str
    full: str
    platform: str
    folders: tuple[str, ...]
    """What it needs of the file system to run."""


def find(python: str) -> FoundPython | None:
    """Find a CPython of one minor version (``3.11``) on Linux; None where none starts.

    Looks at this very interpreter, at ``SEALED_DEPLOY_PYTHONS`` (paths, separated like PATH), then at every
    ``pythonX.Y`` on PATH, past wrappers that do not start.
    """
    return next((found for candidate in _candidates(python) if (found := _probe(candidate, python))), None)


def here() -> FoundPython | None:
    """Give this very interpreter; None where it is no CPython on Linux."""
    return _probe(Path(sys.executable), sysconfig.get_python_version())


def _candidates(python: str) -> Iterator[Path]:
    if sysconfig.get_python_version() == python:
        yield Path(sys.executable)
    yield from (Path(path) for path in os.environ.get("SEALED_DEPLOY_PYTHONS", "").split(os.pathsep) if path)
    yield from (Path(folder) / f"python{python}" for folder in os.get_exec_path() if folder)


def _probe(candidate: Path, python: str) -> FoundPython | None:
    try:
        done = subprocess.run(
            [str(candidate), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=20, check=False
        )
        said: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    fits = said["short"] == python and said["implementation"] == "cpython" and said["platform"].startswith("linux_")
    return (
        FoundPython(Path(said["path"]), python, said["full"], said["platform"], tuple(said["folders"]))
        if fits
        else None
    )
