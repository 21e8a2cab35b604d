"""``fab vendor.*``: the closure of the working tree, locked, fetched, checked, explained, proven."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from deploy.errors import Interrupted, Refused
from deploy.tasks.commands import LINES, request_for, run_and_leave
from deploy.tasks.executor import fleet_task
from deploy.tasks.place import Place, place_of

if TYPE_CHECKING:
    from deploy.closure import Fetched, Holding, Lock, Locked
    from deploy.events import Emit


@fleet_task(help={"upgrade": "Let go of the versions locked before.", **LINES})
def lock(c: Context, *, upgrade: bool = False, json: bool = False) -> None:
    """Write the pins: requirements/NAME.in to NAME.txt and pylock.NAME.toml. Asks the configured index."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        locked = closure.lock(place.root, place.requirements, place.targets, emit, upgrade=upgrade)
        _tell_locked(emit, locked)
        if locked.changed:
            fetch = "fab vendor.fetch --prune" if locked.superseded else "fab vendor.fetch"
            _tell(emit, f"next: {fetch}, then commit requirements/ and vendor/")


@fleet_task(
    help={
        "prune": "Remove archives of vendor/ that no lock names.",
        "mend": "Override git's rules that leave out files of vendor/, or change their bytes.",
        "source": "A folder (another project's vendor/) or an http(s) address of one, tried before the index.",
        **LINES,
    }
)
def fetch(c: Context, *, prune: bool = False, source: str = "", mend: bool = False, json: bool = False) -> None:
    """Fill vendor/ from the lock, by hash. Asks the configured index for what is not there."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        done = closure.fetch(place.root, place.requirements, emit, prune=prune, source=source, store=place.store)
        _tell_fetched(emit, done)
        trapped = _tell_traps(emit, place, mending=mend)
    if trapped and (mend or (not json and _agrees("override these rules in vendor/?"))):
        with _told(json=json) as emit:
            _mend(emit, place.root)


@fleet_task(help=LINES)
def store(c: Context, *, json: bool = False) -> None:
    """Copy what vendor_store, a folder, lacks of the locked archives into it, from vendor/."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        if not place.store:
            why = "fabric.yaml names no vendor_store"
            raise Refused("Nothing was stored.", why, "add `vendor_store: FOLDER` below deploy:")
        given = closure.give(place.root, place.requirements, place.store, emit)
        _tell(emit, f"{place.store}: archives added: {len(given)}")


@fleet_task(help={"requirement": "What to ask for, as in requirements/NAME.in.", **LINES})
def add(c: Context, requirement: str, *, json: bool = False) -> None:
    """Ask for one more package: edit requirements/NAME.in, lock, fetch, and show what came along and why."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        before = closure.holding(place.root, place.requirements)
        locked = closure.add(place.root, place.requirements, place.targets, requirement, emit)
        _fetch_changed(emit, place, locked)
        _tell_reviewed(emit, locked, before, closure.holding(place.root, place.requirements))
        _tell_chains(emit, place, locked.new)


@fleet_task(
    help={
        "source": "A requirements file, pyproject.toml, pylock.toml, or a folder of archives.",
        "extra": "Extras of the project itself to take in, separated by commas.",
        "force": "Replace requirements/NAME.in, and leave out packages that no index gives.",
        "unlisted": "Accept archives whose hash SOURCE does not list.",
        **LINES,
    }
)
def adopt(
    c: Context,
    source: str,
    *,
    extra: str = "",
    force: bool = False,
    unlisted: bool = False,
    json: bool = False,
) -> None:
    """Take over a project: write requirements/NAME.in, lock the versions that SOURCE pins, fetch, show what differs."""
    from deploy import closure

    place = place_of(c)
    extras = [name.strip() for name in extra.split(",") if name.strip()]
    with _told(json=json) as emit:
        done = closure.adopt(
            place.root,
            place.requirements,
            place.targets,
            Path(source),
            emit,
            extras=extras,
            force=force,
            unlisted=unlisted,
        )
        _tell_fetched(emit, done.fetched)
        _tell_locked(emit, done.locked)
        _tell_chains(emit, place, done.unnamed)
        for text in done.differences:
            _tell(emit, text)
        _tell(
            emit, f"next: read requirements/{place.requirements}.in, fab vendor.check, commit requirements/ and vendor/"
        )


@fleet_task(help={"name": "One package; default: all.", **LINES})
def upgrade(c: Context, name: str | None = None, *, json: bool = False) -> None:
    """Lock newer versions within the bounds of requirements/NAME.in, and fetch them."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        let_go = (name,) if name else ()
        before = closure.holding(place.root, place.requirements)
        locked = closure.lock(place.root, place.requirements, place.targets, emit, upgrade=name is None, let_go=let_go)
        _fetch_changed(emit, place, locked)
        _tell_reviewed(emit, locked, before, closure.holding(place.root, place.requirements))


