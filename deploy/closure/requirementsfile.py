"""Reads requirement files of pip, and what pip-tools, uv, Poetry, PDM and pipenv export in that form. Asks nobody.

A file may lead to others (``-r``), to bounds (``-c``), and may say in ``# via`` comments who needs whom: then what
people asked for is told apart from what came along. No package is left out without a word: it becomes a problem.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.errors import Refused

from . import lines, projectfile
from .adoptable import Adoptable, Pinned, bare, is_pin, unreadable
from .index import redacted

_VIA = re.compile(r"#\s*via\b(?P<rest>.*)$", re.MULTILINE)
_COMMENT = re.compile(r"#(?!\s*policy:)")
_VIA_MORE = re.compile(r"#\s{2,}(?P<rest>\S.*)$")
_OPTIONS = re.compile(r"\s--(?=(?:hash|config-settings?|global-option|install-option)\b)")
_HASH = re.compile(r"hash[=\s]\s*sha256:(?P<sha256>[0-9A-Fa-f]{64})$")
_PATH = re.compile(r"(file:|\.{0,2}/|\.{1,2}(\[|$)|~|[A-Za-z]:\\)|.*\.(whl|zip|tar\.\w+|tgz)$")
_INDEX = "which index is asked is pip's own configuration on this machine (pip config list)"
_LEFT_OUT = {
    **dict.fromkeys(("-i", "--index-url", "--extra-index-url", "--trusted-host", "-f", "--find-links"), _INDEX),
    "--no-index": _INDEX,
    "--pre": "a pre-release is taken where its version is asked for",
    "--prefer-binary": "source is the rule; where a wheel is wanted, write '# policy: NAME wheel'",
    "--require-hashes": "every pin gets its hash in any case",
}
_FLAGS = {"--no-index", "--pre", "--prefer-binary", "--require-hashes"}
_LONG = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable"}


def read(source: Path, root: Path) -> Adoptable:
    """Read a requirements file and all that it names. ``root`` is the project's folder.

    Raises Refused for a file that is missing or unreadable, and for files that name each other in a loop.
    """
    tree = _Tree(root)
    tree.read(source)
    return Adoptable(
        shown=tree.shown(source),
        lines=tuple(tree.lines),
        pinned=tuple(tree.pinned),
        limits=tuple(tree.limits),
        told=tuple(tree.told),
        problems=tuple(tree.problems),
    )


@dataclass
class _Entry:
    """One requirement of a file, with the ``# via`` that an export says of it."""

    requirement: Requirement
    text: str
    line: str
    via: list[str] = field(default_factory=list[str])

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)


