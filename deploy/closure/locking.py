"""Writes the pins: ``requirements/NAME.in`` to ``NAME.txt`` and ``pylock.NAME.toml``. Uses the configured index.

Locking again without a change touches nothing and asks nobody. After a change the versions locked before are kept
wherever they still fit; ``upgrade`` lets go of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.errors import Refused
from deploy.events import Emit, Notice

from . import files, lines, lockfile, proof
from .index import configuration
from .making import Kept, Making
from .model import Lock
from .source import WorkTree
from .target import Declared, declared
from .toolchain import toolchain


@dataclass(frozen=True)
class Locked:
    """What locking did. ``changed`` is False where nothing was written; ``changes`` reads ``django 5.1 -> 5.2``.

    ``new`` names the run-time packages that were not locked before; ``superseded`` the archives that no longer are.
    """

    lock: Lock
    changed: bool
    changes: tuple[str, ...]
    new: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()


def lock(
    root: Path,
    requirements: str,
    targets: Sequence[str],
    emit: Emit,
    *,
    upgrade: bool = False,
    let_go: Collection[str] = (),
    preferred: Sequence[str] = (),
) -> Locked:
    """Resolve ``requirements/NAME.in`` for some targets (``3.11``, ``target.declared``); write the pins and the lock.

    ``upgrade`` lets go of every version locked before, ``let_go`` of those of some packages alone; ``preferred``
    (``django==5.2``) are kept like those locked before, and rather than those.
    Raises Refused for what a person must change (a bad line, a conflict, a build loop) and Failed where the index
    does not answer; then nothing was written.
    """
    wanted = declared(targets)
    asked = _asked(root, requirements)
    _require_ours(root, requirements)
    earlier = _earlier(root, requirements)
    if earlier and not upgrade and not let_go and not preferred and _still_holds(root, earlier, asked, wanted):
        return Locked(earlier, changed=False, changes=())
    if upgrade and earlier:  # of the earlier lock, its targets are kept all the same
        let_go = {archive.name for archive in earlier.archives.values()}
    kept = Kept(preferred=preferred) if earlier is None else _kept(earlier, let_go, preferred)
    for line in configuration():
        emit(Notice(f"pip's configuration in force: {line}"))
    with tempfile.TemporaryDirectory(prefix="sealed-deploy-lock-") as work:
        fresh = Making(asked, wanted, kept, Path(work), emit, vendor=root / proof.VENDOR).lock(requirements)
    folder = root / "requirements"
    wrote = files.write(folder / Path(lockfile.pins_path(requirements)).name, lockfile.write_pins(fresh))
    wrote |= files.write(folder / Path(lockfile.lock_path(requirements)).name, lockfile.write_lock(fresh))
    before = {archive.name for archive in earlier.run_time()} if earlier else set[str]()
    new = tuple(sorted({archive.name for archive in fresh.run_time()} - before))
    superseded = tuple(sorted(set(earlier.archives) - set(fresh.archives))) if earlier else ()
    return Locked(fresh, changed=wrote, changes=_changes(earlier, fresh), new=new, superseded=superseded)


def _asked(root: Path, requirements: str) -> lines.Asked:
    path = lockfile.asked_path(requirements)
    file = root / path
    if not file.is_file():
        raise Refused("Nothing was locked.", f"{path} is missing", f"write what the project needs into {path}")
    asked = lines.read_asked(file.read_text(encoding="utf-8"), path)
    if asked.problems:
        raise Refused("Nothing was locked.", f"{path} cannot be locked", f"edit {path}", problems=asked.problems)
    return asked


def _require_ours(root: Path, requirements: str) -> None:
    """Refuse to write over what a person, or another tool, wrote."""
    for path in (lockfile.pins_path(requirements), lockfile.lock_path(requirements)):
        file = root / path
        text = file.read_bytes().strip() if file.is_file() else b""
        if text and not text.startswith(lockfile.GENERATED.encode()):
            raise Refused(
                "Nothing was locked.",
                f"{path} is in the way: the pins would be written there, and vendor.lock did not write what it holds",
                f"move {path} away, or set `requirements:` in fabric.yaml to another name than {requirements}",
            )


def _earlier(root: Path, requirements: str) -> Lock | None:
    try:
        return proof.read(WorkTree(root), requirements)
    except Refused:
        return None  # none yet, or one that this run replaces


def _still_holds(root: Path, earlier: Lock, asked: lines.Asked, wanted: Sequence[Declared]) -> bool:
    """Tell whether the lock on disk, in this library's form, already answers the .in file, targets and toolchain."""
    tools = [
        {earlier.archives[file].name: earlier.archives[file].version for file in target.toolchain}
        for target in earlier.targets
    ]
    return (
        asked.spelled == earlier.roots
        and asked.overrides == earlier.overrides
        and proof.same_targets(wanted, earlier.targets)
        and tools == [toolchain(target.python) for target in earlier.targets]
        and _text(root / lockfile.pins_path(earlier.requirements)) == lockfile.write_pins(earlier)
        and _text(root / lockfile.lock_path(earlier.requirements)) == lockfile.write_lock(earlier)
        and not proof.needs_locking(WorkTree(root), earlier)
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _kept(earlier: Lock, let_go: Collection[str], preferred: Sequence[str]) -> Kept:
    """What to keep of the earlier lock. Raises Refused for a package to let go of that is not locked."""
    known = {archive.name for archive in earlier.archives.values()}
    names = {canonicalize_name(name) for name in let_go}
    for name in sorted(names - known):
        from deploy.settings.section import did_you_mean  # ./bootstrap checks before there is a YAML reader

        why = f"{name} is no package of requirements/{earlier.requirements}{did_you_mean(name, known)}"
        raise Refused("Nothing was locked.", why, "fab vendor.upgrade NAME with a name that is pinned")
    return Kept(earlier, names, preferred)


def _changes(earlier: Lock | None, fresh: Lock) -> tuple[str, ...]:
    before, after = _versions(earlier), _versions(fresh)
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return tuple(f"{name} {before.get(name, '(new)')} -> {after.get(name, '(gone)')}" for name in names)


def _versions(lock: Lock | None) -> dict[str, str]:
    """Versions by name; several where targets differ: ``2.2 and 2.4``."""
    found: dict[str, set[str]] = {}
    for archive in lock.run_time() if lock else ():
        found.setdefault(archive.name, set()).add(archive.version)
    return {name: " and ".join(sorted(versions, key=Version)) for name, versions in found.items()}
