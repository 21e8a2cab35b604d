"""Point ``current`` at a release, atomically, with read-back. rename(2) of a link nobody else can have; nothing else.

On a disk without a free byte or inode a new link cannot be made; then a spare one, left behind by every stage, is
exchanged in (renameat2(2) with RENAME_EXCHANGE).
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from pathlib import Path
from typing import Optional

from deploy.wire.names import ReleaseId

from .layout import Layout, sync_folder, unlink_if_there

_AT_FDCWD, _EXCHANGE = -100, 2


class NotSwitched(Exception):
    """``current`` does not read back as what was asked for."""


def point(layout: Layout, link: Path, release: ReleaseId) -> None:
    """Make ``link`` (current or previous) name ``release``, durably: old or new, never neither.

    Raises NotSwitched, OSError.
    """
    if os.path.lexists(link) and not link.is_symlink():
        raise NotSwitched("%s is not a symbolic link" % link)
    temp = link.with_name(".%s.%d.%d" % (link.name, os.getpid(), time.monotonic_ns()))
    try:
        try:
            os.symlink("releases/" + release, temp)
            os.replace(temp, link)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _exchange(layout, link, release)
    finally:
        unlink_if_there(temp)
    sync_folder(layout.root)
    if layout.link_target(link) != release:
        raise NotSwitched("%s reads back as %s" % (link, os.readlink(link)))


def withdraw(layout: Layout) -> None:
    """Remove ``current``: the first release ever was unhealthy, and nothing is live, as before."""
    unlink_if_there(layout.current)
    sync_folder(layout.root)


def leave_spare(layout: Layout, release: ReleaseId) -> None:
    """Leave links behind that can be exchanged in where none can be made: one for ``current``, one for ``previous``.

    Each release that such a link does not name keeps its spare, however often it is switched there and back.
    """
    for link in (layout.current, layout.previous):
        spare = _spare(layout, link, release)
        spare.parent.mkdir(exist_ok=True)
        if layout.link_target(spare) != release:
            unlink_if_there(spare)
            os.symlink("releases/" + release, spare)


def sweep_spares(layout: Layout) -> None:
    """Take away every spare that names no release of this host any more."""
    present = set(layout.present())
    for spare in sorted((layout.state / "links").glob("*")):
        if layout.link_target(spare) not in present:
            unlink_if_there(spare)


def _spare(layout: Layout, link: Path, release: ReleaseId) -> Path:
    return layout.state / "links" / ("%s.%s" % (link.name, release))


def _exchange(layout: Layout, link: Path, release: ReleaseId) -> None:
    spare = _spare(layout, link, release)
    if layout.link_target(spare) != release:  # an exchange that was cut off left it under the wrong name
        found = [path for path in spare.parent.glob(link.name + ".*") if layout.link_target(path) == release]
        if not found:
            raise OSError(errno.ENOSPC, "the disk is full, and no spare link names %s" % release, str(link))
        spare = found[0]
    if not os.path.lexists(link):
        os.replace(spare, link)
        return
    was: Optional[ReleaseId] = layout.link_target(link)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(str(spare)), _AT_FDCWD, os.fsencode(str(link)), _EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, "cannot exchange links: %s" % os.strerror(code), str(link))
    if was:
        os.replace(spare, _spare(layout, link, was))
