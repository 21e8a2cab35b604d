"""Finds what git would do to the files of ``vendor/``: leave them out, or store other bytes; and mends it.

Asks git itself (check-ignore, check-attr, hash-object) what it does. Where the folder is in no work tree, or git is
not installed, there are no traps.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from . import files
from .proof import VENDOR

_IGNORED, _CONVERTED = "git ignores", "git converts"
_ATTRIBUTES = ("text", "eol", "ident", "working-tree-encoding", "filter")
_REDIRECTED = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"})
"""A git hook sets these; they would speak of another repository."""


@dataclass(frozen=True)
class Trap:
    """Files of ``vendor/`` that one rule keeps out of git, or changes on the way. ``rule`` says where it stands."""

    kind: str
    rule: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return f"{self.kind} {', '.join(self.files[:3])}{more}, by {self.rule}"


def traps(root: Path) -> tuple[Trap, ...]:
    """List the traps of ``root/vendor/``, each with the rule behind it; files in the repository count from its top."""
    vendor = root / VENDOR
    found = vendor.iterdir() if vendor.is_dir() else ()
    paths = sorted(f"{VENDOR}/{path.name}" for path in found if path.is_file() and not path.name.startswith("."))
    if not paths or _git(root, ["rev-parse", "--is-inside-work-tree"]).strip() != "true":
        return ()
    by_rule: dict[tuple[str, str], list[str]] = {}
    for rule, path in _ignored(root, paths):
        by_rule.setdefault((_IGNORED, rule), []).append(path)
    for rule, path in _converted(root, paths):
        by_rule.setdefault((_CONVERTED, rule), []).append(path)
    return tuple(Trap(kind, rule, tuple(paths)) for (kind, rule), paths in by_rule.items())


def mend(root: Path) -> tuple[str, ...]:
    """Write what overrides the rules into ``vendor/`` and, where they are about that folder itself, beside it.

    Gives the files written. A rule that is still in force afterwards (``.git/info/attributes`` has the last word) is a
    person's to change.
    """
    undone = "* -text !eol -ident !working-tree-encoding"
    if any(" filter=" in trap.rule for trap in traps(root)):
        undone += " !filter"
    written: list[str] = []
    for path, lines, kind in (
        (f"{VENDOR}/.gitattributes", undone, _CONVERTED),
        # Takes back rules about files (gitignore(5)); work folders of a fetch stay out.
        (f"{VENDOR}/.gitignore", "!*\n.incoming*", _IGNORED),
        # Nothing inside an ignored folder is looked at: only if that is the case there is still a trap by now.
        (".gitignore", f"!/{VENDOR}/", _IGNORED),
    ):
        if any(trap.kind == kind for trap in traps(root)) and _append(root / path, lines):
            written.append(path)
    return tuple(written)


def _append(path: Path, lines: str) -> bool:
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    if before.endswith(f"{lines}\n"):
        return False
    return files.write(path, before + ("" if not before or before.endswith("\n") else "\n") + f"{lines}\n")


def _ignored(root: Path, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Tell rule and path of untracked files that git would not add. Of tracked ones it ignores none."""
    for source, line, pattern, path in _records(root, ["check-ignore", "-v", "-z", "--stdin"], paths, 4):
        if not pattern.startswith("!"):
            yield f"{source}:{line}: {pattern}", path


def _converted(root: Path, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Tell rule and path of files whose bytes git may change on the way in or out (gitattributes(5)).

    Git LFS is no trap: it keeps the bytes as they are, elsewhere.
    """
    attributes: dict[str, dict[str, str]] = {path: {} for path in paths}
    for path, name, value in _records(root, ["check-attr", "-z", "--stdin", *_ATTRIBUTES], paths, 3):
        attributes[path][name] = value
    unsaid: list[str] = []
    for path, values in attributes.items():
        on = {name for name, value in values.items() if value not in {"unspecified", "unset", "auto"}}
        if values.get("text") in {"unset", "auto"}:  # of text=auto, git leaves alone what has NULs, as archives do
            on.discard("eol")
        if values.get("filter") == "lfs":
            on.discard("filter")
        for name in sorted(on)[:1]:
            yield _attribute_rule(root, path, name) or f"the attribute {name}={values[name]}", path
        if not on and values.get("text") == "unspecified":
            unsaid.append(path)
    if _git(root, ["config", "core.autocrlf"]).strip() in {"true", "input"}:
        yield from (("core.autocrlf", path) for path in _stored_otherwise(root, unsaid))


def _stored_otherwise(root: Path, paths: Sequence[str]) -> list[str]:
    """Let git say, by object id, of which files it would store other bytes."""
    plain = [path for path in paths if "\n" not in path]
    prefix = _git(root, ["rev-parse", "--show-prefix"]).rstrip("\n")  # unlike the others, it counts from the top
    asked = ["hash-object", "--stdin-paths"]
    stored, given = (
        _git(root, [*asked, *options], "".join(f"{prefix}{path}\n" for path in plain)).split()
        for options in ((), ("--no-filters",))
    )
    return [path for path, one, other in zip(plain, stored, given, strict=False) if one != other]


def _attribute_rule(root: Path, path: str, attribute: str) -> str:
    """Find the line that sets an attribute, in git's order of precedence; git itself does not tell. Empty if unsure."""
    inner = _git(root, ["rev-parse", "--git-path", "info/attributes", "--show-toplevel"]).splitlines()
    if len(inner) != 2:
        return ""
    full, top = root / path, Path(inner[1])
    own = _git(root, ["config", "--type=path", "core.attributesFile"]).strip()
    beside = [folder for folder in full.parents if folder == top or top in folder.parents]
    places = [(root / inner[0], top), *((folder / ".gitattributes", folder) for folder in beside)]
    places.append((Path(own or "~/.config/git/attributes").expanduser(), top))
    for file, folder in places:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        for number, line in reversed(list(enumerate(lines, 1))):
            pattern, *names = line.split() or [""]
            against = full.relative_to(folder).as_posix() if "/" in pattern else full.name
            if attribute in {name.partition("=")[0] for name in names} and fnmatchcase(against, pattern.lstrip("/")):
                shown = file.relative_to(top) if top in file.parents else file
                return f"{shown}:{number}: {line.strip()}"
    return ""


def _records(root: Path, command: list[str], paths: Iterable[str], width: int) -> Iterator[list[str]]:
    fields = _git(root, command, "".join(f"{path}\0" for path in paths)).split("\0")
    yield from (fields[at : at + width] for at in range(0, len(fields) - width + 1, width))


def _git(root: Path, command: list[str], stdin: str = "") -> str:
    """Run git; what it says, or nothing where it fails or is not there."""
    environment = {name: value for name, value in os.environ.items() if name not in _REDIRECTED}
    try:
        done = subprocess.run(
            ["git", *command],
            cwd=root,
            env=environment,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout
