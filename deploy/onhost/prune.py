"""Delete what no kept release needs: old releases first, then the store's content with the last release that used it.

Keeps N good releases, never current, previous, pinned or possibly in use. Evidence that cannot be read is *unknown*,
never *unused*. Never called where a switch is open.
"""

from __future__ import annotations

import os
from typing import Dict, List, Optional, Set, Tuple

from deploy.wire.names import ReleaseId

from . import live, marker, switch, toolchain
from .history import History, fold
from .journal import Record
from .layout import Layout, remove_tree, sync_folder, unlink_if_there
from .marker import NotARelease
from .processes import Process, boot_id, effective_uid, groups_of, identify, open_files, started_s
from .session import Session
from .wheels import wheel_keys


def chosen(history: History, complete: List[ReleaseId], keep: int, kept_anyway: Set[str]) -> List[ReleaseId]:
    """Decide which releases go. Pure. Ordered by when they were last live, else staged; bad ones do not count."""

    def order(release: ReleaseId) -> int:
        past = history.past(release)
        return max(past.live_seq, past.staged_seq)

    ranked = sorted(complete, key=order, reverse=True)
    good = [release for release in ranked if history.was_live(release) and not history.past(release).bad]
    kept = set(good[:keep]) | kept_anyway
    # The newest one that is not good stays too: it is the evidence of what went wrong last.
    kept |= set([release for release in ranked if release not in good][:1])
    return [release for release in ranked if release not in kept and not history.past(release).pinned]


def prune(session: Session, keep: int) -> Dict[str, object]:
    """Delete old releases and what only they needed; returns what went and what was kept although it was due."""
    layout, history = session.layout, fold(session.book.records)
    complete = [release for release in layout.present() if marker.is_complete(layout, release)]
    anyway = {str(target) for target in map(layout.link_target, (layout.current, layout.previous)) if target}
    used = in_use(layout, history)
    gone: List[str] = []
    spared = sorted(set(chosen(history, complete, keep, anyway)) & used)
    for release in chosen(history, complete, keep, anyway | used):
        folder = layout.release(release)
        os.chmod(folder, 0o755)
        # Without its marker it is BROKEN and swept: a crash in the middle never leaves half a release. Only then is it
        # forgotten: what cannot be removed must stay one to go back to.
        unlink_if_there(layout.marker(release))
        sync_folder(folder)
        session.book.append("pruned", release=release)
        remove_tree(folder)
        gone.append(release)
    switch.sweep_spares(layout)
    freed = 0
    if _store_is_due(session.book.records):
        wanted = _referred_to(layout)
        if wanted is not None:  # else somebody's half-made release: sweep next time
            freed = _sweep_store(session, *wanted)
            session.book.note("freed", files=freed)
    session.book.reserve()
    return {"pruned": gone, "in_use": spared, "store_files": freed}


def _store_is_due(records: List[Record]) -> bool:
    """Whether a release went since the store was swept: also one that a run pruned which was then cut off."""
    words = (record["what"] for record in reversed(records))
    return next((word for word in words if word in ("freed", "pruned", "swept")), "freed") != "freed"


def in_use(layout: Layout, history: History) -> Set[str]:
    """Releases that some process runs from or has open.

    Where a process of the service may not be looked into (another user's, proc(5)), all that it may have started from:
    what was live when it started or later.
    """
    found: Set[str] = set()
    pattern = live.inside_a_release(layout)
    for name in os.listdir("/proc"):
        process = identify(int(name)) if name.isdigit() and int(name) != os.getpid() else None
        if process is None:
            continue
        seen = live.release_of(layout, process.pid)
        if seen:
            found.add(seen)
        try:
            links = open_files(process.pid)
            with open("/proc/%d/maps" % process.pid, encoding="utf-8", errors="replace") as file:
                links += [line.split(None, 5)[-1].strip() for line in file if "/" in line]
        except OSError:
            if seen is None and _may_serve(layout, process):
                found |= history.live_since(boot_id(), started_s(process))
            continue
        found |= {match.group(1) for match in map(pattern.search, links) if match}
    return found


def _may_serve(layout: Layout, process: Process) -> bool:
    """Whether a process that cannot be read may be the service's: in ROOT's group, or its command line names ROOT.

    Where ROOT's group is root's own, it says nothing.
    """
    if live.mentions_root(layout, process.pid):
        return True
    group = layout.root.stat().st_gid
    try:
        return group != 0 and effective_uid(process.pid) != os.geteuid() and group in groups_of(process.pid)
    except (OSError, KeyError):
        return False  # gone meanwhile


def _referred_to(layout: Layout) -> Optional[Tuple[Set[str], Set[str]]]:
    """The store's files and its wheels and environments that releases refer to; None where one is half made."""
    files: Set[str] = set()
    folders: Set[str] = set()
    for release in layout.present():
        try:
            found = marker.read(layout, release)
        except NotARelease:
            return None
        files |= {file.sha256 for file in found.manifest.files} | set(found.manifest.archives)
        folders.add(str(found.selection["env_key"]))
        for target in found.manifest.targets:
            folders.add(toolchain.key(target))
            folders |= set(wheel_keys(target).values())
    return files, folders


def _sweep_store(session: Session, files: Set[str], folders: Set[str]) -> int:
    """Drop archives, files, wheels and environments that no release on this host refers to any more."""
    layout = session.layout
    freed = 0
    for folder, _, names in os.walk(layout.files):
        for name in names:
            if name not in files:
                os.unlink(os.path.join(folder, name))
                freed += 1
    for store in (layout.envs, layout.wheels):
        for name in os.listdir(store):
            if name not in folders:
                remove_tree(store / name)
                freed += 1
    for name in os.listdir(layout.programs):
        if name != session.program + ".pyz":
            unlink_if_there(layout.programs / name)
    return freed
