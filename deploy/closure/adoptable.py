"""What another tool's file says of a closure, once read: what is asked for, what is pinned, what cannot be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from deploy.errors import Refused

from .lines import name_of
from .model import Archive, Lock

NOTHING = "Nothing was changed."


@dataclass(frozen=True)
class Pinned:
    """One version that a source pins (``NAME==VERSION``, with its marker), and the bytes that it accepts.

    ``sha256s`` are hashes of any file of that version; ``files`` those of named ones. A constraint pins a version
    but installs nothing by itself: there ``asked`` is False.
    """

    where: str
    requirement: Requirement
    sha256s: frozenset[str] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    asked: bool = True

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> Version:
        return Version(next(iter(self.requirement.specifier)).version)

    @property
    def text(self) -> str:
        """The pin as a constraint: pip takes none with extras."""
        marker = f" ; {self.requirement.marker}" if self.requirement.marker else ""
        return f"{self.name}=={next(iter(self.requirement.specifier)).version}{marker}"


@dataclass(frozen=True)
class Adoptable:
    """A source as read. ``shown`` is its path as an operator knows it.

    ``lines`` are those of the .in file to be, comments included; ``limits`` are constraints that pin nothing;
    ``told`` says what was decided; ``problems`` are packages that cannot be asked for, and why.
    """

    shown: str
    lines: tuple[str, ...]
    pinned: tuple[Pinned, ...] = ()
    limits: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def preferred(self) -> tuple[str, ...]:
        """What the lock is to keep to where it can: first what is asked for, which is kept where others conflict."""
        asked = {name_of(line) for line in self.lines}
        pins = sorted(self.pinned, key=lambda pin: pin.name not in asked)
        return tuple(dict.fromkeys((*(pin.text for pin in pins), *self.limits)))

    def asked(self) -> str:
        """Give the text of the .in file; what cannot be asked for stands in it as comments."""
        head = f"# What the application needs, as {self.shown} says; from here on this file is the one to edit."
        left_out = [f"# left out: {problem}" for problem in self.problems]
        once = dict.fromkeys(line for line in self.lines if not line.startswith("#"))
        lines = [line for line in self.lines if line.startswith("#") or once.pop(line, self) is None]
        return "\n".join([head, *lines, *left_out]) + "\n"


def bare(requirement: Requirement) -> Requirement:
    """Give a requirement without its extras."""
    plain = Requirement(str(requirement))
    plain.extras = set()
    return plain


def is_pin(requirement: Requirement) -> bool:
    """Tell whether a requirement leaves one version only (``==1.2``; not ``==1.*``)."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in {"==", "==="}:
        return False
    try:
        Version(specifiers[0].version)
    except InvalidVersion:
        return False
    return True


def unreadable(shown: str, why: str, next_step: str) -> Refused:
    """Say that a source is none, and what to do."""
    return Refused(NOTHING, f"{shown}: {why}", next_step)


def counting(read: Adoptable, lock: Lock) -> list[Pinned]:
    """List the pins that count on some target of a lock."""
    targets = [target.rules for target in lock.targets]
    return [pin for pin in read.pinned if any(rules.applies(pin.requirement) for rules in targets)]


def unneeded(read: Adoptable, lock: Lock) -> list[Pinned]:
    """List what the source pins and installs, and the lock has not got."""
    locked = {archive.name for archive in lock.run_time()}
    return [pin for pin in counting(read, lock) if pin.asked and pin.name not in locked]


def differences(read: Adoptable, lock: Lock) -> list[str]:
    """Name every difference between what the source pins and what is locked, and count what is as pinned."""
    locked: dict[str, set[Version]] = {}
    for archive in lock.run_time():
        locked.setdefault(archive.name, set()).add(Version(archive.version))
    counts = [pin for pin in counting(read, lock) if pin.asked or pin.name in locked]
    other = [pin for pin in counts if pin.version not in locked.get(pin.name, ())]
    instead = {name: ", ".join(map(str, sorted(versions))) for name, versions in locked.items()}
    found = [
        f"differs: {pin.name} {pin.version} in {pin.where}, locked: {instead.get(pin.name, 'no version')}"
        for pin in other
    ]
    elsewhere = sorted({pin.name for pin in read.pinned if pin.asked} - {pin.name for pin in counts})
    if elsewhere:
        targets = ", ".join(target.name for target in lock.targets)
        found.append(f"pinned by {read.shown}, but not for {targets}: {', '.join(elsewhere)}")
    if counts:
        same = sum(_compared(read, lock).values())
        hashes = f"; archives among the hashes that it lists: {same}" if same else ""
        found.append(f"locked as {read.shown} pins them: {len(counts) - len(other)} of {len(counts)}{hashes}")
    return found


def unlisted(read: Adoptable, lock: Lock) -> list[str]:
    """Name the archives whose bytes are other than the source lists for that version."""
    where = {pin.name: pin.where for pin in read.pinned}
    return [
        f"{where[archive.name]}: the hash of {archive.file} (sha256 {archive.sha256[:16]}...) is not among those listed"
        for archive, same in _compared(read, lock).items()
        if not same
    ]


def _compared(read: Adoptable, lock: Lock) -> dict[Archive, bool]:
    """Compare the archives that the source lists hashes for: of that version, of that file or that kind of file."""
    found: dict[Archive, bool] = {}
    pins = counting(read, lock)
    for archive in lock.run_time():
        mine = [pin for pin in pins if pin.name == archive.name and pin.version == Version(archive.version)]
        hashes = {sha256 for pin in mine for sha256 in pin.sha256s}
        for file, sha256 in (entry for pin in mine for entry in pin.files.items()):
            if file == archive.file or (archive.kind == "sdist" and not file.endswith(".whl")):
                hashes.add(sha256)
        if hashes:
            found[archive] = archive.sha256 in hashes
    return found
