"""Turns a lock into what a manifest says of it: targets in install order, and archives by digest. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.wire.manifest import Archive, Package, Target
from deploy.wire.names import Sha256

from .model import Lock, LockTarget
from .target import is_pure

ANY = "any"


def targets(lock: Lock) -> tuple[Target, ...]:
    """Give the manifest's targets, in the lock's order."""
    return tuple(_target(lock, target) for target in lock.targets)


def archives(lock: Lock) -> Mapping[Sha256, Archive]:
    """Give every archive of the closure, for all targets, by sha256."""
    return {archive.sha256: Archive(archive.file, archive.size) for archive in lock.archives.values()}


def _target(lock: Lock, target: LockTarget) -> Target:
    digests = {file: lock.archives[file].sha256 for file in target.files}
    packages = {
        digests[file]: Package(
            sha256=digests[file],
            name=archive.name,
            version=archive.version,
            kind=archive.kind,
            build=tuple(digests[need] for need in target.builds[file].environment) if file in target.builds else (),
        )
        for file in sorted(target.files)
        if (archive := lock.archives[file])
    }
    return Target(
        python=target.python,
        platform=ANY if _runs_anywhere(lock, target) else target.platform,
        packages=packages,
        install=tuple(digests[file] for file in target.install),
        toolchain=tuple(digests[file] for file in target.toolchain),
    )


def _runs_anywhere(lock: Lock, target: LockTarget) -> bool:
    """Tell whether nothing in the closure depends on the processor: no platform wheel, no marker that asks for it."""
    used = [lock.archives[file] for file in target.files]
    pure = all(archive.kind == "sdist" or is_pure(archive.file) for archive in used)
    asked = [*lock.roots, *(text for archive in used for text in archive.requires)]
    asked += [text for build in target.builds.values() for text in (*build.static, *build.dynamic)]
    return pure and not any("platform_machine" in text for text in asked)
