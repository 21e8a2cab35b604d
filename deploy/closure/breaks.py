"""The breaks of one closure, kept by what mends them: the next command is to mend all and move nothing else. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import lockfile
from .model import Lock


@dataclass(frozen=True)
class Breaks:
    """Every break, one line each. ``bad`` maps the file name of an archive to its line."""

    edits: list[str] = field(default_factory=list[str])
    """Lines of the .in file that cannot be locked."""
    pins: list[str] = field(default_factory=list[str])
    """What locking again mends."""
    bad: dict[str, str] = field(default_factory=dict[str, str])
    """Archives that are refused although their bytes are the pinned ones: locking again would bring the same."""
    strays: list[str] = field(default_factory=list[str])
    foreign: list[str] = field(default_factory=list[str])
    """Files of ``vendor/`` that are no archives: somebody's, and not ours to remove."""
    locks: list[str] = field(default_factory=list[str])
    """Locks beside this one that cannot be read."""
    absent: list[str] = field(default_factory=list[str])
    """Files that are missing or altered: the pins are right, and locking again might move them."""

    def all(self) -> list[str]:
        """List them, those of the pins first."""
        bad = [f"{line} (the index serves it so: these are the pinned bytes)" for line in self.bad.values()]
        return [*self.edits, *self.pins, *bad, *self.strays, *self.foreign, *self.locks, *self.absent]

    def next_step(self, lock: Lock) -> str:
        """Say what mends all of it."""
        path = lockfile.asked_path(lock.requirements)
        steps = [f"edit {path}"] if self.edits else []
        steps += dict.fromkeys(_other(lock, file, path) for file in self.bad)
        if self.foreign:
            steps.append("move what is not an archive out of vendor/ (git mv)")
        if self.locks:
            steps.append("mend or remove the lock that cannot be read")
        fetch = "fab vendor.fetch --prune" if self.strays else "fab vendor.fetch"
        if self.edits or self.pins or self.bad:
            steps.append(f"fab vendor.lock && {fetch}")
        elif self.strays or self.absent:
            steps.append(fetch)
        return ", then ".join(steps)


def _other(lock: Lock, file: str, path: str) -> str:
    """Say how to come by another archive than one that is refused."""
    archive = lock.archives[file]
    if any(file in target.toolchain for target in lock.targets):
        return f"upgrade sealed-deploy, which pins {archive.label}"
    policy = f"'# policy: {archive.name} {'source' if archive.kind == 'wheel' else 'wheel'}'"
    if any(file in target.install for target in lock.targets):
        return f"ask for another version of {archive.name} in {path}, or for its other kind ({policy})"
    return f"ask for the other kind of {archive.name} in {path} ({policy})"
