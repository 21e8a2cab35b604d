"""Content by sha256: archives and tree files, each sent to a host once while any kept release needs it.

A file is visible under its digest only after its bytes were hashed while they were written and fsynced.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, List, Mapping

from deploy.wire.names import Sha256

from . import plain
from .layout import Layout, unlink_if_there

_FICLONE = 0x40049409


class WrongContent(Exception):
    """Bytes do not have the digest they were announced, or stored, under."""


class Store:
    """The files of one ROOT's store."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.files
        self._layout = layout

    def path(self, digest: Sha256) -> Path:
        return self._folder / digest[:2] / digest

    def lacks(self, digests: Iterable[Sha256], sizes: Mapping[Sha256, int]) -> List[Sha256]:
        """Those of ``digests`` that are not here in their right size, in order, each once.

        The size tells what a power cut emptied; every later read hashes.
        """
        return [digest for digest in dict.fromkeys(digests) if self._size(digest) != sizes[digest]]

    def drop_wrong(self, digests: Iterable[Sha256]) -> int:
        """Remove every one of ``digests`` whose content is not what its name says; returns how many went."""
        dropped = 0
        for digest in digests:
            path = self.path(digest)
            if not path.exists():
                continue
            with open(plain.open_file(path), "rb") as file:
                wrong = hash_file(file) != digest
            if wrong:
                path.unlink()
                dropped += 1
        return dropped

    def _size(self, digest: Sha256) -> int:
        try:
            return os.lstat(self.path(digest)).st_size
        except OSError:
            return -1

    def receive(self, digest: Sha256, pieces: Iterator[bytes]) -> None:
        """Take one blob, hashing as it comes. Raises WrongContent, OSError; nothing is left behind then.

        Not fsynced here: one syncfs before the marker makes everything durable, and every later read hashes again.
        """
        final = self.path(digest)
        final.parent.mkdir(mode=0o700, exist_ok=True)
        temp = self._layout.tmp / ("blob.%d" % os.getpid())
        hasher = hashlib.sha256()
        try:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o400)
            with open(fd, "wb") as file:
                for piece in pieces:
                    hasher.update(piece)
                    file.write(piece)
            if hasher.hexdigest() != digest:
                raise WrongContent("received bytes have sha256 %s, announced was %s" % (hasher.hexdigest(), digest))
            os.replace(temp, final)
        except BaseException:
            if temp.exists():
                temp.unlink()
            raise

    def read(self, digest: Sha256) -> bytes:
        """Verified content: the very bytes that were hashed. Raises WrongContent, OSError.

        Content that does not match is removed, so that the next run asks for it again.
        """
        with open(plain.open_file(self.path(digest)), "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != digest:
            raise self._altered(digest)
        return data

    def copy_to(self, digest: Sha256, path: Path, mode: int) -> None:
        """Put verified content at ``path`` as a file of its own: a reflink or a copy, never a hard link.

        What was copied is hashed, by the descriptor it was written with: whoever writes into the store meanwhile is
        noticed. Raises WrongContent, OSError; then nothing is at ``path``.
        """
        with open(plain.open_file(self.path(digest)), "rb") as source:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(fd, "r+b") as file:
                clone_or_copy(source, file)
                file.seek(0)
                if hash_file(file) != digest:
                    path.unlink()
                    raise self._altered(digest)
                os.fchmod(file.fileno(), mode)

    def _altered(self, digest: Sha256) -> WrongContent:
        path = self.path(digest)
        unlink_if_there(path)
        return WrongContent("%s was altered on this host; it is dropped and will be sent again" % path)


def clone_or_copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy whole contents, sharing blocks where the filesystem can (ioctl_ficlone(2))."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        shutil.copyfileobj(source, target, 1 << 18)


def hash_file(file: BinaryIO) -> str:
    """The sha256 of everything from the present position on."""
    hasher = hashlib.sha256()
    while True:
        piece = file.read(1 << 18)
        if not piece:
            return hasher.hexdigest()
        hasher.update(piece)
