"""One tag's tree: its entries, exact blobs and their sha256. Never the work tree, never ``git archive``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle.git import NO_HOST, Git, Missing, Objects
from deploy.errors import Refused
from deploy.wire.names import Sha256, is_sha256

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_MAX = 1024
"""Bytes; the specification: a pointer file is smaller than 1024."""
LINK = "120000"
SUBMODULE = "160000"


class LfsPointer(Exception):
    """The blob is a Git LFS pointer: the content itself is not in the repository. ``sha256`` is what it names."""

    def __init__(self, oid: str, content: bytes) -> None:
        super().__init__(oid)
        named = re.search(rb"^oid sha256:([0-9a-f]{64})$", content, re.MULTILINE)
        self.sha256 = named.group(1).decode("ascii") if named else ""


@dataclass(frozen=True)
class Entry:
    """One path of a tree. ``mode`` as git prints it: 100644, 100755, 120000 (link) or 160000 (submodule)."""

    path: str
    mode: str
    oid: str


@dataclass(frozen=True)
class Digest:
    """What the manifest says of one blob."""

    sha256: Sha256
    size: int


def entries(git: Git, tree: str) -> dict[str, Entry]:
    """List a tree, all folders, by path. Paths that are not UTF-8 hold surrogates (PEP 383). Raises GitFailed."""
    listed = git.run("ls-tree", "-r", "-z", "--full-tree", tree)
    found: dict[str, Entry] = {}
    for record in listed.split(b"\0")[:-1]:
        head, _, raw = record.partition(b"\t")
        mode, _, oid = head.decode("ascii").split(" ")
        path = raw.decode("utf-8", "surrogateescape")
        # Old repositories hold 100664; git checks it out as 100644.
        found[path] = Entry(path, "100644" if mode == "100664" else mode, oid)
    return found


class Blobs:
    """The blobs of a repository, each with its sha256. Digests are remembered by object id, in a file safe to lose."""

    def __init__(self, objects: Objects, memory: Path) -> None:
        self._objects = objects
        self._memory = memory
        self._known = _recall(memory)
        self._new: dict[str, Digest] = {}

    def read(self, oid: str) -> bytes:
        """Give a blob's bytes, as git holds them. Raises Missing, GitFailed, LfsPointer."""
        kind, content = self._objects.read(oid)
        if kind != "blob":
            raise Missing(oid)
        if len(content) < LFS_POINTER_MAX and content.startswith(LFS_POINTER):
            raise LfsPointer(oid, content)
        return content

    def digest(self, oid: str) -> Digest:
        """Give a blob's sha256 and size; reads the blob only where it was never read before. Raises as ``read``."""
        known = self._known.get(oid)
        if known is None:
            content = self.read(oid)
            known = Digest(Sha256(hashlib.sha256(content).hexdigest()), len(content))
            self._known[oid] = self._new[oid] = known
        return known

    def remember(self) -> None:
        """Append the new digests to the memory. A repository that cannot be written only costs time."""
        lines = "".join(f"{oid} {found.sha256} {found.size}\n" for oid, found in self._new.items())
        if not lines:
            return
        try:
            self._memory.parent.mkdir(exist_ok=True)
            with self._memory.open("ab", buffering=0) as file:
                file.write(lines.encode("ascii"))
        except OSError:
            return
        self._new.clear()


def _recall(memory: Path) -> dict[str, Digest]:
    """Read the memory; a torn or foreign line is skipped. What it says is proven when a blob is sent."""
    try:
        lines = memory.read_text("ascii", "replace").splitlines()
    except OSError:
        return {}
    known: dict[str, Digest] = {}
    for line in lines:
        words = line.split(" ")
        if len(words) == 3 and len(words[0]) in (40, 64) and is_sha256(words[1]) and words[2].isdecimal():
            known[words[0]] = Digest(Sha256(words[1]), int(words[2]))
    return known


class GitSource:
    """The closure's source over a tag's tree, below one folder of it. A link is not a file."""

    def __init__(self, tree: Mapping[str, Entry], blobs: Blobs, folder: str = "") -> None:
        prefix = f"{folder}/" if folder else ""
        inside = {path[len(prefix) :]: entry for path, entry in tree.items() if path.startswith(prefix)}
        self._files = {path: entry for path, entry in inside.items() if entry.mode.startswith("100")}
        self._blobs = blobs
        self._names: dict[str, set[str]] = {}
        for path in inside:
            at, _, name = path.rpartition("/")
            while name and name not in self._names.setdefault(at, set()):
                self._names[at].add(name)
                at, _, name = at.rpartition("/")

    def read(self, path: str) -> bytes:
        """Give the bytes of one file. Raises FileNotFoundError; Refused for a Git LFS pointer."""
        try:
            return self.blob(path)
        except LfsPointer:
            raise lfs_refused([path]) from None

    def blob(self, path: str) -> bytes:
        """Like ``read``, but raises LfsPointer for such a one."""
        return self._blobs.read(self.oid(path))

    def names(self, folder: str) -> tuple[str, ...]:
        """List the names of the entries directly in ``folder``, sorted; empty where there is no such folder."""
        return tuple(sorted(self._names.get(folder.strip("/"), ())))

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` is a regular file of the tree."""
        return path in self._files

    def oid(self, path: str) -> str:
        """The object id of one file. Raises FileNotFoundError."""
        if path not in self._files:
            raise FileNotFoundError(path)
        return self._files[path].oid


def lfs_refused(paths: Sequence[str]) -> Refused:
    """The error for files whose content Git LFS keeps elsewhere."""
    return Refused(
        NO_HOST,
        "Git LFS keeps the content of these files outside the repository: a tag does not fix what they hold",
        "commit them as plain files (`git lfs migrate export`), or add them to `exclude`, and tag again",
        problems=[ascii(path) for path in paths],
    )


def links_out(links: Mapping[str, str], path: str) -> bool:
    """Tell whether the link at ``path`` leads out of the tree, followed through other links as a host would.

    ``links`` holds the target of every link of the tree by path. More than 40 hops leave too (path_resolution(7)).
    """
    todo = path.split("/")
    at: list[str] = []
    hops = 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return True
            at.pop()
            continue
        at.append(part)
        target = links.get("/".join(at))
        if target is not None:
            hops += 1
            if os.path.isabs(target) or hops > 40:  # noqa: PTH117 - a path of the tree, not of this machine
                return True
            at.pop()
            todo = target.split("/") + todo
    return False
