"""Which processes run from a release or have it open, named for people. Reads /proc; changes nothing.

Evidence that cannot be read (another user's process, a ``/proc`` that hides processes) is *unknown*, never *unused*:
then all counts that such a process may have started from, which is what was live when it started, or later.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Dict, Iterator, List, Set, Tuple

from . import live
from .history import History
from .layout import Layout
from .processes import (
    Process,
    boot_id,
    describe,
    effective_uid,
    groups_of,
    hides_processes,
    identify,
    mapped_files,
    open_files,
    started_s,
)

RESCANS = 5
"""A process that forks and ends while /proc is read has a child that the first reading did not list."""


def in_use(layout: Layout, history: History, unit: str = "") -> Dict[str, List[str]]:
    """By release, who uses it or may: one phrase for each process, with pid, program and user.

    ``unit`` is the service's systemd unit where settings name it: its processes are known by their cgroup.
    """
    found: Dict[str, List[str]] = {}
    boot = boot_id()
    of_unit = live.processes_of(unit) if unit else []
    for process in _everybody():
        named, is_whole, is_beside = _evidence(layout, process.pid)
        for release in sorted(named):
            found.setdefault(release, []).append("in use by %s" % describe(process))
        is_unknown = not is_whole and (process.pid in of_unit or _may_serve(layout, process))
        if (is_unknown or (is_beside and not named)) and identify(process.pid) == process:
            for release in sorted(history.live_since(boot, started_s(process)) - named):
                found.setdefault(release, []).append("possibly in use by %s" % describe(process))
    if hides_processes():
        for release in sorted(history.live_since(boot, 0.0)):
            found.setdefault(release, []).append("possibly in use: /proc hides other users' processes here (hidepid)")
    return found


def _everybody() -> Iterator[Process]:
    seen: Set[int] = {os.getpid()}
    for _ in range(RESCANS):
        new = sorted({int(name) for name in os.listdir("/proc") if name.isdigit()} - seen)
        if not new:
            return
        seen.update(new)
        for pid in new:
            process = identify(pid)
            if process is not None:
                yield process


def _evidence(layout: Layout, pid: int) -> Tuple[Set[str], bool, bool]:
    """Releases that a process names or has open; whether all could be read; whether it runs beside them.

    Beside: by way of ``current`` or of the packages that releases share, which does not say from which release.
    """
    texts, is_whole = live.evidence(pid), True
    for read in (open_files, mapped_files):
        try:
            texts += read(pid)
        except OSError:
            is_whole = False
    inside = live.inside_a_release(layout)
    beside = re.compile(re.escape(str(layout.root)) + r"/(?:current|previous|\.deploy/store/envs)(?![\w.-])")
    named = {release for text in texts for release in inside.findall(text)}
    return named, is_whole, any(beside.search(text) for text in texts)


def _may_serve(layout: Layout, process: Process) -> bool:
    """Whether a process that cannot be read may be the service's: in ROOT's group, or its command line names ROOT.

    Where ROOT's group is root's own, it says nothing.
    """
    if live.mentions_root(layout, process.pid):
        return True
    group = layout.root.stat().st_gid
    with contextlib.suppress(OSError, KeyError):  # gone meanwhile
        return group != 0 and effective_uid(process.pid) != os.geteuid() and group in groups_of(process.pid)
    return False
