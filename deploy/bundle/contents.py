"""One tag's bundle in hand: its manifest, and the bytes behind every digest in it. Decides nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from deploy.bundle.git import GitFailed, Missing, Objects
from deploy.bundle.repository import ResolvedTag
from deploy.bundle.tree import Blobs, LfsPointer
from deploy.closure import HostNeed
from deploy.errors import Failed
from deploy.settings.release import ReleaseSettings
from deploy.wire.manifest import Manifest
from deploy.wire.names import Sha256

MEMORY = "sealed-deploy/blob-digests-1"
"""Below the git folder: object id, sha256 and size of blobs already read. Safe to delete."""
KEPT_BYTES = 64 << 20
"""Blobs kept in memory once read, so that a fleet of hosts does not inflate the same archive again and again."""
_AGAIN = "deploy again: the archive is then looked for anew"


@dataclass
class Bundle:
    """All that is shipped for one tag. Blobs are read from git when a host needs them. Close it, or use ``with``."""

    manifest: Manifest
    resolved: ResolvedTag
    settings: ReleaseSettings
    oids: Mapping[Sha256, str]
    outside: Mapping[Sha256, Path]
    """Archives that git does not hold, and the files of this machine that do."""
    objects: Objects
    blobs: Blobs
    host_needs: tuple[HostNeed, ...] = ()
    """What hosts need to build the closure besides Python: asked of those that will build."""
    _kept: dict[Sha256, bytes] = field(default_factory=dict[Sha256, bytes])
    _room: int = KEPT_BYTES

    def read(self, sha256: Sha256) -> bytes:
        """Give the bytes behind a digest of the manifest, checked against it. Safe to call from several threads.

        Raises KeyError for a digest that the manifest does not hold, Failed where git no longer has the bytes.
        """
        kept = self._kept.get(sha256)
        if kept is not None:
            return kept
        data = self._outside(sha256) if sha256 in self.outside else self._inside(sha256)
        if len(data) <= self._room:
            self._room -= len(data)
            self._kept[sha256] = data
        return data

    def _inside(self, sha256: Sha256) -> bytes:
        oid = self.oids[sha256]
        try:
            data = self.blobs.read(oid)
        except (Missing, GitFailed, LfsPointer) as error:
            raise _unreadable(sha256, f"git cannot give object {oid}: {error}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _unreadable(sha256, f"object {oid} has another digest than was remembered in .git/{MEMORY}")
        return data

    def _outside(self, sha256: Sha256) -> bytes:
        path = self.outside[sha256]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(sha256, f"{path}: {error.strerror}", _AGAIN) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _unreadable(sha256, f"{path} was changed meanwhile", _AGAIN)
        return data

    def close(self) -> None:
        """End the git process behind ``read``."""
        self.objects.close()

    def __enter__(self) -> Bundle:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _unreadable(sha256: Sha256, why: str, next_step: str = f"rm .git/{MEMORY}; git fsck") -> Failed:
    return Failed(f"The service is unchanged; blob {sha256[:12]} was not sent.", why, next_step)
