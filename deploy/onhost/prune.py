"""Delete what no kept release needs: old releases first, then the store's content with the last release that used it.

Keeps N good releases, never current, previous, pinned or possibly in use (``usage``), and never the one to go back to.
Refused where a switch is open.
"""

from __future__ import annotations

import os
from typing import Collection, Dict, List, Mapping, Optional, Set, Tuple

from deploy.wire.names import ReleaseId

from . import envs, marker, switch, toolchain, usage, wheels
from .history import History, rollback_target
from .layout import MARKER, Layout, remove_tree, sync_folder, unlink_if_there, unmark
from .marker import NotARelease
from .session import Session, StepFailed
from .wheels import wheel_keys

NAMED = 3
"""Processes named for one release; more of them say nothing more."""

Why = Dict[str, List[str]]
"""By release, each reason why it stays."""


def ranked(history: History, complete: Collection[ReleaseId]) -> List[ReleaseId]:
    """Newest first: by when they were last live, else staged."""

    def order(release: ReleaseId) -> int:
        past = history.past(release)
        return max(past.live_seq, past.staged_seq)

    return sorted(complete, key=order, reverse=True)


def counted(history: History, complete: Collection[ReleaseId], keep: int) -> Why:
    """What stays by number: the newest ``keep`` good ones. Bad ones do not count."""
    order = ranked(history, complete)
    good = [release for release in order if history.was_live(release) and not history.past(release).bad]
    why: Why = {release: ["of the newest %d good ones" % keep] for release in good[:keep]}
    # The evidence of what went wrong last.
    why.update((release, ["the newest that is not good"]) for release in [r for r in order if r not in good][:1])
    return why


def pinned(history: History, complete: Collection[ReleaseId]) -> Why:
    """What people exempted."""
    pasts = {release: history.past(release) for release in complete}
    return {release: ["pinned by %s" % (past.pinned_by or "?")] for release, past in pasts.items() if past.pinned}


def chosen(history: History, complete: List[ReleaseId], keep: int, kept_anyway: Collection[str]) -> List[ReleaseId]:
    """Decide which releases go. Pure."""
    kept = {*counted(history, complete, keep), *pinned(history, complete), *kept_anyway}
    return [release for release in ranked(history, complete) if release not in kept]


def guarded(layout: Layout, history: History, complete: List[ReleaseId]) -> Why:
    """What stays however little space there is, whether used or not: pinned, current, previous, the way back."""
    why = pinned(history, complete)
    current = layout.link_target(layout.current)
    back = rollback_target(history, current, complete)
    for word, release in (("current", current), ("previous", layout.link_target(layout.previous)), ("way back", back)):
        if release:
            why.setdefault(release, []).append(word)
    return why


def prune(session: Session, keep: int, *, free: Optional[int] = None, unit: str = "") -> Dict[str, object]:
    """Delete old releases and what only they needed. Returns what went, and what stays with why.

    With ``free``, the oldest go until so many bytes are free, also of those that would be kept by number.
    Raises StepFailed where a switch is open: the release to return to is neither current nor previous.
    """
    layout, history = session.layout, session.book.history
    if history.open_switch is not None:
        raise StepFailed("prune", "the switch to %s is not confirmed yet" % history.open_switch["to"])
    complete = marker.complete(layout)
    guards, used = guarded(layout, history, complete), usage.in_use(layout, history, unit)
    if free is None:
        due = chosen(history, complete, keep, guards)
        gone = [release for release in due if release not in used]
        for release in gone:
            _delete(session, release)
        swept = _sweep_store(session)
    else:
        due = [release for release in ranked(history, complete) if release not in guards]
        gone, swept = _until_free(session, [release for release in reversed(due) if release not in used], free)
    session.book.reserve()
    left = [release for release in ranked(history, complete) if release not in gone]
    why = _reasons(left, guards, counted(history, complete, keep), used)
    in_use = sorted(set(due) & set(used))
    return {"pruned": gone, "kept": why, "in_use": in_use, "store_files": swept, "free": _free(layout)}


def _until_free(session: Session, oldest: List[ReleaseId], free: int) -> Tuple[List[ReleaseId], int]:
    gone: List[ReleaseId] = []
    swept = _sweep_store(session)
    while oldest and _free(session.layout) < free:
        gone.append(oldest.pop(0))
        _delete(session, gone[-1])
        swept += _sweep_store(session)
    return gone, swept


def _reasons(left: List[ReleaseId], *reasons: Mapping[str, List[str]]) -> Dict[str, str]:
    """For each release that stays, newest first, every reason in one phrase."""
    found: Dict[str, str] = {}
    for release in left:
        phrases = [phrase for why in reasons for phrase in _few(why.get(release, []))]
        found[release] = ", ".join(phrases) or "enough is free without it"
    return found


def _few(phrases: List[str]) -> List[str]:
    more = len(phrases) - NAMED
    return phrases[:NAMED] + (["and %d more" % more] if more > 0 else [])


def _free(layout: Layout) -> int:
    """Bytes that this user may still write (statvfs(3))."""
    space = os.statvfs(layout.root)
    return space.f_bavail * space.f_frsize


def _delete(session: Session, release: ReleaseId) -> None:
    layout = session.layout
    folder = layout.release(release)
    unmark(folder, MARKER)
    sync_folder(folder)  # only then is it forgotten: what cannot be removed must stay one to go back to
    session.book.append("pruned", release=release)
    remove_tree(folder)
    switch.drop_spare(layout, release)


def _sweep_store(session: Session) -> int:
    """Drop archives, files, wheels and environments that no release on this host refers to any more."""
    layout = session.layout
    files: Set[str] = set()
    folders: Set[str] = set()
    for release in layout.present():
        try:
            found = marker.read(layout, release)
        except NotARelease:
            return 0  # somebody's half-made release: sweep next time
        files |= {file.sha256 for file in found.manifest.files} | set(found.manifest.archives)
        folders.add(str(found.selection["env_key"]))
        for target in found.manifest.targets:
            folders.add(toolchain.key(target))
            folders |= set(wheel_keys(target).values())
    swept = 0
    for folder, _, names in os.walk(layout.files):
        for name in names:
            if name not in files:
                os.unlink(os.path.join(folder, name))
                swept += 1
    for store in (layout.envs, layout.wheels):
        for name in os.listdir(store):
            if name not in folders:
                unmark(store / name, envs.MARKER, toolchain.MARKER, wheels.MARKER)
                remove_tree(store / name)
                swept += 1
    for name in os.listdir(layout.programs):
        if name != session.program + ".pyz":
            unlink_if_there(layout.programs / name)
    return swept
