"""Archives of a tag that its tree does not hold: behind Git LFS pointers, or in a store. The lock's sha256 decides."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from deploy.bundle.git import NO_HOST
from deploy.bundle.repository import Repository
from deploy.bundle.tree import GitSource, LfsPointer, lfs_refused
from deploy.closure import Lock, read
from deploy.closure.folders import is_address
from deploy.closure.incoming import is_there
from deploy.errors import Refused
from deploy.wire.names import Sha256

_VENDOR = "vendor/"


class OutsideSource:
    """The closure's source over a tag's tree (``closure.Source``), completed from this machine by hash.

    What the tree holds counts, right or wrong. A Git LFS pointer that names the locked sha256 stands for its content,
    from ``lfs_objects`` or the working tree's ``vendor``; an archive that the tree lacks is looked for only where there
    is a ``store``, and then in ``vendor`` and in it.
    """

    def __init__(self, tree: GitSource, requirements: str, *, lfs_objects: Path, vendor: Path, store: str) -> None:
        self._tree = tree
        self._requirements = requirements
        self._lfs_objects = lfs_objects
        self._vendor = vendor
        self._stores = [vendor, *([] if is_address(store) else [Path(store)])] if store else []
        self.paths: dict[Sha256, Path] = {}
        """Where archives were found, outside git."""
        self.pointers: list[str] = []
        """Git LFS pointers whose content is nowhere here."""

    @classmethod
    def of_tag(
        cls, repository: Repository, tree: GitSource, closure: str, requirements: str, store: str
    ) -> OutsideSource:
        """Give the source of a tag's closure, ``closure`` being the folder that holds it."""
        lfs, vendor = repository.git_folder / "lfs/objects", repository.top / closure / "vendor"
        return cls(tree, requirements, lfs_objects=lfs, vendor=vendor, store=store)

    @property
    def has_store(self) -> bool:
        return bool(self._stores)

    @cached_property
    def _lock(self) -> Lock:
        return read(self._tree, self._requirements)

    def read(self, path: str) -> bytes:
        """Give the bytes of one file. Raises FileNotFoundError; Refused for other Git LFS pointers."""
        file = path.removeprefix(_VENDOR)
        archive = self._lock.archives.get(file) if path.startswith(_VENDOR) else None
        if archive is None:
            return self._tree.read(path)
        try:
            return self._tree.blob(path)
        except FileNotFoundError:
            places = [folder / file for folder in self._stores]
            is_pointer = False
        except LfsPointer as pointer:
            if pointer.sha256 != archive.sha256:
                raise lfs_refused([path]) from None
            digest = pointer.sha256
            places = [self._lfs_objects / digest[:2] / digest[2:4] / digest, self._vendor / file]
            is_pointer = True
        for place in places:
            if is_there(place.resolve(), archive):
                self.paths[archive.sha256] = place
                return place.read_bytes()
        if is_pointer:
            self.pointers.append(path)
        raise FileNotFoundError(path)

    def names(self, folder: str) -> tuple[str, ...]:
        """List the names of the tree's entries directly in ``folder``, sorted."""
        return self._tree.names(folder)

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` is a regular file of the tree."""
        return self._tree.exists(path)

    def next_step(self, step: str, tag: str) -> str:
        """What helps where ``closure.check`` advises ``step``: a store can be filled, a tag stays as it is."""
        if self.has_store and step == "fab vendor.fetch":  # only files are missing
            return f"git switch --detach {tag} && fab vendor.fetch, then fab deploy:{tag}"
        return f"{step}, then commit and tag anew: {tag} stays as it is"

    def refuse_pointers(self, tag: str) -> None:
        """Raise Refused where the content of Git LFS pointers was missed."""
        if self.pointers:
            raise Refused(
                NO_HOST,
                "Git LFS has not brought the content of these archives to this machine",
                f"git lfs fetch origin {tag}",
                problems=[ascii(path) for path in self.pointers],
            )
