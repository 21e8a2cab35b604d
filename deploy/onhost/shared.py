"""Makes the folders of shared/ that a release lists, for the app to write to."""

from __future__ import annotations

import os
from contextlib import suppress

from . import plain
from .layout import Layout


def make_folder(layout: Layout, name: str) -> None:
    """Make the folder ``name`` of shared/, and those above it, where they are not there. Raises OSError.

    Whoever writes beside it may put a link in its place at any moment: what was opened is what gets group and mode.
    """
    *above, last = name.split("/")
    group = layout.root.stat().st_gid
    with plain.folder(layout.root, ["shared"]) as top:
        at = os.dup(top)
        try:
            for part, mode in (*((part, 0o750) for part in above), (last, 0o2770)):
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=at)
                inner = plain.step(at, part, links=True)
                os.close(at)
                at = inner
                if plain.is_half_made(at):  # just now, or by a run that was killed
                    plain.hand_to_group(at, group, mode)
        finally:
            os.close(at)
