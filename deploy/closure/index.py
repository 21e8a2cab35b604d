"""The control side of the configured index: which files exist, and their bytes by hash. Drives pip in child processes.

pip's own configuration decides which index that is; nothing here names one, and no address enters a lock.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.errors import Failed
from deploy.events import Emit, Notice, Progress

from . import metadata
from .target import TargetRules

if TYPE_CHECKING:
    from typing_extensions import Self

_CHILD = "import sys; sys.path.append(sys.argv.pop(1)); from deploy.closure.index_child import main; main()"
_LIBRARY = Path(__file__).parents[2]
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
    """One file the index offers for a target. ``sha256`` is empty where the index does not tell.

    ``yanked`` is why it was withdrawn (PEP 592), and empty where it was not.
    """

    name: str
    file: str
    version: str
    sha256: str
    requires_python: str
    yanked: str = ""


@dataclass(frozen=True)
class Wanted:
    """One file to download; what lies at ``to`` already is its beginning.

    An empty ``sha256`` accepts what the index itself vouches for; a ``size`` of 0 is not known.
    """

    name: str
    file: str
    sha256: str
    to: Path
    size: int = 0


def _ignore(_: object) -> None:
    """Hear nothing."""


class Unwritable(Exception):
    """Nothing more can be written where downloads go; the message says why."""


class Index:
    """The index as pip is configured to reach it from here, seen by some targets. Use it as a context manager."""

    def __init__(self, *rules: TargetRules) -> None:
        self._rules = rules
        self._listed: dict[str, tuple[IndexFile, ...]] = {}

    def __enter__(self) -> Self:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        # -I, and last on the path: neither PYTHONPATH nor anything beside this library stands in for what pip imports.
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", _CHILD, str(_LIBRARY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment(),
            text=True,
        )
        self._ask({"tags": sorted({str(tag) for rules in self._rules for tag in rules.tags})})
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # nobody waits for what is under way any more
            self._child.terminate()
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate()
        self._child.wait()
        self._said.close()

    def files(self, names: Iterable[str]) -> dict[str, tuple[IndexFile, ...]]:
        """List the sdists and the wheels that fit some target, in the index's order; each name is asked once.

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

    def download(
        self,
        wanted: Sequence[Wanted],
        emit: Emit = _ignore,
        *,
        stored: Callable[[str], None] = _ignore,
        stores: Sequence[str] = (),
    ) -> dict[str, str]:
        """Download files, several at a time, to where each one says; give why by file name for those that failed.

        What lies at ``to`` afterwards has the asked hash; of a failed one it is the beginning, or absent. ``stored``
        hears of each file as soon as it is whole. ``stores``, addresses below which files lie by name, are asked
        before the index. Raises Unwritable where nothing can be written, and Failed where pip cannot be asked.
        """
        if not wanted:
            return {}
        request = [
            {"name": w.name, "file": w.file, "sha256": w.sha256 or None, "size": w.size or None, "to": str(w.to)}
            for w in wanted
        ]

        def hear(line: Mapping[str, Any]) -> None:
            if "progress" in line:
                emit(Progress(*line["progress"]))
            elif "note" in line:
                emit(Notice(redacted(line["note"])))
            else:
                stored(line["stored"])

        answer = self._ask({"download": request, "stores": list(stores)}, hear)
        if answer["unwritable"]:
            raise Unwritable(answer["unwritable"])
        return {file: redacted(why) for file, why in answer["errors"].items()}

    def _ask(
        self, request: Mapping[str, object], hear: Callable[[Mapping[str, Any]], None] = _ignore
    ) -> dict[str, Any]:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and the answer will be none
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        while "log" not in (line := self._line()):
            hear(line)
        return line

    def _line(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        try:
            return json.loads(self._child.stdout.readline())
        except ValueError:
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
    lines = [line for line in _settings() if not line.startswith(":env:.no-input")]
    return tuple(redacted(line) for line in lines if "disable-pip-version-check" not in line)


@contextlib.contextmanager
def offering(folder: Path) -> Generator[None]:
    """Let pip find the archives of a folder first, before what it is configured to ask.

    Set in the environment, because pip's own nested processes read nothing else; PIP_FIND_LINKS replaces what
    configuration files say, so that is repeated in it.
    """
    before = os.environ.get("PIP_FIND_LINKS")
    os.environ["PIP_FIND_LINKS"] = " ".join([folder.resolve().as_uri(), *_find_links()])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PIP_FIND_LINKS"]
        else:
            os.environ["PIP_FIND_LINKS"] = before


def _find_links() -> list[str]:
    lines = dict(line.split("=", 1) for line in _settings() if "=" in line)
    said = (lines.get(f"{section}.find-links") for section in (":env:", "install", "global"))
    return str(ast.literal_eval(next((value for value in said if value), "''"))).split()


def _settings() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "config", "list"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


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
        yield IndexFile(
            name, entry["file"], entry["version"], entry["sha256"] or "", entry["requires_python"], entry["yanked"]
        )


def redacted(text: str) -> str:
    """Take credentials out of addresses."""
    return _SECRET.sub("[redacted]", text)


def _down(why: str, log: Sequence[str]) -> Failed:
    return Failed(
        "Nothing was changed.",
        why,
        "see pip's messages; try `pip config list` and `pip download` of one package by hand",
        problems=[redacted(line) for line in log[-8:]],
    )
