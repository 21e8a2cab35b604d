"""Turns resolved versions into vendored archives: picks sdist or wheel, downloads it to a work folder, reads it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import Failed, Refused
from deploy.wire.names import Sha256

from . import memory, metadata, policy
from .index import Index, IndexFile, Unwritable, Wanted, sha256_of
from .solve import Pin
from .target import TargetRules


@dataclass(frozen=True)
class Chosen:
    """One archive that will be locked: where its bytes lie now, and what it says of itself."""

    file: str
    sha256: Sha256
    path: Path
    metadata: metadata.Metadata
    reason: str
    yanked: str = ""


class Shelf:
    """Chooses and keeps one target's archives while a lock is being made; each version is chosen once.

    ``everyone`` are the rules of all targets: a wheel that serves more of them is preferred. What ``vendor`` has is not
    downloaded.
    """

    def __init__(
        self,
        index: Index,
        rules: TargetRules,
        everyone: Sequence[TargetRules],
        policies: Mapping[str, str],
        folder: Path,
        *,
        vendor: Path,
    ) -> None:
        self._index = index
        self._rules = rules
        self._everyone = everyone
        self._policies = policies
        self._folder = folder
        self._vendor = vendor
        self._chosen: dict[tuple[str, str], Chosen] = {}

    def choose(self, pins: Iterable[Pin]) -> list[Chosen]:
        """Give the archive of each pin, by policy. Raises Refused where a policy cannot be kept, Failed otherwise."""
        wanted = list(pins)
        new = [pin for pin in wanted if (pin.name, pin.version) not in self._chosen]
        offered = self._index.files(pin.name for pin in new)
        sources = {pin: policy.sdist(offered[pin.name], pin.version) for pin in new}
        self._fetch(source for pin, source in sources.items() if source and self._policies.get(pin.name) != "wheel")
        wheels: dict[Pin, tuple[IndexFile, str]] = {}
        for pin in new:
            source = sources[pin]
            reason = self._wheel_reason(pin, source)
            found = self._wheel(offered[pin.name], pin) if reason else None
            if found:
                wheels[pin] = (found, reason)
            elif source and self._policies.get(pin.name) != "wheel":
                self._keep(pin, source, "")
            else:
                raise _unavailable(pin, self._policies.get(pin.name, ""))
        self._fetch(found for found, _ in wheels.values())
        for pin, (found, reason) in wheels.items():
            self._keep(pin, found, reason)
        return [self._chosen[pin.name, pin.version] for pin in wanted]

    def serves(self, pin: Pin) -> bool:
        """Tell whether a version has a wheel that fits the target, or a source archive that needs no foreign tools."""
        offered = self._index.files([pin.name])[pin.name]
        source = policy.sdist(offered, pin.version)
        if source is None or self._wheel(offered, pin):
            return self._wheel(offered, pin) is not None
        self._fetch([source])
        return not self._wheel_reason(pin, source)

    def wheels(self, pins: Iterable[Pin], rules: TargetRules | None = None) -> dict[Pin, Path]:
        """Download the wheel of each pin that has one that fits ``rules``, or the target; others are left out."""
        asked = list(pins)
        offered = self._index.files(pin.name for pin in asked)
        found = {
            pin: policy.wheel(offered[pin.name], pin.version, rules) if rules else self._wheel(offered[pin.name], pin)
            for pin in asked
        }
        self._fetch(file for file in found.values() if file)
        return {pin: self._folder / file.file for pin, file in found.items() if file}

    def _wheel(self, offered: Iterable[IndexFile], pin: Pin) -> IndexFile | None:
        return policy.wheel(offered, pin.version, self._rules, self._everyone)

    def toolchain(self, versions: Mapping[str, str]) -> list[Chosen]:
        """Give the pure wheels of the toolchain."""
        pins = [Pin(name, version, (), "") for name, version in sorted(versions.items())]
        paths = self.wheels(pins)
        missing = [f"{pin.name} {pin.version}" for pin in pins if pin not in paths]
        if missing:
            raise Failed(
                "Nothing was locked.",
                f"the index lacks wheels of the pinned toolchain: {', '.join(missing)}",
                "use an index that has them, or upgrade sealed-deploy for a newer toolchain",
            )
        return [_read(paths[pin], "toolchain: runs from the archive, before anything can be built") for pin in pins]

    def _wheel_reason(self, pin: Pin, source: IndexFile | None) -> str:
        """Say why a wheel is to be used; nothing where source is."""
        asked = self._policies.get(pin.name)
        if asked:
            return "asked for by a policy comment" if asked == "wheel" else ""
        if source is None:
            return "no source archive is published"
        system = _read(self._folder / source.file, "").metadata.build
        return policy.foreign(pin.name, system.requires if system else (), self._rules)

    def _keep(self, pin: Pin, found: IndexFile, reason: str) -> None:
        self._chosen[pin.name, pin.version] = _read(self._folder / found.file, reason, found.yanked)

    def _take(self, file: IndexFile) -> bool:
        """Take from ``vendor/`` what the index offers with the very same bytes, and tell."""
        there = self._vendor / file.file
        if not file.sha256 or not there.is_file() or sha256_of(there) != file.sha256:
            return False
        shutil.copyfile(there, self._folder / file.file)
        return True

    def _fetch(self, files: Iterable[IndexFile]) -> None:
        asked = [file for file in files if not (self._folder / file.file).exists()]
        missing = [file for file in asked if not self._take(file)]
        wanted = [Wanted(file.name, file.file, file.sha256, self._folder / file.file) for file in missing]
        try:
            errors = self._index.download(wanted)
        except Unwritable as error:
            why = f"{self._folder} cannot be written: {error}"
            raise Failed("Nothing was locked.", why, "free space there, or set TMPDIR; then fab vendor.lock") from None
        if errors:
            raise Failed(
                "Nothing was locked.",
                f"{len(errors)} archive(s) could not be downloaded",
                "fab vendor.lock again once the index answers",
                problems=[f"{file}: {why}" for file, why in sorted(errors.items())],
            )


def _read(path: Path, reason: str, yanked: str = "") -> Chosen:
    digest = Sha256(sha256_of(path))
    return Chosen(path.name, digest, path, _metadata(path, digest), reason, yanked)


def _metadata(path: Path, digest: Sha256) -> metadata.Metadata:
    try:
        return memory.read(path.name, digest, path.read_bytes)
    except metadata.BadArchive as error:
        why = f"the index offers a bad archive: {path.name}: {str(error).removeprefix(f'{path.name}: ')}"
        step = "ask for another version in the .in file, or for its other kind ('# policy: NAME wheel' or 'source')"
        raise Refused("Nothing was locked.", why, step) from None


def _unavailable(pin: Pin, asked: str) -> Refused:
    kind = "wheel that fits the target" if asked == "wheel" else "source archive, nor a wheel that fits the target"
    return Refused(
        "Nothing was locked.",
        f"the index has no {kind} of {pin.name} {pin.version}",
        f"pin another version of {pin.name} in the .in file, or change its policy comment",
    )
