"""Edits ``requirements/NAME.in`` for a person and locks what comes of it, or leaves the file as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from deploy.errors import Refused
from deploy.events import Emit

from . import files, lines, lockfile
from .locking import Locked, lock

NOTHING = "Nothing was changed."


def add(root: Path, requirements: str, targets: Sequence[str], text: str, emit: Emit) -> Locked:
    """Ask for ``text`` (PEP 508) in the .in file, in place of a line of the same package, and lock.

    Raises Refused and Failed as ``lock`` does; then the .in file has its old text again.
    """
    path = root / lockfile.asked_path(requirements)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    with files.kept_on_failure([path]):
        files.write(path, with_requirement(before, text, lockfile.asked_path(requirements)))
        return lock(root, requirements, targets, emit)


def with_requirement(before: str, text: str, path: str) -> str:
    """Give the text of a .in file that asks for ``text`` as well; comments and all other lines stay. Raises Refused."""
    asked = lines.read_asked(text, "the requirement")
    if asked.problems or len(asked.roots) != 1:
        why = "; ".join(asked.problems) or f"{text!r} is not one requirement"
        raise Refused(NOTHING, why, 'fab vendor.add "celery[redis]>=5"')
    name = canonicalize_name(asked.roots[0].requirement.name)
    known = [root for root in lines.read_asked(before, path).roots if canonicalize_name(root.requirement.name) == name]
    if len(known) > 1:
        where = ", ".join(root.where for root in known)
        raise Refused(
            NOTHING, f"{name} is asked for in several lines: {where}", f"edit {path} by hand, fab vendor.lock"
        )
    if not known:
        return before + ("" if not before or before.endswith("\n") else "\n") + text.strip() + "\n"
    number = int(known[0].where.rpartition(":")[2]) - 1
    kept = before.splitlines()
    _, mark, comment = kept[number].partition(" #")
    kept[number] = text.strip() + (f"  #{comment}" if mark else "")
    return "\n".join(kept) + "\n"
