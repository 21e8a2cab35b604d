"""Prove that what answers runs from this release rather than an old one. Reads /proc; changes nothing.

In order of strength: the answer names the release; the process that answered, or one of the unit, of the port or at the
socket, runs this release's interpreter or from its folder; else unproven.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import List, Optional, Pattern, Sequence

from deploy.wire.names import ReleaseId

from .health import Answer
from .layout import Layout
from .processes import open_files

UNPROVEN = "unproven"


def contradiction(layout: Layout, release: ReleaseId, answer: Answer, witnesses: Sequence[int]) -> Optional[str]:
    """Why an answer cannot come from this release (it names another, or another's process gave it), or None.

    An answer that names nobody is judged by the processes that serve: a supervisor says nothing, and during a graceful
    restart processes of both releases do, so only witnesses that are all of other releases contradict.
    """
    if answer.release is not None:
        return None if answer.release == release else "answered by release %s, not %s" % (answer.release, release)
    other = release_of(layout, answer.pid) if answer.pid is not None else None
    if other is not None and other != release:
        return "answered by pid %s of release %s, not %s" % (answer.pid, other, release)
    if answer.pid is None:
        others = {name for name in (release_of(layout, pid) for pid in witnesses) if name}
        if others and release not in others:
            return "served by processes of release %s, not %s" % (", ".join(sorted(others)), release)
    return None


def proof(layout: Layout, release: ReleaseId, answer: Answer, witnesses: Sequence[int]) -> str:
    """What proves that the release is live, in words: ``proven by ...`` or ``unproven``."""
    if answer.release == release:
        return "proven by the answer's release id"
    if answer.pid is not None and release_of(layout, answer.pid) == release:
        return "proven by pid %d, which answered" % answer.pid
    for pid in witnesses:
        if release_of(layout, pid) == release:
            return "proven by pid %d, which serves" % pid
    return UNPROVEN


def witnesses(answer: Answer, *, port: Optional[int], unit: Optional[str]) -> List[int]:
    """Processes that serve, as far as this user may see: of the systemd unit, listening on the port, at the socket.

    A unit's processes are found by proc(5) ``cgroup``, which anybody may read, so that a service of another user
    still testifies; who listens on a port is seen of this user's own processes only.
    """
    found = [answer.peer] if answer.peer else []
    return found + (processes_of(unit) if unit else []) + (listeners(port) if port else [])


def processes_of(unit: str) -> List[int]:
    """The processes of a systemd unit, system or user (systemd.unit(5); cgroups(7))."""
    found: List[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/cgroup" % name, encoding="utf-8", errors="replace") as file:
                parts = {part for line in file for part in line.strip().split("/")}
        except OSError:
            continue
        if unit in parts:
            found.append(int(name))
    return found


def inside_a_release(layout: Layout) -> Pattern[str]:
    """What a release's path, or a text that names one or more, looks like; group 1 is the release."""
    return re.compile(re.escape(str(layout.releases)) + r"/([A-Za-z0-9._+-]+)")


def release_of(layout: Layout, pid: int) -> Optional[str]:
    """The release a process runs from, by its command line, working directory or executable; None where unknown."""
    pattern = inside_a_release(layout)
    for text in evidence(pid):
        found = pattern.search(text)
        if found:
            return found.group(1)
    return None


def listeners(port: int) -> List[int]:
    """Processes that hold a listening TCP socket on ``port``, as far as this user may see (proc(5))."""
    inodes = _listening_inodes(port)
    found: List[int] = []
    for name in os.listdir("/proc") if inodes else []:
        if not name.isdigit():
            continue
        try:
            links = open_files(int(name))
        except OSError:
            continue
        if any(link[8:-1] in inodes for link in links if link.startswith("socket:[")):
            found.append(int(name))
    return found


def evidence(pid: int) -> List[str]:
    """A process's command line, working directory and executable, each where this user may read it."""
    found: List[str] = []
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            found.append(os.fsdecode(file.read(65536)).replace("\0", "\n"))
    except OSError:
        pass
    for link in ("cwd", "exe"):
        with contextlib.suppress(OSError):
            found.append(os.readlink("/proc/%d/%s" % (pid, link)))
    return found


def _listening_inodes(port: int) -> List[str]:
    inodes: List[str] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.read().splitlines()[1:]]
        except OSError:
            continue
        inodes += [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
    return inodes


def mentions_root(layout: Layout, pid: int) -> bool:
    """Whether a process's command line, which anybody may read, names this ROOT at all."""
    return any(str(layout.root) + "/" in text for text in evidence(pid))
