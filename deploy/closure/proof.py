"""Proves offline that the pins of ``requirements/`` and the files of ``vendor/`` are one closed set.

Runs no package code. Neutral on purpose: no pip, no configuration, no environment variable and no
network has a say in the answer.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.errors import Refused

from . import lines, lockfile, memory, metadata
from .breaks import Breaks
from .chains import holes, reasons
from .lockfile import BadLock
from .model import Archive, Lock, LockTarget, is_archive_name
from .source import Source
from .target import Declared, declared

VENDOR = "vendor"


def read(source: Source, requirements: str) -> Lock:
    """Read the lock of ``requirements/NAME``, without looking at ``vendor/``.

    Raises Refused where there is no lock, or one that this program cannot read.
    """
    path = lockfile.lock_path(requirements)
    try:
        lock = lockfile.read_lock(source.read(path), path)
    except FileNotFoundError:
        raise _refused(requirements, f"{path} is missing: nothing is locked", "fab vendor.lock") from None
    except BadLock as error:
        raise _refused(requirements, str(error), "fab vendor.lock") from None
    if lock.requirements != requirements:
        raise _refused(requirements, f"{path} locks {lock.requirements!r}, not {requirements!r}", "fab vendor.lock")
    return lock


@dataclass(frozen=True)
class Closed:
    """A closure that was proven closed: its lock, what people asked for, and what each archive says of itself."""

    lock: Lock
    roots: tuple[lines.Root, ...]
    known: Mapping[str, metadata.Metadata]


def check(source: Source, requirements: str, targets: Sequence[str] = ()) -> Lock:
    """Prove that the closure of ``requirements/NAME`` is closed for every target of its lock, and give the lock.

    Raises as ``examine`` does.
    """
    return examine(source, requirements, targets).lock


def examine(source: Source, requirements: str, targets: Sequence[str] = ()) -> Closed:
    """Prove that the closure of ``requirements/NAME`` is closed for every target of its lock.

    ``targets`` are what the settings declare: the lock must have each of them.

    Checks: every pin has its file and every file its pin; hashes and sizes; names and versions in the archives'
    own metadata; nothing hostile in them; no line that looks past ``vendor/``; every requirement met at run time and
    in every build environment, markers and extras judged for the target; Requires-Python; wheel tags; the toolchain.
    Raises Refused with every break at once.
    """
    lock = read(source, requirements)
    asked, breaks, known = _breaks(source, lock)
    lacking = [one for one in declared(targets) if not any(_is(one, target) for target in lock.targets)]
    if lacking:
        path, those = lockfile.lock_path(requirements), ", ".join(target.name for target in lock.targets)
        breaks.pins.extend(f"{path} is locked for {those}; the settings ask for Python {one}" for one in lacking)
    problems = breaks.all()
    if problems:
        count = "1 break" if len(problems) == 1 else f"{len(problems)} breaks"
        raise _refused(requirements, f"{count} in the closure", breaks.next_step(lock), problems)
    return Closed(lock, asked.roots, known)


def needs_locking(source: Source, lock: Lock) -> bool:
    """Tell whether something is wrong with a lock that locking again may mend; absent files are fetched instead."""
    _, breaks, _ = _breaks(source, lock)
    return bool(breaks.edits or breaks.pins or breaks.bad)


def same_targets(wanted: Sequence[Declared], locked: Sequence[LockTarget]) -> bool:
    """Tell whether a lock has the declared targets and no other."""
    return len(wanted) == len(locked) and all(any(_is(one, target) for target in locked) for one in wanted)


def _is(wanted: Declared, target: LockTarget) -> bool:
    return wanted.admits(target.python, target.python_full, target.platform, target.libc)


def contents(source: Source, lock: Lock) -> Mapping[str, metadata.Metadata]:
    """Give what each archive of a lock says of itself, by file name.

    Raises Refused where one is missing, altered or unreadable.
    """
    breaks = Breaks()
    known = _archives(source, lock.archives.values(), breaks)
    if problems := breaks.all():
        why = f"{len(problems)} archives of {VENDOR}/ cannot be read"
        raise _refused(lock.requirements, why, breaks.next_step(lock), problems)
    return known


def who_needs(source: Source, requirements: str) -> Mapping[str, Mapping[str, list[str]]]:
    """Every chain that needs each package, by package and target, run-time and ``[build]``. Raises Refused.

    Archives that are not there, or are altered, are judged by what the lock recorded of them.
    """
    lock = read(source, requirements)
    asked = _asked(source, lock, Breaks())
    known = _archives(source, lock.archives.values(), Breaks())
    by_target = {target.name: reasons(lock, target, asked.roots, known) for target in lock.targets}
    packages = {archive.name for archive in lock.archives.values()}
    return {name: {target: found.get(name, []) for target, found in by_target.items()} for name in packages}


def why(source: Source, requirements: str, name: str) -> Mapping[str, list[str]]:
    """Every chain that needs one package, by target. Raises Refused where nothing does."""
    known, wanted = who_needs(source, requirements), canonicalize_name(name)
    found = known.get(wanted, {})
    if not any(found.values()):
        from deploy.settings.section import did_you_mean  # ./bootstrap checks before there is a YAML reader

        raise Refused(
            "Nothing was changed.",
            f"nothing in requirements/{requirements} needs {wanted}{did_you_mean(wanted, known)}",
            "fab vendor.why NAME with a name that the lock knows",
        )
    return found


def _breaks(source: Source, lock: Lock) -> tuple[lines.Asked, Breaks, Mapping[str, metadata.Metadata]]:
    breaks = Breaks()
    asked = _asked(source, lock, breaks)
    breaks.pins.extend([*_pins(source, lock), *_doubles(lock)])
    _find_strays(source, lock, breaks)
    known = _archives(source, lock.archives.values(), breaks)
    for target in lock.targets:
        breaks.pins.extend(holes(lock, target, asked.roots, known))
    return asked, breaks, known


def _asked(source: Source, lock: Lock, breaks: Breaks) -> lines.Asked:
    path = lockfile.asked_path(lock.requirements)
    try:
        asked = lines.read_asked(_text(source, path), path)
    except FileNotFoundError:
        breaks.edits.append(f"{path}: missing")
        return lines.Asked((), {}, ())
    breaks.edits.extend(asked.problems)
    if asked.spelled != lock.roots or asked.overrides != lock.overrides:
        breaks.pins.append(f"{path}: changed since it was locked")
    return asked


def _pins(source: Source, lock: Lock) -> list[str]:
    """Compare ``NAME.txt`` with the lock, both ways."""
    path = lockfile.pins_path(lock.requirements)
    try:
        pins, problems = lines.read_pins(_text(source, path), path)
    except FileNotFoundError:
        return [f"{path}: missing"]
    locked = {archive.file: archive.sha256 for archive in lock.run_time()}
    found = list(problems)
    found += [f"{path}: {file} is locked but not pinned here" for file in locked if file not in pins]
    found += [f"{path}: {file} is pinned here but not locked" for file in pins if file not in locked]
    found += [
        f"{path}: {file} has another hash than the lock" for file in pins if locked.get(file, pins[file]) != pins[file]
    ]
    return found


def _doubles(lock: Lock) -> list[str]:
    """Name source archives of one version under two file names: a target uses one, plain pip would choose freely."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for archive in lock.archives.values():
        if archive.kind == "sdist":
            files[archive.label].append(archive.file)
    return [
        f"{' and '.join(sorted(same))} are one package ({label}); pip would pick one of them silently"
        for label, same in sorted(files.items())
        if len(same) > 1
    ]


