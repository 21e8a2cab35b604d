"""Proves offline that the pins of ``requirements/`` and the files of ``vendor/`` are one closed set.

Runs no package code. Neutral on purpose: no pip, no configuration, no environment variable and no
network has a say in the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from packaging.utils import canonicalize_name

from deploy.errors import Refused

from . import lines, lockfile, memory, metadata
from .chains import holes, reasons
from .lockfile import BadLock
from .model import Archive, Lock
from .source import Source

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


def check(source: Source, requirements: str, python: str | None = None) -> Lock:
    """Prove that the closure of ``requirements/NAME`` is closed for every target of its lock, and give the lock.

    ``python`` is what the settings ask for: the lock must have a target of it.

    Checks: every pin has its file and every file its pin; hashes and sizes; names and versions in the archives'
    own metadata; no line that looks past ``vendor/``; every requirement met at run time and in every build
    environment, markers and extras judged for the target; Requires-Python; wheel tags; the toolchain.
    Raises Refused with every break at once.
    """
    lock = read(source, requirements)
    asked, wrong = _asked(source, lock)
    wrong += _pins(source, lock)
    strays = _strays(source, lock)
    known, absent, bad = _archives(source, lock.archives.values())
    wrong += bad
    pythons = sorted({target.python for target in lock.targets})
    if python is not None and python not in pythons:
        path = lockfile.lock_path(requirements)
        wrong.append(f"{path} is locked for Python {', '.join(pythons)}; the settings ask for {python}")
    for target in lock.targets:
        wrong += holes(lock, target, asked.roots, known)
    problems = [*wrong, *strays, *absent]
    if problems:
        count = "1 break" if len(problems) == 1 else f"{len(problems)} breaks"
        # Where only files are missing, altered or too many the pins are right: locking again might move them.
        next_step = "fab vendor.lock && fab vendor.fetch" if wrong else "fab vendor.fetch"
        next_step += " --prune" if strays else ""
        raise _refused(requirements, f"{count} in the closure", next_step, problems)
    return lock


def contents(source: Source, lock: Lock) -> Mapping[str, metadata.Metadata]:
    """Give what each archive of a lock says of itself, by file name.

    Raises Refused where one is missing, altered or unreadable.
    """
    known, absent, bad = _archives(source, lock.archives.values())
    if absent or bad:
        why = f"{len(absent) + len(bad)} archives of {VENDOR}/ cannot be read"
        raise _refused(lock.requirements, why, "fab vendor.fetch", [*bad, *absent])
    return known


def why(source: Source, requirements: str, name: str) -> Mapping[str, list[str]]:
    """Every chain that needs a package, by target, run-time and ``[build]``. Raises Refused where nothing does.

    Archives that are not there, or are altered, are judged by what the lock recorded of them.
    """
    lock = read(source, requirements)
    asked, _ = _asked(source, lock)
    known, _, _ = _archives(source, lock.archives.values())
    wanted = canonicalize_name(name)
    found = {target.name: reasons(lock, target, asked.roots, known, wanted) for target in lock.targets}
    if not any(found.values()):
        from deploy.settings.section import did_you_mean  # ./bootstrap checks before there is a YAML reader

        names = sorted({archive.name for archive in lock.archives.values()})
        raise Refused(
            "Nothing was changed.",
            f"nothing in requirements/{requirements} needs {wanted}{did_you_mean(wanted, names)}",
            "fab vendor.why NAME with a name that the lock knows",
        )
    return found


def _asked(source: Source, lock: Lock) -> tuple[lines.Asked, list[str]]:
    path = lockfile.asked_path(lock.requirements)
    try:
        asked = lines.read_asked(_text(source, path), path)
    except FileNotFoundError:
        return lines.Asked((), {}, ()), [f"{path}: missing"]
    problems = list(asked.problems)
    if asked.spelled != lock.roots or asked.overrides != lock.overrides:
        problems.append(f"{path}: changed since it was locked")
    return asked, problems


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


def _strays(source: Source, lock: Lock) -> list[str]:
    """Name files of ``vendor/`` that no lock names. All locks of ``requirements/`` share the folder."""
    try:
        named = set(lock.archives) | other_files(source, lock.requirements)
    except BadLock as error:
        return [str(error)]
    return [
        f"{VENDOR}/{name}: no lock names it"
        for name in source.names(VENDOR)
        if name not in named and not name.startswith(".")
    ]


def other_files(source: Source, requirements: str) -> set[str]:
    """List the archives that the other locks beside ``requirements/NAME`` name. Raises BadLock."""
    named: set[str] = set()
    for name in source.names("requirements"):
        path = f"requirements/{name}"
        if name.startswith("pylock.") and path != lockfile.lock_path(requirements):
            named |= set(lockfile.read_lock(source.read(path), path).archives)
    return named


def _archives(
    source: Source, archives: Iterable[Archive]
) -> tuple[Mapping[str, metadata.Metadata], list[str], list[str]]:
    """Read what archives say; tell which are absent (not there, or other bytes), and what else is wrong with them."""
    known: dict[str, metadata.Metadata] = {}
    absent: list[str] = []
    problems: list[str] = []
    for archive in sorted(archives, key=lambda archive: archive.file):
        try:
            data = source.read(f"{VENDOR}/{archive.file}")
        except FileNotFoundError:
            absent.append(f"{VENDOR}/{archive.file}: missing ({archive.label} is pinned)")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest != archive.sha256:
            absent.append(
                f"{VENDOR}/{archive.file}: its bytes are not the pinned ones"
                f" (sha256 {digest[:12]}..., {len(data)} bytes; pinned {archive.sha256[:12]}..., {archive.size} bytes)"
            )
            continue
        try:
            found = memory.recall(archive.file, digest)
            if found is None:
                found = metadata.read(archive.file, data)
                memory.remember(archive.file, digest, found)
            problems += _disagreements(archive, found)
            known[archive.file] = found
        except metadata.BadArchive as error:
            problems.append(
                f"{VENDOR}/{error}" if str(error).startswith(archive.file) else f"{VENDOR}/{archive.file}: {error}"
            )
    return known, absent, problems


def _disagreements(archive: Archive, found: metadata.Metadata) -> list[str]:
    """Compare the three places that state a name and version: lock, file name, the archive's own metadata."""
    at = f"{VENDOR}/{archive.file}"
    locked, inside = (archive.name, archive.version), (found.name, found.version)
    stated = metadata.named(archive.file)
    problems: list[str] = []
    if stated != locked:
        problems.append(f"{at}: the file name says {' '.join(stated)}, the lock says {archive.label}")
    if inside != stated:
        problems.append(f"{at}: the file name says {' '.join(stated)}, its metadata says {' '.join(inside)}")
    return problems


def _text(source: Source, path: str) -> str:
    return source.read(path).decode("utf-8", errors="replace")


def _refused(requirements: str, why: str, next_step: str, problems: Iterable[str] = ()) -> Refused:
    what = f"Nothing was deployed and no host was contacted: the closure of requirements/{requirements} is not closed."
    return Refused(what, why, next_step, problems=tuple(problems))