@fleet_task(help=LINES)
def prune(c: Context, *, json: bool = False) -> None:
    """Remove the archives of vendor/ that no lock names. Asks nobody."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        removed = closure.prune(place.root, place.requirements)
        for file in removed:
            _tell(emit, f"vendor/{file}: removed, no lock names it")
        _tell(emit, f"vendor/: files removed: {len(removed)}")


@fleet_task(help=LINES)
def check(c: Context, *, json: bool = False) -> None:
    """Prove offline that requirements/ and vendor/ of the working tree are one closed set; a hole is exit 2."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        found = closure.examine(closure.WorkTree(place.root), place.requirements, place.targets)
        for line in closure.remarks(found):
            _tell(emit, line)
        _tell(emit, f"closed: {_summary(found.lock)}")
        _tell_traps(emit, place)


@fleet_task(help={"name": "The package.", **LINES})
def why(c: Context, name: str, *, json: bool = False) -> None:
    """Show every chain that needs a package, run-time and [build], down to what somebody wrote."""
    from deploy import closure

    place = place_of(c)
    with _told(json=json) as emit:
        found = closure.why(closure.WorkTree(place.root), place.requirements, name)
        for chain in dict.fromkeys(chain for chains in found.values() for chain in chains):
            targets = [target for target, chains in found.items() if chain in chains]
            _tell(emit, chain if len(targets) == len(found) else f"{', '.join(targets)}: {chain}")


@fleet_task(
    takes_hosts=True,
    help={
        "twice": "Build everything a second time and name the wheels whose bytes differ; on this machine only.",
        "stage": "Build on the hosts of this stage, beside what is live there, instead of on this machine.",
        "hosts": "Only these hosts of the stage: a,b (also: fab -H a,b).",
        **LINES,
    },
)
def prove(
    c: Context, stage: str | None = None, hosts: str | None = None, *, twice: bool = False, json: bool = False
) -> None:
    """Build and install the whole closure, sealed and from an empty store, and compare it with the lock."""
    from deploy import pipeline, proving
    from deploy.fleet.proof import tried

    place, request = place_of(c), request_for(c, stage, hosts)
    if request.stage or request.hosts:
        if twice:
            raise Refused("Nothing was built.", "--twice compares builds of this machine", "fab vendor.prove --twice")
        about = (request, place.root, place.requirements, place.targets)
        run_and_leave(lambda emit: pipeline.prove(*about, emit), json=json, verbose=False)
        return
    with _told(json=json) as emit:
        proofs, left = proving.prove(place.root, place.requirements, place.targets, emit, twice=twice)
        for proof in proofs:
            for line in tried(proof.attempts):
                _tell(emit, line)
            for wheel in proof.differing or ():
                _tell(emit, f"{wheel}: came out with other bytes the second time: its build is not reproducible")
            again = "" if proof.differing is None else f"; not reproducible: {len(proof.differing)}"
            took = f"{proof.elapsed_s:.0f} s, builds sealed by {proof.sealed}{again}"
            _tell(emit, f"proven for {proof.target}: {len(proof.packages)} packages as locked, {took}")
        if left:
            _tell(emit, f"not proven, this machine does not run them: {', '.join(left)} (--stage: on hosts that do)")


