"""Break one system call of the host program, the nth of its kind: by strace(1), of its main thread alone.

A call is struck before it does anything (strace(1), ``inject``): killed there, every call before it has taken effect
and it has not, so that the points of all calls are all states between them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

KILL = "signal=KILL"
MUTATING = (
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "open", "openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "syncfs", "chmod",
    "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat", "fallocate", "ftruncate", "truncate", "flock",
    "sendfile", "copy_file_range", "mknod", "mknodat", "utimensat", "setxattr",
)  # fmt: skip
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)")
_WRITES = re.compile(r"\bO_(?:WR\w+|RDWR|CREAT|TRUNC)\b")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_GIVEN = re.compile(r"\) += (\d+)<([^>]*)>$")
"""What a call opened: a descriptor, and the path behind it."""
_OPEN = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")


@dataclass(frozen=True)
class Call:
    """The ``when``-th call of its name, and what it changes: paths as strace tells them."""

    name: str
    when: int
    paths: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Fault:
    """What to do to which call: ``signal=KILL``, ``error=ENOSPC`` or ``retval=0``."""

    name: str
    when: int
    what: str
    ever: bool = False
    """From that call on each time."""

    @property
    def word(self) -> str:
        return f"inject={self.name}:{self.what}:when={self.when}{'+' if self.ever else ''}"


def traced(line: str, trace: Path, *faults: Fault, names: Iterable[str] = MUTATING) -> str:
    """The exec line with these faults in it, and every call of these ``names`` written down."""
    words = " ".join(f"-e '{fault.word}'" for fault in faults)
    every = ",".join(dict.fromkeys("?" + name for name in [*names, *(fault.name for fault in faults)]))
    return f"exec strace -y -s 256 -o '{trace}' -e trace={every} {words} {line}"


def calls(trace: Path) -> Iterator[Call]:
    """The mutating calls of a trace, in order: what was opened only to be read is counted and left out."""
    seen: Counter[str] = Counter()
    opened: dict[str, str] = {}
    for line in trace.read_text("utf-8", "replace").splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        name, arguments = found.group(1), found.group(2)
        seen[name] += 1
        given = _GIVEN.search(line)
        if given:
            opened[f"/proc/self/fd/{given.group(1)}"] = given.group(2)
        if name in ("open", "openat") and not _WRITES.search(arguments):
            continue
        paths = tuple(opened.get(path, path) for path in _changed(name, arguments))
        yield Call(name, seen[name], paths, line)


def _changed(name: str, arguments: str) -> tuple[str, ...]:
    """What a call changes: its paths, those beside a descriptor of a folder made whole; else what that has open."""
    first = _OPEN.match(arguments)
    opened = [first.group(1)] if first else []
    named: list[str] = [] if name in ("write", "pwrite64") else _PATH.findall(arguments)
    if name.endswith("at") and opened and named:
        named = [path if path.startswith("/") else f"{opened[0]}/{path}" for path in named]
    return tuple(path for path in named if path.startswith("/")) or tuple(opened)


def struck(trace: Path, fault: Fault) -> str:
    """The line of the trace at which a fault struck, or nothing where it did not."""
    lines = trace.read_text("utf-8", "replace").splitlines() if trace.exists() else []
    if fault.what.startswith("signal"):
        ours = [line for line in lines if line.startswith(fault.name + "(")]
        return ours[-1] if ours and any("killed by SIGKILL" in line for line in lines) else ""
    return next((line for line in lines if "INJECTED" in line and line.startswith(fault.name + "(")), "")
