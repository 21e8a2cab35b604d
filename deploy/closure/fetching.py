"""Fills ``vendor/`` from the locks, by hash. Besides ``lock``, the only step that uses a network.

Nothing unverified is ever seen under its final name; what is there with the right bytes is not fetched again, and what
was begun is gone on with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import Failed, Interrupted, Refused
from deploy.events import Emit, Event, Notice, Progress

from . import proof
from .folders import is_address, take
from .incoming import Incoming, incoming, is_there
from .index import Index, Unwritable, Wanted, configuration
from .lockfile import BadLock
from .model import Archive, Lock, is_archive_name
from .source import WorkTree


@dataclass(frozen=True)
class Fetched:
    """What fetching did, by file name.

    ``replaced`` are those of ``fetched`` that were there with other bytes; ``strays`` files that no lock names;
    ``pruned`` those removed.
    """

    fetched: tuple[str, ...]
    replaced: tuple[str, ...]
    present: tuple[str, ...]
    strays: tuple[str, ...]
    pruned: tuple[str, ...]


def fetch(
    root: Path,
    requirements: str,
    emit: Emit,
    *,
    prune: bool = False,
    superseded: Collection[str] = (),
    source: str = "",
    store: str = "",
) -> Fetched:
    """Bring every archive that ``requirements/NAME`` locks into ``vendor/``.

    ``source`` and then ``store``, each a folder or the address of one, are tried before the index, by name and hash.
    Raises Refused without a lock, and Failed with every file that could not be had; files that could are kept, and so
    is the beginning of one that broke off: the next run only fetches the rest. Strays are removed with ``prune``, or
    where they are ``superseded``; files of the other locks never.
    """
    lock = proof.read(WorkTree(root), requirements)
    strays = _strays(root, lock)
    vendor = root / proof.VENDOR
    missing = [archive for file, archive in sorted(lock.archives.items()) if not is_there(vendor / file, archive)]
    altered = tuple(archive.file for archive in missing if (vendor / archive.file).exists())
    if missing:
        if store and not is_address(store) and not Path(store).is_dir():
            emit(Notice(f"{store} is not there; asking elsewhere"))
            store = ""
        _bring(lock, missing, vendor, [place for place in (source, store) if place], emit)
    gone = [name for name in strays if (prune and is_archive_name(name)) or name in superseded]
    _remove(vendor, gone)
    new = {archive.file for archive in missing}
    return Fetched(
        fetched=tuple(sorted(new)),
        replaced=altered,
        present=tuple(file for file in sorted(lock.archives) if file not in new),
        strays=tuple(name for name in strays if name not in gone),
        pruned=tuple(gone),
    )


def prune(root: Path, requirements: str) -> tuple[str, ...]:
    """Remove the archives of ``vendor/`` that no lock names, and tell which. Uses no network. Raises Refused."""
    lock = proof.read(WorkTree(root), requirements)
    archives = tuple(name for name in _strays(root, lock) if is_archive_name(name))
    _remove(root / proof.VENDOR, archives)
    return archives


def _remove(vendor: Path, names: Collection[str]) -> None:
    for name in names:
        try:
            (vendor / name).unlink()
        except OSError as error:  # a folder, or no right to write
            what = "Files that a lock names were left alone; not all strays are removed."
            step = f"remove vendor/{name} by hand, or make vendor/ writable; then fab vendor.prune"
            raise Failed(what, f"vendor/{name}: {error.strerror}", step) from None


def _strays(root: Path, lock: Lock) -> list[str]:
    try:
        return proof.strays(WorkTree(root), lock)
    except BadLock as error:
        why = f"whose files are strays cannot be told: {error}"
        raise Refused("Nothing was fetched.", why, "fab vendor.lock for that one, or remove its lock") from None


def _bring(lock: Lock, missing: Sequence[Archive], vendor: Path, places: Sequence[str], emit: Emit) -> None:
    """Fetch what is missing, whole or with an error that says how far it came."""
    left = {archive.file: archive for archive in missing}
    try:
        with incoming(vendor) as work:
            for folder in (place for place in places if not is_address(place)):
                lacking = [archive for archive in missing if archive.file not in work.published]
                take(Path(folder).expanduser(), lacking, work, emit)
            stores = [place for place in places if is_address(place)]
            errors = _ask(lock, left, work, stores, _Whole(missing, work, emit))
            if not errors:
                work.clear()
    except Unwritable as error:
        step = "free space, or make vendor/ writable; then fab vendor.fetch goes on from there"
        raise Failed(_lacking(lock, vendor), f"vendor/ cannot be written: {error}", step) from None
    except KeyboardInterrupt:
        step = "fab vendor.fetch goes on from there"
        raise Interrupted(_lacking(lock, vendor), "Ctrl-C or a signal", step) from None
    if errors:
        step = "fab vendor.fetch goes on once the index answers; where a file is gone from it, fab vendor.lock"
        problems = [f"{file}: {why}" for file, why in sorted(errors.items())]
        raise Failed(_lacking(lock, vendor), "the index did not give them", step, problems=problems)


def _ask(lock: Lock, left: dict[str, Archive], work: Incoming, stores: Sequence[str], emit: Emit) -> dict[str, str]:
    wanted = {file: archive for file, archive in left.items() if file not in work.published}
    if not wanted:
        return {}
    for line in configuration():
        emit(Notice(f"pip's configuration in force: {line}"))
    asked = [Wanted(one.name, one.file, one.sha256, work.place(one), one.size) for one in wanted.values()]
    with Index(*(target.rules for target in lock.targets)) as index:
        return index.download(asked, emit, stored=lambda file: _publish(work, left[file]), stores=stores)


class _Whole:
    """Passes events on, and with each file's progress that of all of them."""

    def __init__(self, files: Sequence[Archive], work: Incoming, emit: Emit) -> None:
        self._done = {archive.file: archive.size if archive.file in work.published else 0 for archive in files}
        self._total = sum(archive.size for archive in files)
        self._emit = emit

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._done[event.what] = event.done
            self._emit(Progress(f"{proof.VENDOR}/", sum(self._done.values()), self._total))
        self._emit(event)


def _publish(work: Incoming, archive: Archive) -> None:
    if not work.publish(archive):
        raise Unwritable(f"{archive.file} reads otherwise than it was written")


def _lacking(lock: Lock, vendor: Path) -> str:
    """What is true of ``vendor/`` after a fetch that could not bring everything."""
    lacks = sum(not is_there(vendor / file, archive) for file, archive in lock.archives.items())
    return f"vendor/ lacks {lacks} of {len(lock.archives)} locked archives; what was fetched is kept."
