"""The vendored pip and virtualenv, unpacked once per host from verified wheels into a folder nothing may write."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import List

from deploy.wire.manifest import Package, Target, canonical, is_safe_path
from deploy.wire.names import Sha256

from . import inventory
from .children import Command, environment
from .inventory import take_write_bits
from .layout import read_json, remove_tree, sync_filesystem, write_durably
from .session import Session, StepFailed

FORMAT = 2
MARKER = "tools.json"


def key(target: Target) -> str:
    """Which toolchain a target uses, on this interpreter (byte code is compiled for it)."""
    return (
        "tools-" + hashlib.sha256(canonical([FORMAT, list(target.toolchain), sys.implementation.cache_tag])).hexdigest()
    )


def is_here(session: Session, target: Target) -> bool:
    """Whether the target's toolchain is unpacked here and every byte of it is right: looked at once per run."""
    name = key(target)
    if name in session.intact:
        return True
    final = session.layout.envs / name
    try:
        listed = read_json(final / MARKER)["inventory"]
    except (OSError, ValueError, KeyError):
        return False
    if inventory.differences(final, listed, leave_out=(MARKER,)):
        return False
    session.intact.add(name)
    return True


def unpack(session: Session, target: Target) -> Path:
    """Give the folder to put first on ``sys.path``, unpacking where it is not here yet. Raises StepFailed, OSError."""
    final = session.layout.envs / key(target)
    if is_here(session, target):
        return final
    remove_tree(final)
    with session.step("toolchain", ", ".join("%s %s" % (p.name, p.version) for p in _packages(target))):
        folder = session.layout.scratch("tools")
        for digest in target.toolchain:
            _extract(session, digest, folder)
        _compile(session, folder)
        take_write_bits(folder)
        os.chmod(folder, 0o755)
        os.replace(folder, final)
        sync_filesystem(final)  # nobody relies on it before the marker
        about = {"format": FORMAT, "wheels": list(target.toolchain), "inventory": inventory.take(final)}
        write_durably(final / MARKER, canonical(about), 0o444)
        os.chmod(final, 0o555)
    session.intact.add(final.name)
    return final


def _packages(target: Target) -> List[Package]:
    return [target.packages[digest] for digest in target.toolchain]


def _extract(session: Session, digest: Sha256, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(session.store.read(digest))) as wheel:
        for info in wheel.infolist():
            if info.is_dir():
                continue
            if not is_safe_path(info.filename) or (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise StepFailed("toolchain", "unsafe name in a wheel: %r" % info.filename)
            path = folder / info.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wheel.read(info))


def _compile(session: Session, folder: Path) -> None:
    """Pip runs dozens of times per first deploy: without byte code each start would take a second."""
    finished = session.children().run(
        Command(
            argv=[sys.executable, "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."],
            cwd=str(folder),
            env=environment(),
            deadline_s=300,
            kind="build",
            label="compile toolchain",
            sealed=False,
        )
    )
    if finished.timed_out:
        raise StepFailed("toolchain", "byte-compiling: " + finished.cause(), "", finished.tail())
