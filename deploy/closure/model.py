"""The closure as frozen values: archives, targets, build environments. No I/O, no parsing, no resolving.

Archives are named by file name everywhere inside a lock: ``vendor/`` is one flat folder, so a file name is
unique there, and a person can read a chain without looking up digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from deploy.wire.names import Sha256

from .target import TargetRules

Kind = Literal["sdist", "wheel"]
Use = Literal["run-time", "build", "toolchain"]
SDIST_SUFFIXES = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz")
"""What pip >= 24 still finds and unpacks; ``.tgz`` is not among them."""


def is_archive_name(file: str) -> bool:
    """Tell whether a file of ``vendor/`` may be ours to remove: by its name it is an archive."""
    return file.endswith((".whl", ".tgz", *SDIST_SUFFIXES))


@dataclass(frozen=True)
class Archive:
    """One file of ``vendor/``. ``name`` is normalised (PEP 503); ``version`` as the archive spells it (PEP 440).

    ``requires`` and ``requires_python`` are what the resolver saw; ``check`` prefers the archive's own metadata
    wherever that is authoritative. ``reason`` says why a wheel is used where source is the rule, and is empty
    for an sdist. ``yanked`` is why the index had withdrawn the file when it was locked (PEP 592), else empty.
    """

    file: str
    sha256: Sha256
    size: int
    name: str
    version: str
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    reason: str = ""
    yanked: str = ""

    @property
    def kind(self) -> Kind:
        return "wheel" if self.file.endswith(".whl") else "sdist"

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Build:
    """The exact build environment of one sdist: what it asks for, and the archives (file names) that answer."""

    file: str
    static: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockTarget:
    """One Python and platform, and the closure resolved for it; all archives by file name.

    ``install`` is in dependency order, dependencies first. ``python_full`` is what ``python_full_version`` markers
    are judged by. ``libc`` is the newest a wheel may ask for: ``glibc 2.28``, ``musl 1.2``.
    """

    python: str
    python_full: str
    platform: str
    libc: str
    install: tuple[str, ...]
    toolchain: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    builds: Mapping[str, Build] = field(default_factory=dict[str, Build])

    @property
    def name(self) -> str:
        return f"python{self.python}-{self.platform}"

    @property
    def rules(self) -> TargetRules:
        return TargetRules(self.python, self.python_full, self.platform, self.libc)

    @property
    def files(self) -> frozenset[str]:
        """Every archive this target uses: run-time, build-time and toolchain."""
        built = (name for build in self.builds.values() for name in (build.file, *build.environment))
        return frozenset((*self.install, *self.toolchain, *built))


@dataclass(frozen=True)
class Lock:
    """One ``requirements/NAME`` locked: what people asked for (``roots``, ``overrides``) and all that answers it."""

    requirements: str
    roots: tuple[str, ...]
    overrides: tuple[str, ...]
    archives: Mapping[str, Archive]
    targets: tuple[LockTarget, ...]

    def run_time(self) -> tuple[Archive, ...]:
        """Every run-time archive of every target, each target's order kept."""
        merged: list[str] = []
        for target in self.targets:
            at = 0
            for file in target.install:
                if file in merged:
                    at = merged.index(file)
                else:
                    merged.insert(at, file)
                at += 1
        return tuple(self.archives[file] for file in merged)

    def uses(self) -> dict[str, Use]:
        """What each archive is there for: at run time where any target installs it, else for builds, else as a tool."""
        tools = frozenset(file for target in self.targets for file in target.toolchain)
        builds = frozenset(
            file for target in self.targets for build in target.builds.values() for file in build.environment
        )
        uses: dict[str, Use] = {file: "toolchain" if file in tools else "build" for file in self.archives}
        uses.update(dict.fromkeys(builds, "build"))
        uses.update({archive.file: "run-time" for archive in self.run_time()})
        return uses


def joint_needs(targets: Iterable[LockTarget]) -> dict[str, set[str]]:
    """Give the run-time graph of all targets together."""
    found: dict[str, set[str]] = {}
    for target in targets:
        for file, needs in target.needs.items():
            found.setdefault(file, set()).update(needs)
    return found


class Loop(ValueError):
    """Archives that need each other to be built. ``path`` starts and ends with the same file name."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(path))
        self.path = path


def dependency_order(files: Iterable[str], needs: Mapping[str, Iterable[str]], *, loops_allowed: bool) -> list[str]:
    """Sort files so that what is needed comes first; the same input gives the same order.

    Run-time loops (a needs b needs a) are legal, pip installs both anyway: they are cut at the edge that the
    alphabet meets last. A build loop is not: with ``loops_allowed=False`` it raises Loop.
    """
    known = sorted(files)
    members = frozenset(known)
    done: dict[str, None] = {}

    def visit(file: str, path: tuple[str, ...]) -> None:
        if file in done:
            return
        if file in path:
            if loops_allowed:
                return
            raise Loop((*path[path.index(file) :], file))
        for need in sorted(needs.get(file, ())):
            if need in members:
                visit(need, (*path, file))
        done[file] = None

    for file in known:
        visit(file, ())
    return list(done)
