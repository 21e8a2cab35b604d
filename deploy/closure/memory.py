"""Remembers what archives say of themselves, by their bytes, so that a deploy does not unpack them all again.

Reading 57 archives takes 2.8 s, half of it Django's 7,000 tar members; a deploy checks on every run. The answer is
a pure function of file name and bytes, which ``check`` hashes each time before it asks here. Safe to lose.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import files, metadata
from .metadata import BuildSystem, Metadata
from .native import Native

_FOLDER = "archives-4"
"""The number changes with what ``metadata.read`` answers or refuses."""


def read(file: str, sha256: str, data: Callable[[], bytes]) -> Metadata:
    """Give what an archive says of itself, from memory or from its ``data``. Raises BadArchive."""
    found = _recall(file, sha256)
    if found is None:
        found = metadata.read(file, data())
        _remember(file, sha256, found)
    return found


def _recall(file: str, sha256: str) -> Metadata | None:
    """Give what was remembered of an archive; None where nothing readable is."""
    try:
        value: dict[str, Any] = json.loads(_path(file, sha256).read_bytes())
        build: dict[str, Any] | None = value["build"]
        return Metadata(
            name=value["name"],
            version=value["version"],
            requires=None if value["requires"] is None else tuple(value["requires"]),
            requires_python=value["requires_python"],
            build=None
            if build is None
            else BuildSystem(tuple(build["requires"]), build["backend"], tuple(build["backend_path"])),
            native=Native(tuple(value["native"]["languages"]), value["native"]["optional"]),
            license=value["license"],
        )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def _remember(file: str, sha256: str, found: Metadata) -> None:
    """Keep what a good archive says. A cache that cannot be written is no failure."""
    try:
        path = _path(file, sha256)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, json.dumps(asdict(found)))
    except (OSError, RuntimeError):  # no home at all is RuntimeError
        return


def _path(file: str, sha256: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    key = hashlib.sha256(f"{file}\0{sha256}".encode()).hexdigest()
    return Path(home) / "sealed-deploy" / _FOLDER / f"{key}.json"
