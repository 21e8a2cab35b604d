"""Wheels built here from vendored source archives, kept by archive, exact build environment and interpreter.

Each sdist sees only a virtualenv that holds exactly its locked build environment, from wheels already built, never
the whole of vendor/, from which pip would choose freely. Self-hosting backends come first: they need nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from deploy.wire.manifest import Archive, Package, Target, canonical
from deploy.wire.names import Sha256, canonical_name, canonical_version

from . import venvs
from .children import Finished
from .layout import read_json, remove_tree, write_durably
from .sealed import Sealer, explain, give_to_build_user, take_back
from .session import Session, StepFailed
from .store import hash_file

FORMAT = 1
MARKER = "wheel.json"


class Wheel(NamedTuple):
    """One installable wheel of this host: a file and its own digest."""

    path: Path
    name: str
    sha256: str
    sealed: str
    """The seal it was built under; one from vendor/ was not built here."""
    attempts: Tuple[str, ...] = ()
    """What its build started that tried to reach a network, in words for people."""


def interpreter() -> Dict[str, str]:
    """What of this host's Python a built wheel or an installed environment depends on."""
    return {
        "implementation": sys.implementation.cache_tag,
        "abi": str(sysconfig.get_config_var("SOABI") or ""),
        "platform": sysconfig.get_platform(),
        "libc": " ".join(platform.libc_ver()),
        "executable": os.path.realpath(sys.executable),
    }


def wheel_keys(target: Target) -> Dict[Sha256, str]:
    """Where each package's wheel lies: archive + exact build environment, recursively + interpreter."""
    here = interpreter()
    keys: Dict[Sha256, str] = {}

    def key(digest: Sha256, above: Sequence[Sha256]) -> str:
        if digest not in keys:
            package = target.packages[digest]
            if digest in above:
                return "a loop"  # refused when it comes to building
            wanted = sorted(package.build) if package.kind == "sdist" else []
            needs = [[need, key(need, [*above, digest])] for need in wanted]
            keys[digest] = hashlib.sha256(canonical([FORMAT, digest, needs, here])).hexdigest()
        return keys[digest]

    for digest in sorted(target.packages):
        key(digest, ())
    return keys


def to_build(session: Session, target: Target) -> List[Sha256]:
    """Source archives of which no wheel is kept here."""
    kept = session.layout.wheels
    keys = wheel_keys(target).items()
    sdists = [(digest, key) for digest, key in keys if target.packages[digest].kind == "sdist"]
    return [digest for digest, key in sdists if not (kept / key / MARKER).exists()]


