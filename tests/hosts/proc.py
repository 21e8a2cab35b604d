"""What runs on this machine now, read from proc(5); nothing here signals anybody."""

from __future__ import annotations

from pathlib import Path


def pids() -> list[int]:
    """Every process there is."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def read(pid: int, name: str) -> bytes:
    """One file of a process; nothing where it is gone or not ours to see."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def argv(pid: int) -> list[bytes]:
    """The command line of a process."""
    return read(pid, "cmdline").rstrip(b"\0").split(b"\0")


def uid(pid: int) -> int | None:
    """Whose process it is, or None where it is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def descendants(top: int, *, named: str | None = None) -> list[int]:
    """All processes below one, or those of that name, the farthest first."""
    parents: dict[int, tuple[int, str]] = {}
    for pid in pids():
        head, _, tail = read(pid, "stat").rpartition(b")")
        if tail:
            parents[pid] = (int(tail.split()[1]), head.partition(b"(")[2].decode())
    found: list[int] = []
    waiting = [top]
    while waiting:
        above = waiting.pop()
        below = [pid for pid, (parent, _) in parents.items() if parent == above]
        waiting += below
        found += below
    return [pid for pid in reversed(found) if named in (None, parents[pid][1])]
