"""A program run in a child process: asks the configured index which files it has, and downloads some of them.

The one place that touches pip's internals. pip has no public command that tells an sdist's hash or stores one
without running its build backend (``pip download`` prepares metadata even with ``--no-deps``); its finder and its
session are what carry proxies, certificates, mirrors, find-links and credentials. They fail loudly here if they move.

Started with ``argv`` PYTHON PLATFORM_TAG... (``3.11 manylinux_2_28_x86_64 ...``). One JSON object a line on stdin,
one answer a line on stdout, until stdin ends:

* ``"list": [NAME, ...]``: answers ``{"files": {NAME: [{"file", "version", "sha256" | null, "requires_python",
  "yanked"}]}}`` with the wheels that fit and all sdists, in the index's order;
* ``"download": [{"name", "file", "sha256" | null, "to"}]``: answers ``{"errors": {FILE: WHY}}``; bytes of another
  hash are never left at ``to``.

Both answers carry ``"log"``: pip's warnings, which is where an index that is down shows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from pip._internal.commands import create_command
from pip._internal.models.format_control import FormatControl
from pip._internal.models.target_python import TargetPython
from pip._internal.network.utils import HEADERS

_PIECE_BYTES = 1 << 18


class _Kept(logging.Handler):
    """Keeps pip's warnings: its finder skips an index that does not answer and only logs why."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    """Answer requests until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever pip prints is not an answer
    kept = _Kept()
    logging.getLogger("pip").addHandler(kept)
    logging.getLogger("pip").propagate = False
    command: Any = create_command("download")
    with command.main_context():
        options, _ = command.parse_args(["--no-deps", "nothing"])
        # A configured no-binary or only-binary would hide files; which kind is used is the lock's policy.
        options.format_control = FormatControl(set(), set())
        session = command.get_default_session(options)
        python = tuple(int(part) for part in sys.argv[1].split("."))
        target = TargetPython(sys.argv[2:], python, implementation="cp")
        finder = command._build_package_finder(options, session, target, ignore_requires_python=True)  # noqa: SLF001
        for line in sys.stdin:
            request: dict[str, Any] = json.loads(line)
            kept.lines.clear()
            answer: dict[str, Any] = {}
            if "list" in request:
                answer["files"] = {name: _files(finder, name) for name in request["list"]}
            else:
                answer["errors"] = _download(finder, session, request["download"])
            answers.write(json.dumps({**answer, "log": kept.lines}) + "\n")
            answers.flush()


def _files(finder: Any, name: str) -> list[dict[str, Any]]:
    return [
        {
            "file": str(candidate.link.filename),
            "version": str(candidate.version),
            "sha256": candidate.link.hash if candidate.link.hash_name == "sha256" else None,
            "requires_python": candidate.link.requires_python or "",
            "yanked": candidate.link.is_yanked,
        }
        for candidate in finder.find_all_candidates(name)
    ]


def _download(finder: Any, session: Any, wanted: list[dict[str, Any]]) -> dict[str, str]:
    errors: dict[str, str] = {}
    for want in wanted:
        why = "the index has no such file"
        for candidate in finder.find_all_candidates(want["name"]):
            link = candidate.link
            other = want["sha256"] and link.hash_name == "sha256" and link.hash != want["sha256"]
            if str(link.filename) != want["file"]:
                continue
            why = "the index has other bytes under this name" if other else _store(session, link, want)
            if not why:
                break
        if why:
            errors[want["file"]] = why
    return errors


def _store(session: Any, link: Any, want: dict[str, Any]) -> str:
    """Download one link; say why it failed, or nothing."""
    expected = want["sha256"] or (link.hash if link.hash_name == "sha256" else None)
    to = Path(want["to"])
    digest = hashlib.sha256()
    try:
        response = session.get(link.url_without_fragment, headers=HEADERS, stream=True)
        response.raise_for_status()
        with to.open("wb") as file:
            for piece in response.iter_content(_PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
    except Exception as error:  # noqa: BLE001 - the session raises many types, and all mean "not downloaded"
        to.unlink(missing_ok=True)
        return f"{type(error).__name__}: {error}"
    if expected and digest.hexdigest() != expected:
        to.unlink()
        return f"the index sent other bytes (sha256 {digest.hexdigest()[:12]}..., expected {expected[:12]}...)"
    return ""


if __name__ == "__main__":
    main()