def _find_strays(source: Source, lock: Lock, breaks: Breaks) -> None:
    try:
        names = strays(source, lock)
    except BadLock as error:
        breaks.locks.append(str(error))
        return
    for name in names:
        if is_archive_name(name):
            breaks.strays.append(f"{VENDOR}/{name}: no lock names it{_double_of(name, lock)}")
        else:
            breaks.foreign.append(f"{VENDOR}/{name}: not an archive; {VENDOR}/ holds nothing else")


def _double_of(stray: str, lock: Lock) -> str:
    try:
        stated = metadata.named(stray)
    except metadata.BadArchive:
        return ""
    same = [archive.file for archive in lock.archives.values() if _speaks_of(stated, archive.name, archive.version)]
    if not same:
        return ""
    how = "under another spelling" if stray.lower().endswith(f".{same[0].rpartition('.')[2]}") else "in another form"
    return f": the same package as {same[0]} {how}; pip would pick one of them silently"


def strays(source: Source, lock: Lock) -> list[str]:
    """List the files of ``vendor/`` that no lock names: all locks of ``requirements/`` share it. Raises BadLock."""
    named = set(lock.archives)
    for name in source.names("requirements"):
        path = f"requirements/{name}"
        if name.startswith("pylock.") and path != lockfile.lock_path(lock.requirements):
            named |= set(lockfile.read_lock(source.read(path), path).archives)
    return [name for name in source.names(VENDOR) if name not in named and not name.startswith(".")]


def _archives(source: Source, archives: Iterable[Archive], breaks: Breaks) -> Mapping[str, metadata.Metadata]:
    """Read what archives say of themselves; those that are absent or refused are left out."""
    known: dict[str, metadata.Metadata] = {}
    for archive in sorted(archives, key=lambda archive: archive.file):
        at = f"{VENDOR}/{archive.file}"
        try:
            data = source.read(at)
        except FileNotFoundError:
            breaks.absent.append(f"{at}: missing ({archive.label} is pinned)")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest != archive.sha256:
            breaks.absent.append(
                f"{at}: its bytes are not the pinned ones"
                f" (sha256 {digest[:12]}..., {len(data)} bytes; pinned {archive.sha256[:12]}..., {archive.size} bytes)"
            )
            continue
        try:
            known[archive.file] = _said(archive, digest, data, breaks)
        except metadata.BadArchive as error:
            breaks.bad[archive.file] = f"{at}: {str(error).removeprefix(f'{archive.file}: ')}"
    return known


def _said(archive: Archive, digest: str, data: bytes, breaks: Breaks) -> metadata.Metadata:
    """Give what an archive says of itself, held against its name and the lock. Raises BadArchive."""
    found = memory.read(archive.file, digest, lambda: data)
    stated = metadata.named(archive.file)
    if not _speaks_of(stated, archive.name, archive.version):
        breaks.pins.append(
            f"{VENDOR}/{archive.file}: the file name says {' '.join(stated)}, the lock says {archive.label}"
        )
    if not _speaks_of(stated, found.name, found.version):
        inside = f"{found.name} {found.version}"
        raise metadata.BadArchive(f"the file name says {' '.join(stated)}, its metadata says {inside}")
    return found


def _speaks_of(stated: tuple[str, str], name: str, version: str) -> bool:
    """Tell whether a file name speaks of this package; 5.2 and 5.2.0 are one version (PEP 440)."""
    return stated[0] == name and Version(stated[1]) == Version(version)


def _text(source: Source, path: str) -> str:
    return source.read(path).decode("utf-8", errors="replace")


def _refused(requirements: str, why: str, next_step: str, problems: Iterable[str] = ()) -> Refused:
    what = f"Nothing was deployed and no host was contacted: the closure of requirements/{requirements} is not closed."
    return Refused(what, why, next_step, problems=tuple(problems))
