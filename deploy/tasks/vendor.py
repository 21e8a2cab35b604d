"""``fab vendor.*``: the closure of the working tree, locked, fetched, checked, explained, proven."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.context import Context

from deploy.tasks.executor import fleet_task
from deploy.tasks.place import place_of as _place

if TYPE_CHECKING:
    from deploy.closure import Fetched, Holding, Lock, Locked
    from deploy.events import Emit

_LINES = {"json": "One JSON object a line on stdout, for machines."}


@fleet_task(help={"upgrade": "Let go of the versions locked before.", **_LINES})
def lock(c: Context, *, upgrade: bool = False, json: bool = False) -> None:
    """Write the pins: requirements/NAME.in to NAME.txt and pylock.NAME.toml. Asks the configured index."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        locked = closure.lock(place.root, place.requirements, place.python, emit, upgrade=upgrade)
        _tell_locked(emit, locked)
        if locked.changed:
            _tell(emit, "next: fab vendor.fetch, then commit requirements/ and vendor/")


@fleet_task(help={"prune": "Remove files of vendor/ that no lock names.", **_LINES})
def fetch(c: Context, *, prune: bool = False, json: bool = False) -> None:
    """Fill vendor/ from the lock, by hash. Asks the configured index for what is not there."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        _tell_fetched(emit, closure.fetch(place.root, place.requirements, emit, prune=prune))


@fleet_task(help={"requirement": "What to ask for, as in requirements/NAME.in.", **_LINES})
def add(c: Context, requirement: str, *, json: bool = False) -> None:
    """Ask for one more package: edit requirements/NAME.in, lock, fetch, and show what came along and why."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        before = closure.holding(place.root, place.requirements)
        locked = closure.add(place.root, place.requirements, place.python, requirement, emit)
        _tell_fetched(emit, closure.fetch(place.root, place.requirements, emit, superseded=locked.superseded))
        _tell_reviewed(emit, locked, before, closure.holding(place.root, place.requirements))
        for name in locked.new:
            chains = closure.why(closure.WorkTree(place.root), place.requirements, name)
            _tell(emit, f"new: {next(chain for found in chains.values() for chain in found)}")


@fleet_task(help={"name": "One package; default: all.", **_LINES})
def upgrade(c: Context, name: str | None = None, *, json: bool = False) -> None:
    """Lock newer versions within the bounds of requirements/NAME.in, and fetch them."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        let_go = (name,) if name else ()
        before = closure.holding(place.root, place.requirements)
        locked = closure.lock(place.root, place.requirements, place.python, emit, upgrade=name is None, let_go=let_go)
        _tell_fetched(emit, closure.fetch(place.root, place.requirements, emit, superseded=locked.superseded))
        _tell_reviewed(emit, locked, before, closure.holding(place.root, place.requirements))


@fleet_task(help=_LINES)
def prune(c: Context, *, json: bool = False) -> None:
    """Remove the files of vendor/ that no lock names. Asks nobody."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        removed = closure.prune(place.root, place.requirements)
        for file in removed:
            _tell(emit, f"vendor/{file}: removed, no lock names it")
        _tell(emit, f"vendor/: files removed: {len(removed)}")


@fleet_task(help=_LINES)
def check(c: Context, *, json: bool = False) -> None:
    """Prove offline that requirements/ and vendor/ of the working tree are one closed set; a hole is exit 2."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        found = closure.check(closure.WorkTree(place.root), place.requirements, place.python)
        _tell(emit, f"closed: {_summary(found)}")


@fleet_task(help={"name": "The package.", **_LINES})
def why(c: Context, name: str, *, json: bool = False) -> None:
    """Show every chain that needs a package, run-time and [build], down to what somebody wrote."""
    from deploy import closure

    place = _place(c)
    with _told(json=json) as emit:
        found = closure.why(closure.WorkTree(place.root), place.requirements, name)
        for chain in dict.fromkeys(chain for chains in found.values() for chain in chains):
            targets = [target for target, chains in found.items() if chain in chains]
            _tell(emit, chain if len(targets) == len(found) else f"{', '.join(targets)}: {chain}")


@fleet_task(help={"twice": "Build everything a second time and name the wheels whose bytes differ.", **_LINES})
def prove(c: Context, *, twice: bool = False, json: bool = False) -> None:
    """Build and install the whole closure here, sealed and from an empty store, and compare it with the lock."""
    from deploy import proving

    place = _place(c)
    with _told(json=json) as emit:
        proof = proving.prove(place.root, place.requirements, place.python, emit, twice=twice)
        for wheel, attempts in proof.attempts.items():
            _tell(emit, f"{wheel}: its build tried to reach the network, and was refused: {'; '.join(attempts)}")
        for wheel in proof.differing or ():
            _tell(emit, f"{wheel}: came out with other bytes the second time: its build is not reproducible")
        again = "" if proof.differing is None else f"; not reproducible: {len(proof.differing)}"
        took = f"{proof.elapsed_s:.0f} s, builds sealed by {proof.sealed}{again}"
        _tell(emit, f"proven for {proof.target}: {len(proof.packages)} packages as locked, {took}")


@contextmanager
def _told(*, json: bool) -> Generator[Emit, None, None]:
    from deploy import report

    with report.sink(json=json, verbose=False) as emit:
        yield emit


def _tell(emit: Emit, text: str) -> None:
    from deploy.events import Notice

    emit(Notice(text))


def _tell_fetched(emit: Emit, done: Fetched) -> None:
    for file in done.strays:
        _tell(emit, f"vendor/{file}: no lock names it; fab vendor.fetch --prune removes it")
    for file in done.pruned:
        _tell(emit, f"vendor/{file}: removed, no lock names it")
    for file in done.replaced:
        _tell(emit, f"vendor/{file}: replaced, its bytes were not the pinned ones")
    _tell(emit, f"vendor/: archives fetched: {len(done.fetched)}, there already: {len(done.present)}")


def _tell_locked(emit: Emit, locked: Locked) -> None:
    for change in locked.changes:
        _tell(emit, change)
    _tell_written(emit, locked)


def _tell_reviewed(emit: Emit, locked: Locked, before: Holding, after: Holding) -> None:
    """As ``_tell_locked``, once vendor/ is filled: sizes and licences are known then."""
    from deploy import closure
    from deploy.report.closures import change_line, vendor_line

    for change in closure.changes(before, after):
        _tell(emit, change_line(change))
    _tell(emit, vendor_line(before, after))
    _tell_written(emit, locked)


def _tell_written(emit: Emit, locked: Locked) -> None:
    done = "wrote" if locked.changed else "nothing changed:"
    _tell(emit, f"{done} {_summary(locked.lock)}")


def _summary(lock: Lock) -> str:
    targets = ", ".join(target.name for target in lock.targets)
    wheels = sum(archive.kind == "wheel" for archive in lock.archives.values())
    return (
        f"requirements/{lock.requirements} for {targets}: {len(lock.run_time())} run-time pins,"
        f" {len(lock.archives)} archives in all, {wheels} of them wheels"
    )