class _Tree:
    """A requirements file and those that it names, read in the order in which pip reads them."""

    def __init__(self, root: Path, named_by: Sequence[Path] = ()) -> None:
        self._root = root.resolve()
        self._open = list(named_by)
        self._done: set[Path] = set()
        self._is_exported = False
        self.lines: list[str] = []
        self.pinned: list[Pinned] = []
        self.limits: list[str] = []
        self.told: list[str] = []
        self.problems: list[str] = []

    def shown(self, path: Path) -> str:
        """Give a path relative to the project where it lies in it."""
        plain = Path(os.path.normpath(path.absolute()))
        return str(plain.relative_to(self._root)) if plain.is_relative_to(self._root) else str(path)

    def read(self, path: Path, where: str = "") -> None:
        """Read one file, which a line (``where``) of another may have named; a file is read once."""
        if path.resolve() in [other.resolve() for other in self._open]:
            chain = " -> ".join(self.shown(other) for other in (*self._open, path))
            raise unreadable(where, f"these files name each other in a loop: {chain}", "take one of these lines away")
        if path.resolve() in self._done:
            return
        self._done.add(path.resolve())
        text = self._text(path, where)
        if where:
            self.told.append(f"{where}: {self.shown(path)} is read, too")
        self._open.append(path)
        outer, self.lines = self.lines, []
        outer_is_exported, self._is_exported = self._is_exported, bool(_VIA.search(text))
        entries = self._entries(path, text)
        if self._is_exported:
            exported = {entry.line for entry in entries}
            others = [line for line in self.lines if line not in exported and not _COMMENT.match(line)]
            self.lines = [*self._exported(path, entries), *others]
        elif any("generated" in line for line in takewhile(_COMMENT.match, self.lines)):
            self.lines = list(dropwhile(_COMMENT.match, self.lines))
        self.lines = [*outer, *self.lines]
        self._is_exported = outer_is_exported
        self._open.pop()

    def _text(self, path: Path, where: str) -> str:
        try:
            return lines.decoded(path.read_bytes())
        except OSError as error:
            why = f"{f'{self.shown(path)} ' if where else ''}cannot be read: {error.strerror}"
            raise unreadable(where or self.shown(path), why, "correct the path") from None
        except ValueError as error:
            say = "save it as UTF-8, or say its encoding in the first line (# -*- coding: latin-1 -*-)"
            raise unreadable(self.shown(path), f"its text cannot be decoded: {error}", say) from None

    def _entries(self, path: Path, text: str) -> list[_Entry]:
        """Read the requirements of one file; they and its comments become lines, in order."""
        entries: list[_Entry] = []
        last: _Entry | None = None
        via = False
        for number, line in lines.logical_lines(text):
            where = f"{self.shown(path)}:{number}"
            plain = lines.without_comment(line)
            comment = line[len(plain) :].strip()
            if plain:
                last = self._line(plain, comment, where, path)
                if last:
                    entries.append(last)
                    self.lines.append(last.line)
            found = _VIA.match(comment) or (_VIA_MORE.match(comment) if via and not plain else None)
            via = bool(found)
            if found and last:
                last.via += [word.strip() for word in found["rest"].split(",") if word.strip()]
            elif comment and not plain:
                self.lines.append(comment)
        return entries

    def _line(self, plain: str, comment: str, where: str, path: Path) -> _Entry | None:
        """Read one line that is no comment; None for what is no requirement."""
        if plain.startswith("-"):
            self._options(plain, where, path)
            return None
        text, *options = _OPTIONS.split(plain)
        text = text.strip()
        others = sorted({re.split(r"[=\s]", option)[0] for option in options} - {"hash"})
        self.told += [f"{where}: --{option} is left out: builds run without options" for option in others]
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            if _PATH.match(text) or "://" in text:
                self._elsewhere(text, where, path)
            else:
                self.problems.append(f"{where}: {text!r} is not a requirement: {str(error).splitlines()[0]}")
            return None
        if requirement.url is not None:
            self._elsewhere(text, where, path)
            return None
        if canonicalize_name(requirement.name) == "pkg-resources":
            self.told.append(f"{where}: {text} is left out: no package, a mistake of Debian's pip freeze")
            return None
        hashes = [_HASH.match(option.strip()) for option in options]
        sha256s = frozenset(found["sha256"].lower() for found in hashes if found)
        if not sha256s and any("hash" in option for option in options):
            self.told.append(f"{where}: its hashes are not compared: none of them is a sha256")
        if is_pin(requirement):
            self.pinned.append(Pinned(where, bare(requirement), sha256s))
        return _Entry(requirement, text, f"{text}  {comment}".rstrip())

    def _options(self, plain: str, where: str, path: Path) -> None:
        try:
            words = shlex.split(plain)
        except ValueError as error:
            self.problems.append(f"{where}: {redacted(plain)!r} cannot be read: {error}")
            return
        while words:
            name, equals, value = words.pop(0).partition("=")
            if not name.startswith("--"):
                name, value = name[:2], name[2:] + equals + value
            if not value and name not in _FLAGS and words:
                value = words.pop(0)
            self._option(_LONG.get(name, name), value, where, path)

    def _option(self, name: str, value: str, where: str, path: Path) -> None:
        if name in {"--requirement", "--constraint"} and "://" in value:
            why = f"{name} names an address, and nothing is fetched from there: save it beside, and name the file"
            (self.told if name == "--constraint" else self.problems).append(f"{where}: {why}")
        elif name == "--requirement":
            self.read(path.parent / value, where)
        elif name == "--constraint":
            self._bounds(path.parent / value, where)
        elif name == "--editable":
            self._elsewhere(value, where, path)
        elif name in {"--no-binary", "--only-binary"}:
            self._policies(name, value, where)
        else:
            why = _LEFT_OUT.get(name, "it is an option of pip's, and this library sets those itself")
            self.told.append(f"{where}: {name} is left out: {why}")

    def _bounds(self, path: Path, where: str) -> None:
        """Read constraints: versions to prefer, nothing to install."""
        bounds = _Tree(self._root, self._open)
        bounds.read(path, where)
        self.pinned += [dataclasses.replace(pin, asked=False) for pin in bounds.pinned]
        plain = (lines.without_comment(line) for line in bounds.lines)
        self.limits += [str(bare(Requirement(line))) for line in plain if line]
        self.limits += bounds.limits
        later = "constraints count while this lock is made; write those that must hold later into the .in file"
        self.told += [*bounds.told, *bounds.problems, f"{where}: {later}"]

    def _policies(self, option: str, value: str, where: str) -> None:
        """Say ``--no-binary NAME`` as a policy comment; ``:all:`` names nobody."""
        for name in filter(None, value.split(",")):
            if name.startswith(":"):
                why = "source is the rule; write '# policy: NAME wheel' where a wheel is wanted"
                self.told.append(f"{where}: {option} {name} is left out: {why}")
            else:
                policy = "source" if option == "--no-binary" else "wheel"
                self.lines.append(f"# policy: {canonicalize_name(name)} {policy}")

    def _elsewhere(self, text: str, where: str, path: Path) -> None:
        """What lies on no index: the project itself is shipped anyway, all else is a package that would be missing."""
        place = re.sub(r"^file:(//)?|#.*$", "", text.strip())
        at, _, extras = place.partition("[")
        if (
            "://" in text
            or "+" in at
            or not any((base / at).resolve() == self._root for base in (self._root, path.parent))
        ):
            kind = "a VCS requirement" if re.search(r"(^|[@\s])(git|hg|svn|bzr)\+", text) else "an address or a path"
            self.problems.append(f"{where}: {redacted(text)}: {kind}")
            return
        why = "the project itself, is left out: a deploy ships its files, installs nothing"
        self.told.append(f"{where}: {text!r}, {why}")
        if self._is_exported:  # it lists what the project needs
            return
        named = [extra.strip() for extra in extras.rstrip("]").split(",") if extra.strip()]
        try:
            self.lines += projectfile.own_requirements(self._root, named)
        except Refused as refused:
            self.problems.append(f"{where}: {text} would install what the project needs, too. {refused.why}")

    def _exported(self, path: Path, entries: Sequence[_Entry]) -> list[str]:
        """Give what people asked for of an exported file, spelled as they did where their file lies beside."""
        roots = _roots(entries)
        asked = self._spelled(path, roots)
        self.told.append(
            f"{self.shown(path)}: its comments say who needs whom: {len(roots)} of {len(entries)} packages are asked"
            " for by people, the others came along"
        )
        named = {name for line in asked if (name := lines.name_of(line))}
        known = {entry.name for entry in entries}
        asked += [entry.text for entry in roots if entry.name not in named]
        self.told += [f"{self.shown(path)}: does not pin {name}, which is asked for" for name in sorted(named - known)]
        return asked

    def _spelled(self, path: Path, roots: Iterable[_Entry]) -> list[str]:
        """Read the file that ``# via`` names (``-r NAME.in``, or a project) where there is one."""
        found: list[str] = []
        for word in sorted({word for entry in roots for word in entry.via}):
            named = word.removeprefix("-r").strip()
            places = [folder / named for folder in (path.parent, self._root)] + [path.parent / Path(named).name]
            file = next((place for place in places if word.startswith("-r") and place.is_file()), None)
            if file and file.resolve() not in self._done:
                before, self.lines, pinned = self.lines, [], len(self.pinned)
                self.read(file, f"{self.shown(path)}: # via {word}")
                found += self.lines
                self.lines = before
                del self.pinned[pinned:]
            elif word.startswith("-r") and not file:
                self.told.append(f"{self.shown(path)}: {named}, which it was made from, is not beside it")
        found += projectfile.spelled(path.parent, self._root, {entry.name: entry.via for entry in roots})
        return found


def _roots(entries: Sequence[_Entry]) -> list[_Entry]:
    """Tell what people asked for: what a file or a project wants, or nobody else needs, or nobody says anything of."""
    known = {entry.name for entry in entries}
    inner = {
        id(entry): {canonicalize_name(word) for word in entry.via if not word.startswith("-c")} for entry in entries
    }
    roots = [entry for entry in entries if not inner[id(entry)] or not inner[id(entry)] <= known]
    reached = {entry.name for entry in roots}
    while more := {entry.name for entry in entries if inner[id(entry)] & reached} - reached:
        reached |= more
    return [entry for entry in entries if entry in roots or entry.name not in reached]
