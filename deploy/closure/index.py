"""The control side of the configured index: which files exist, and their bytes by hash. Drives pip in child processes.

pip's own configuration decides which index that is; nothing here names one, and no address enters a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.errors import Failed

from . import metadata
from .target import TargetRules

if TYPE_CHECKING:
    from typing_extensions import Self

_CHILD = Path(__file__).with_name("index_child.py")
_WHERE = (
    "CERT CLIENT_CERT CONFIG_FILE EXTRA_INDEX_URL FIND_LINKS INDEX_URL KEYRING_PROVIDER NO_INDEX PROXY TRUSTED_HOST"
)
_HOW = "CACHE_DIR CONSTRAINT DEFAULT_TIMEOUT NO_CACHE_DIR RETRIES TIMEOUT USE_DEPRECATED USE_FEATURE"
_PIP_SETTINGS = frozenset("PIP_" + name for name in f"{_WHERE} {_HOW}".split(" "))
"""What says where the index is and how to reach it. Other PIP_* would change the outcome silently (PIP_NO_DEPS,
PIP_TARGET, PIP_REQUIREMENT) and are dropped."""
_END_TIMEOUT_S = 30.0
_SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class IndexFile:
    """One file the index offers for a target. ``sha256`` is empty where the index does not tell."""

    name: str
    file: str
    version: str
    sha256: str
    requires_python: str
    yanked: bool = False


@dataclass(frozen=True)
class Wanted:
    """One file to download. An empty ``sha256`` accepts what the index itself vouches for."""

    name: str
    file: str
    sha256: str
    to: Path


class Index:
    """The index as pip is configured to reach it from here, seen by one target. Use it as a context manager."""

    def __init__(self, rules: TargetRules) -> None:
        self._rules = rules
        self._listed: dict[str, tuple[IndexFile, ...]] = {}

    def __enter__(self) -> Self:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        # -I: neither PYTHONPATH nor this folder's own modules may stand in for what pip imports.
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(_CHILD), self._rules.python, *self._rules.platforms()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment(),
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate()
        self._said.close()

    def files(self, names: Iterable[str]) -> dict[str, tuple[IndexFile, ...]]:
        """List the sdists and fitting wheels of some packages, in the index's order; each name is asked once.

        Raises Failed where the index knows nothing of a package or does not answer.
        """
        asked = sorted(set(names))
        new = [name for name in asked if name not in self._listed]
        if new:
            answer = self._ask({"list": new})
            for name in new:
                self._listed[name] = tuple(_index_files(name, answer["files"][name]))
            empty = [name for name in new if not self._listed[name]]
            if empty:
                raise _down(f"the index offers nothing for {', '.join(empty)}", answer["log"])
        return {name: self._listed[name] for name in asked}

    def download(self, wanted: Sequence[Wanted]) -> dict[str, str]:
        """Download files to where each one says; give why by file name for those that failed.

        What lies at ``to`` afterwards has the asked hash; a failed one is absent.
        """
        if not wanted:
            return {}
        request = [{"name": w.name, "file": w.file, "sha256": w.sha256 or None, "to": str(w.to)} for w in wanted]
        answer = self._ask({"download": request})
        reasons: dict[str, str] = answer["errors"]
        tail = f" ({_redacted('; '.join(answer['log'][-2:]))})" if answer["log"] else ""
        return {file: _redacted(why) + tail for file, why in reasons.items()}

    def _ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            return json.loads(self._child.stdout.readline())
        except (OSError, ValueError):
            self._child.wait(timeout=_END_TIMEOUT_S)
            self._said.seek(0)
            raise _down("pip could not be asked", self._said.read().splitlines()) from None


def environment() -> dict[str, str]:
    """Give the environment for pip while locking and fetching: the operator's, less what would change the outcome."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PIP_SETTINGS or not name.startswith(("PIP_", "PYTHON"))
    }
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def configuration() -> tuple[str, ...]:
    """List pip's settings that are in force (``pip config list``), credentials in addresses taken out."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "config", "list"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith(":env:.no-input")]
    return tuple(_redacted(line) for line in lines if "disable-pip-version-check" not in line)


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _index_files(name: str, found: Iterable[Mapping[str, Any]]) -> Iterable[IndexFile]:
    for entry in found:
        try:
            metadata.named(entry["file"])
        except metadata.BadArchive:
            continue  # an old or odd file name that no pin could state
        about = (entry["version"], entry["sha256"] or "", entry["requires_python"])
        yield IndexFile(name, entry["file"], *about, yanked=entry["yanked"])


def _redacted(text: str) -> str:
    return _SECRET.sub("[redacted]", text)


def _down(why: str, log: Sequence[str]) -> Failed:
    return Failed(
        "Nothing was changed.",
        why,
        "see pip's messages; try `pip config list` and `pip download` of one package by hand",
        problems=[_redacted(line) for line in log[-8:]],
    )
