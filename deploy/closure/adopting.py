"""Takes over what a project has: a requirements file, a pyproject.toml, a pylock.toml, or a folder of archives.

What people asked for becomes ``requirements/NAME.in``; what was pinned is what the lock keeps to. Versions and bytes
that came out otherwise are told or refused, never passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.errors import Refused
from deploy.events import Emit, Notice

from . import adoptable, archivefolder, files, lines, lockfile, projectfile, requirementsfile
from .adoptable import NOTHING, Adoptable
from .fetching import Fetched, fetch
from .index import offering, sha256_of
from .locking import Locked, lock
from .metadata import BadArchive, named
from .model import Lock
from .target import TargetRules, declared, platform_here

OWN = ("requirements.txt", "pyproject.toml")
"""The files of a project that ``init`` takes over, the first that is there."""
_WAY_OUT = (
    "put an archive of each where your index finds it (a folder will do: pip's find-links), name it NAME==VERSION"
)


@dataclass(frozen=True)
class Adopted:
    """What came of it. ``differences`` are those between the source and the lock; ``unnamed`` came along."""

    locked: Locked
    fetched: Fetched
    differences: tuple[str, ...]
    unnamed: tuple[str, ...]


def adopt(
    root: Path,
    requirements: str,
    targets: Sequence[str],
    source: Path,
    emit: Emit,
    *,
    extras: Sequence[str] = (),
    force: bool = False,
    unlisted: bool = False,
) -> Adopted:
    """Write ``requirements/NAME.in`` from ``source``, lock with the versions that it pins, and fetch.

    ``extras`` are those of the project's own to take in. ``force`` replaces a .in file that says something else, and
    leaves packages out that cannot be asked for; ``unlisted`` accepts archives whose hash the source does not list.
    Raises Refused and Failed; then ``requirements/`` is as it was, unless only the fetching failed.
    """
    first = declared(targets)[0]
    full = first.python_full or f"{first.python}.0"
    read = read_source(source, root, TargetRules(first.python, full, first.platform or platform_here()), extras)
    for text in read.told:
        emit(Notice(text))
    _require_whole(read, force=force)
    paths = (lockfile.asked_path(requirements), lockfile.pins_path(requirements), lockfile.lock_path(requirements))
    replaces = force or _as_init_wrote_it(root, root / paths[0])
    asked = _asked(root / paths[0], paths[0], read, force=replaces)
    with offering(source) if source.is_dir() else contextlib.nullcontext():
        with files.kept_on_failure([root / path for path in paths]) as before:
            locking = partial(lock, root, requirements, targets, emit, preferred=read.preferred)
            files.write(root / paths[0], asked)
            locked = locking()
            if lost := _lost(read, locked.lock, emit):
                before.put_back()
                files.write(root / paths[0], asked + lost)
                locked = locking()
            _compare_bytes(read, locked.lock, emit, accepted=unlisted)
        fetched = fetch(root, requirements, emit, superseded=locked.superseded)
    told = adoptable.differences(read, locked.lock)
    told += _compare_folder(source, read.shown, locked.lock) if source.is_dir() else []
    known = {pin.name for pin in read.pinned} | {lines.name_of(line) for line in read.lines}
    return Adopted(locked, fetched, tuple(told), tuple(name for name in locked.new if name not in known))


def read_source(source: Path, root: Path, rules: TargetRules, extras: Sequence[str] = ()) -> Adoptable:
    """Recognise which kind of source it is, and read it. Raises Refused for one that is none."""
    shown = str(source)
    if source.is_dir():
        return archivefolder.read(source, shown, rules)
    projectfile.refuse_others(source, shown)
    with contextlib.suppress(BadArchive):
        named(source.name)
        raise adoptable.unreadable(shown, "is one archive", f"fab vendor.adopt {source.parent}, the folder of them")
    if extras and source.suffix != ".toml":
        raise adoptable.unreadable(shown, "has no extras", "--extra goes with pyproject.toml and pylock.toml")
    if source.suffix == ".toml" and source.name.startswith("pylock"):
        return projectfile.read_pylock(source, shown, rules.markers, extras)
    if source.suffix == ".toml":
        return projectfile.read_pyproject(source, shown, extras)
    return requirementsfile.read(source, root)


def _require_whole(read: Adoptable, *, force: bool) -> None:
    """Refuse to drop a package silently, or to adopt nothing at all."""
    if read.problems and not force:
        raise Refused(
            NOTHING,
            f"{read.shown} names what cannot be taken over, and no package is dropped silently",
            f"{_WAY_OUT}, and adopt again; --force leaves them out, as comments in the .in file",
            problems=read.problems,
        )
    if all(line.startswith("#") for line in read.lines):
        raise adoptable.unreadable(read.shown, "asks for no package", "name the file that does")


def read_own(root: Path, name: str) -> Adoptable:
    """Read one of OWN, as ``init`` does. Raises Refused for a file that cannot be taken."""
    path = root / name
    return requirementsfile.read(path, root) if name == OWN[0] else projectfile.read_pyproject(path, name)


def _as_init_wrote_it(root: Path, path: Path) -> bool:
    """Tell whether the .in file is what ``init`` took from the project's own files, and nobody has touched it since."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    for name in OWN:
        with contextlib.suppress(Refused):
            if (root / name).is_file() and read_own(root, name).asked() == before:
                return True
    return False