@contextmanager
def _told(*, json: bool) -> Generator[Emit, None, None]:
    from deploy import report

    try:
        with report.sink(json=json, verbose=False) as emit:
            yield emit
    except KeyboardInterrupt:
        what = "No host was contacted. Pins are as they were, or whole; archives in vendor/ are whole."
        raise Interrupted(what, "Ctrl-C or a signal", "run the same command again") from None


def _tell(emit: Emit, text: str) -> None:
    from deploy.events import Notice

    emit(Notice(text))


def _tell_fetched(emit: Emit, done: Fetched) -> None:
    from deploy.closure.model import is_archive_name

    for file in done.strays:
        mend = "fab vendor.fetch --prune removes it" if is_archive_name(file) else "no archive: move it out of vendor/"
        _tell(emit, f"vendor/{file}: no lock names it; {mend}")
    for file in done.pruned:
        _tell(emit, f"vendor/{file}: removed, no lock names it")
    for file in done.replaced:
        _tell(emit, f"vendor/{file}: replaced, its bytes were not the pinned ones")
    _tell(emit, f"vendor/: archives fetched: {len(done.fetched)}, there already: {len(done.present)}")


def _fetch_changed(emit: Emit, place: Place, locked: Locked) -> None:
    from deploy import closure

    superseded = locked.superseded
    done = closure.fetch(place.root, place.requirements, emit, superseded=superseded, store=place.store)
    _tell_fetched(emit, done)
    _tell_traps(emit, place)


def _tell_traps(emit: Emit, place: Place, *, mending: bool = False) -> bool:
    """Say what git would do to vendor/, and tell whether there is anything. With a store, git may ignore it."""
    from deploy import closure

    found = () if place.store else closure.traps(place.root)
    for trap in found:
        _tell(emit, str(trap))
    if found and not mending:
        _tell(emit, "a tag would not hold these files as they are; fab vendor.fetch --mend overrides the rules")
    return bool(found)


def _mend(emit: Emit, root: Path) -> None:
    from deploy import closure

    written = closure.mend(root)
    if written:
        again = "git add --renormalize vendor/ && git add" if f"{written[0]}".endswith("attributes") else "git add"
        _tell(emit, f"wrote {', '.join(written)}; next: {again} {' '.join(written)} vendor/, and commit")
    for trap in closure.traps(root):
        _tell(emit, f"not mended, edit that rule by hand: {trap}")


def _agrees(question: str) -> bool:
    """Ask whoever sits at the terminal; where nobody does, the answer is no."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


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
    for archive in locked.lock.archives.values() if locked.changed else ():
        if archive.yanked:
            _tell(emit, f"yanked: {archive.label}: {archive.yanked}")
    done = "wrote" if locked.changed else "nothing changed:"
    _tell(emit, f"{done} {_summary(locked.lock)}")


def _tell_chains(emit: Emit, place: Place, names: Sequence[str]) -> None:
    from deploy import closure

    if not names:
        return
    chains = closure.who_needs(closure.WorkTree(place.root), place.requirements)
    for name in names:
        _tell(emit, f"new: {next(chain for found in chains[name].values() for chain in found)}")


def _summary(lock: Lock) -> str:
    names = [target.name for target in lock.targets]
    targets = ", ".join(names) if len(names) < 4 else f"{len(names)} targets"
    wheels = sum(archive.kind == "wheel" for archive in lock.archives.values())
    return (
        f"requirements/{lock.requirements} for {targets}: {len(lock.run_time())} run-time pins,"
        f" {len(lock.archives)} archives in all, {wheels} of them wheels"
    )
