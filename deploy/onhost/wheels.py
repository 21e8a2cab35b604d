"""Wheels built here from vendored source archives, kept by archive, exact build environment and interpreter.

Each sdist sees only a folder holding exactly its locked build environment as wheels already built, never the whole of
vendor/, from which pip would choose freely. Self-hosting backends come first because their build list is empty.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from deploy.wire.manifest import Archive, Package, Target, canonical
from deploy.wire.names import Sha256

from .layout import read_json, remove_tree, write_durably
from .sealed import Sealer, explain, give_to_build_user
from .session import Session, StepFailed
from .store import hash_file

FORMAT = 1
_MARKER = "wheel.json"


class Wheel(NamedTuple):
    """One installable wheel of this host: a file and its own digest."""

    path: Path
    name: str
    sha256: str


def interpreter() -> Dict[str, str]:
    """What of this host's Python a built wheel or an installed environment depends on."""
    return {
        "implementation": sys.implementation.cache_tag,
        "abi": str(sysconfig.get_config_var("SOABI") or ""),
        "platform": sysconfig.get_platform(),
        "libc": " ".join(platform.libc_ver()),
        "executable": os.path.realpath(sys.executable),
    }


def wheel_key(target: Target, digest: Sha256) -> str:
    """Where the wheel of one sdist lies: archive + exact build environment, recursively + interpreter."""
    package = target.packages[digest]
    needs = [[need, wheel_key(target, need)] for need in sorted(package.build)] if package.kind == "sdist" else []
    return hashlib.sha256(canonical([FORMAT, digest, needs, interpreter()])).hexdigest()


class Wheels:
    """Gives the wheel of each archive of one target, building what is not here yet."""

    def __init__(self, session: Session, target: Target, archives: Dict[Sha256, Archive], sealer: Sealer) -> None:
        self._session = session
        self._target = target
        self._archives = archives
        self._sealer = sealer
        self._ready: Dict[Sha256, Wheel] = {}
        self.built = 0

    def all_of(self, digests: Sequence[Sha256]) -> List[Wheel]:
        """The wheels of these archives, in the same order. Raises StepFailed naming the package that did not build."""
        return [self._wheel(digest, ()) for digest in digests]

    def _wheel(self, digest: Sha256, above: Sequence[Sha256]) -> Wheel:
        if digest in self._ready:
            return self._ready[digest]
        package = self._target.packages[digest]
        if digest in above:
            chain = " -> ".join(self._target.packages[d].name for d in [*above, digest])
            raise StepFailed("build", "build requirements form a loop: %s" % chain, "lock a wheel for one of them")
        if package.kind == "wheel":
            wheel = self._vendored(digest)
        else:
            wheel = self._kept(digest) or self._build(package, [*above, digest])
        self._ready[digest] = wheel
        return wheel

    def _vendored(self, digest: Sha256) -> Wheel:
        """A wheel from vendor/ under its own file name, which pip reads tags from."""
        folder = self._sealer.work / "vendored"
        folder.mkdir(exist_ok=True)
        path = folder / self._archives[digest].name
        if not path.exists():
            self._session.store.copy_to(digest, path, 0o444)
        return Wheel(path, path.name, digest)

    def _kept(self, digest: Sha256) -> Wheel | None:
        folder = self._session.layout.wheels / wheel_key(self._target, digest)
        try:
            about: Dict[str, Any] = read_json(folder / _MARKER)
            path = folder / str(about["name"])
            with open(path, "rb") as file:
                if hash_file(file) == about["sha256"]:
                    return Wheel(path, path.name, about["sha256"])
        except (OSError, ValueError, KeyError):
            pass
        remove_tree(folder)  # incomplete or altered: build it again
        return None

    def _build(self, package: Package, above: Sequence[Sha256]) -> Wheel:
        needs = [self._wheel(need, above) for need in package.build]
        work = self._sealer.work / ("build-%s" % package.sha256[:12])
        for folder in (work, work / "env", work / "out"):
            folder.mkdir(mode=0o755)
        give_to_build_user(self._session, work / "out")
        link_wheels(needs, work / "env")
        source = work / self._archives[package.sha256].name
        self._session.store.copy_to(package.sha256, source, 0o444)
        label = "%s %s" % (package.name, package.version)
        with self._session.step("build", label):
            arguments = ["wheel", "--no-deps", "--use-pep517", "--no-cache-dir", "-w", str(work / "out"), str(source)]
            finished = self._sealer.pip(sys.executable, arguments, "build " + label, find=work / "env")
            made = sorted((work / "out").glob("*.whl"))
            if not finished.ok or len(made) != 1:
                cause = "%s does not build: %s" % (label, finished.cause())
                raise StepFailed("build", cause, _advice(finished.output, label), explain(finished))
            self.built += 1
            return self._keep(package, made[0])

    def _keep(self, package: Package, made: Path) -> Wheel:
        final = self._session.layout.wheels / wheel_key(self._target, package.sha256)
        folder = self._session.layout.scratch("wheel")
        path = folder / made.name
        data = made.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        write_durably(path, data, 0o444)
        about = {"format": FORMAT, "name": made.name, "sha256": digest, "archive": package.sha256}
        write_durably(folder / _MARKER, canonical(about), 0o444)
        os.replace(folder, final)
        return Wheel(final / made.name, made.name, digest)


def link_wheels(wheels: Sequence[Wheel], folder: Path) -> None:
    """Make ``folder`` hold exactly these wheels, as hard links: a build user cannot enter the store."""
    for wheel in wheels:
        os.link(wheel.path, folder / wheel.name)


def _advice(output: str, label: str) -> str:
    if "gcc" in output or "cc1" in output or "Python.h" in output:
        return (
            "%s needs a compiler and Python's headers on the host (Debian: gcc python3-dev), or lock its wheel" % label
        )
    if "No matching distribution" in output:
        return "its build requirements are not all vendored: run `fab vendor.check`, then `fab vendor.lock`"
    return "build it by hand from the same archive to see more, or lock its wheel"