class Wheels:
    """Gives the wheel of each archive of one target, building what is not here yet."""

    def __init__(self, session: Session, target: Target, archives: Dict[Sha256, Archive], sealer: Sealer) -> None:
        self._session = session
        self._target = target
        self._archives = archives
        self._sealer = sealer
        self._keys = wheel_keys(target)
        self._ready: Dict[Sha256, Wheel] = {}
        self._builders: Dict[Tuple[str, ...], str] = {}
        self.built = 0

    def all_of(self, digests: Sequence[Sha256]) -> List[Wheel]:
        """The wheels of these archives, in the same order. Raises StepFailed naming the package that did not build."""
        return [self._wheel(digest, ()) for digest in digests]

    def seal(self) -> str:
        """The weakest seal that any of the wheels used was built under, or that this run has."""
        strengths = {wheel.sealed for wheel in self._ready.values()} | {self._sealer.strength}
        return "pip" if "pip" in strengths else "kernel"

    def attempts(self) -> Dict[str, List[str]]:
        """What the builds of the wheels used tried on a network, by wheel; those that tried nothing are left out."""
        return {wheel.name: list(wheel.attempts) for wheel in self._ready.values() if wheel.attempts}

    def other_than(self, installed: Sequence[Sha256]) -> Dict[str, str]:
        """Name and digest of each wheel that was used in a build of this run, and is not itself installed."""
        return {wheel.name: wheel.sha256 for digest, wheel in self._ready.items() if digest not in installed}

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
        return Wheel(path, path.name, digest, "kernel")

    def _kept(self, digest: Sha256) -> Wheel | None:
        folder = self._session.layout.wheels / self._keys[digest]
        try:
            about: Dict[str, Any] = read_json(folder / MARKER)
            path = folder / str(about["name"])
            with open(path, "rb") as file:
                accepted = about["sealed"] == "kernel" or self._session.policy.accept_seal == "pip"
                if accepted and hash_file(file) == about["sha256"]:
                    attempts = tuple(map(str, about.get("attempts", ())))
                    return Wheel(path, path.name, about["sha256"], about["sealed"], attempts)
        except (OSError, ValueError, KeyError):
            pass
        remove_tree(folder)  # incomplete or altered: build it again
        return None

    def _build(self, package: Package, above: Sequence[Sha256]) -> Wheel:
        python = self._builder(package, above)
        work = self._sealer.work / ("build-%s" % package.sha256[:12])
        for folder in (work, work / "out"):
            folder.mkdir(mode=0o755)
        give_to_build_user(self._session, work / "out")
        source = work / self._archives[package.sha256].name
        self._session.store.copy_to(package.sha256, source, 0o444)
        label = "%s %s" % (package.name, package.version)
        with self._session.step("build", label):
            arguments = ["wheel", "--no-deps", "--no-build-isolation", "--check-build-dependencies", "--use-pep517"]
            arguments += ["-w", str(work / "out"), str(source)]
            finished = self._sealer.pip(python, arguments, "build " + label, tools=Path(python).parent)
            made = sorted((work / "out").glob("*.whl"))
            if not finished.ok or len(made) != 1:
                cause = "%s does not build: %s" % (label, finished.cause())
                raise StepFailed("build", cause, _advice(finished.output, label), explain(finished))
            if not _is_of(made[0].name, package):
                cause = "%s builds %s: a build requirement that sets its version is not locked" % (label, made[0].name)
                raise StepFailed("build", cause, "run `fab vendor.lock` again and look at its build requirements")
            self.built += 1
            return self._keep(package, made[0], finished.attempts)

    def _builder(self, package: Package, above: Sequence[Sha256]) -> str:
        """The python of a virtualenv that holds exactly this package's locked build environment, made once per set.

        pip's own build isolation would install the set anew for every package: three times the work. What it would
        hide (the host's site-packages) is not there either, and pip still checks that every requirement is met.
        """
        needs = [self._wheel(need, above) for need in package.build]
        names = tuple(sorted(wheel.sha256 for wheel in needs))
        if names not in self._builders:
            folder = self._sealer.work / ("builder-%d" % len(self._builders))
            python = str(venvs.make(self._session, self._sealer, folder))
            if needs:
                found = install_wheels(self._session, self._sealer, python, folder, needs, compiled=True)
                if not found.ok:
                    cause = "the build environment of %s %s does not install: %s" % (
                        package.name,
                        package.version,
                        found.cause(),
                    )
                    raise StepFailed("build", cause, _advice(found.output, package.name), explain(found))
            self._builders[names] = python
        return self._builders[names]

    def _keep(self, package: Package, made: Path, attempts: Tuple[str, ...]) -> Wheel:
        final = self._session.layout.wheels / self._keys[package.sha256]
        folder = self._session.layout.scratch("wheel")
        path = folder / made.name
        data = made.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        write_durably(path, data, 0o444)
        about = {"format": FORMAT, "name": made.name, "sha256": digest, "archive": package.sha256}
        about["sealed"] = self._sealer.strength
        write_durably(folder / MARKER, canonical(dict(about, attempts=list(attempts))), 0o444)
        os.replace(folder, final)
        return Wheel(final / made.name, made.name, digest, self._sealer.strength, attempts)


def _is_of(name: str, package: Package) -> bool:
    """Whether a wheel's file name (PEP 427) speaks of this very package and version."""
    built, version = name.split("-")[:2]
    same_name = canonical_name(built) == canonical_name(package.name)
    return same_name and canonical_version(version) == canonical_version(package.version)


def install_wheels(
    session: Session, sealer: Sealer, python: str, venv: Path, wheels: Sequence[Wheel], *, compiled: bool
) -> Finished:
    """Install exactly these wheels, by hash, into the virtualenv of ``python``; pip sees no other file.

    pip's own resolver stays on: a second opinion on the closure. Never raises for pip's exit status.
    """
    house = sealer.work / ("wheels-of-" + venv.name)
    house.mkdir(mode=0o755)
    lines: List[str] = []
    for wheel in wheels:
        os.link(wheel.path, house / wheel.name)  # a hard link: a build user cannot enter the store
        name, version = wheel.name.split("-")[:2]
        lines.append("%s==%s --hash=sha256:%s\n" % (name, version, wheel.sha256))
    requirements = house.with_suffix(".txt")
    requirements.write_text("".join(lines), "utf-8")
    give_to_build_user(session, venv)
    arguments = ["install", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
    finished = sealer.pip(
        python, arguments + ([] if compiled else ["--no-compile"]), "pip install", find=house, into=venv
    )
    take_back(session, venv)
    return finished


def _advice(output: str, label: str) -> str:
    if "gcc" in output or "cc1" in output or "Python.h" in output:
        return (
            "%s needs a compiler and Python's headers on the host (Debian: gcc python3-dev), or lock its wheel" % label
        )
    if "Permission denied" in output:
        return (
            "a sealed build writes only to its own work folder (HOME, TMPDIR) and reads nothing of the deploy user's; "
            "where it insists on more, lock its wheel"
        )
    if "No matching distribution" in output:
        return "its build requirements are not all vendored: run `fab vendor.check`, then `fab vendor.lock`"
    return "build it by hand from the same archive, or lock its wheel (`# policy: NAME wheel` in the .in file)"