def _asked(path: Path, shown: str, read: Adoptable, *, force: bool) -> str:
    """Give the text of the .in file: its own where it asks for the same already. Raises Refused for something else."""
    new, before = read.asked(), path.read_text(encoding="utf-8") if path.is_file() else ""
    there, wanted = lines.read_asked(before, shown), lines.read_asked(new, shown)
    if (there.spelled, there.overrides, there.problems) == (wanted.spelled, wanted.overrides, wanted.problems):
        return before
    if (there.roots or there.policies or there.problems) and not force:
        why = f"{shown} is there already, and asks for something else than {read.shown}"
        raise Refused(NOTHING, why, "fab vendor.add REQUIREMENT adds to it; --force replaces it")
    return new


def _lost(read: Adoptable, locked: Lock, emit: Emit) -> str:
    """Give lines that ask for what the source pins and nothing that was locked needs.

    An export that dropped extras (``celery`` for ``celery[redis]``) is how such a package would get lost.
    """
    lost = adoptable.unneeded(read, locked)
    for pin in lost:
        why = f"nothing that is asked for needs {pin.name} (an extra that is not spelled?); it is asked for by itself"
        emit(Notice(f"{pin.where}: {why}"))
    return "".join(f"{pin.text}\n" for pin in lost)


def _compare_bytes(read: Adoptable, locked: Lock, emit: Emit, *, accepted: bool) -> None:
    other = adoptable.unlisted(read, locked)
    if other and not accepted:
        raise Refused(
            NOTHING,
            f"the index gives archives that {read.shown} does not list: swapped bytes, or it lists some kinds only",
            "compare them with what their authors publish; --unlisted accepts what the index gives",
            problems=other,
        )
    for text in other:
        emit(Notice(f"accepted: {text}"))


def _compare_folder(folder: Path, shown: str, locked: Lock) -> list[str]:
    """Tell what is locked and came from elsewhere than the folder, and what of the folder is not used."""
    there = {sha256_of(path): path.name for path in folder.iterdir() if path.name.endswith(archivefolder.SUFFIXES)}
    used = {archive.sha256 for archive in locked.archives.values()}
    elsewhere = [archive for archive in locked.archives.values() if archive.sha256 not in there]
    run_time = {archive.file for archive in locked.run_time()}
    tools = {file for target in locked.targets for file in target.toolchain}
    groups = (
        ("needed at run time, from the index and not from", [a.file for a in elsewhere if a.file in run_time]),
        ("to build with, from the index and not from", [a.file for a in elsewhere if a.file not in run_time | tools]),
        ("toolchain, from the index and not from", [a.file for a in elsewhere if a.file in tools - run_time]),
        ("not used, of", sorted(name for sha256, name in there.items() if sha256 not in used)),
    )
    return [f"{what} {shown}: {', '.join(names)}" for what, names in groups if names]
