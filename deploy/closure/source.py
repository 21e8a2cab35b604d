"""Where a closure is read from: a few bytes by path. Knows no git and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """A tree that holds ``requirements/`` and ``vendor/``: the working tree, or the tree of a git tag.

    Paths are relative, with ``/``, and never leave the tree.
    """

    def read(self, path: str) -> bytes:
        """Give the bytes of one file. Raises FileNotFoundError where there is no such file."""
        ...

    def names(self, folder: str) -> tuple[str, ...]:
        """List the names of the entries directly in ``folder``, sorted; empty where there is no such folder."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` is a file of the tree."""
        ...


class WorkTree:
    """The checked-out files below one folder. A symlink is not a file of the tree: git would ship its target's name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        """Give the bytes of one file. Raises FileNotFoundError where it is absent, a folder or a symlink."""
        if not self.exists(path):
            raise FileNotFoundError(path)
        return (self._root / path).read_bytes()

    def names(self, folder: str) -> tuple[str, ...]:
        """List the names of the entries directly in ``folder``, sorted; empty where there is no such folder."""
        at = self._root / folder
        return tuple(sorted(entry.name for entry in at.iterdir())) if at.is_dir() else ()

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` is a regular file."""
        at = self._root / path
        return at.is_file() and not at.is_symlink()
