"""The manifest: by sha256, all that one tag's bundle contains, for every target. Frozen values, JSON, no I/O.

Canonical JSON (sorted keys, compact, ASCII, one final newline) makes the digest, and the digest makes the
release id, so the same tag gives the same id on every host and on every operator's machine.

Shape (``format`` 1)::

    {"format": 1, "app": "demo", "tag": "v1.0", "commit": HEX, "tree": HEX, "tag_object": HEX | null,
     "subdirectory": "",
     "files": [[PATH, MODE, SHA256, SIZE], ...],           # MODE "100644" | "100755" | "120000"; sorted by path
     "archives": {SHA256: {"name": FILE_NAME, "size": N}},
     "targets": [{"python": "3.11", "platform": "linux_x86_64" | "any",
                  "packages": {SHA256: {"name", "version", "kind": "sdist" | "wheel", "build": [SHA256, ...]}},
                  "install": [SHA256, ...],                # run-time pins, dependencies first
                  "toolchain": [SHA256, ...]}],            # pip, virtualenv and what virtualenv needs: wheels
     "settings": {...}}                                    # release settings of the tag's own fabric.yaml

``packages`` holds every archive a target uses, run-time, build-time and toolchain; ``build`` lists the archives
that form the exact build environment of an sdist (transitively closed; empty for a wheel or a self-hosting root).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, cast

from . import names
from .names import ReleaseId, Sha256

FORMAT = 1
MODES = ("100644", "100755", "120000")


class BadManifest(ValueError):
    """The manifest breaks its own contract, or is of a newer format than this program reads."""


@dataclass(frozen=True)
class TreeFile:
    """One blob of the tag's tree, below the subdirectory that settings name. A link's blob is its target."""

    path: str
    mode: str
    sha256: Sha256
    size: int


@dataclass(frozen=True)
class Package:
    """One pinned archive of a target. ``build`` is the exact build environment of an sdist."""

    sha256: Sha256
    name: str
    version: str
    kind: str
    build: Tuple[Sha256, ...] = ()


@dataclass(frozen=True)
class Target:
    """One Python and platform that hosts have, and the closure for it."""

    python: str
    platform: str
    packages: Mapping[Sha256, Package]
    install: Tuple[Sha256, ...]
    toolchain: Tuple[Sha256, ...]

    @property
    def name(self) -> str:
        return "python%s-%s" % (self.python, self.platform)


@dataclass(frozen=True)
class Archive:
    """One file of ``vendor/``: its file name (never a path) and size in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """All that one tag's bundle must contain. ``to_bytes`` is canonical; ``digest`` is its sha256."""

    app: str
    tag: str
    commit: str
    tree: str
    tag_object: Optional[str]
    subdirectory: str
    files: Tuple[TreeFile, ...]
    archives: Mapping[Sha256, Archive]
    targets: Tuple[Target, ...]
    settings: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        return canonical(self.to_json())

    @property
    def digest(self) -> Sha256:
        return Sha256(hashlib.sha256(self.to_bytes()).hexdigest())

    @property
    def release_id(self) -> ReleaseId:
        return names.release_id(self.tag, self.digest)

    @property
    def sizes(self) -> Dict[Sha256, int]:
        """Bytes behind every digest that the manifest holds."""
        found: Dict[Sha256, int] = {file.sha256: file.size for file in self.files}
        found.update({digest: archive.size for digest, archive in self.archives.items()})
        return found

    def to_json(self) -> Dict[str, Any]:
        return {
            "format": FORMAT,
            "app": self.app,
            "tag": self.tag,
            "commit": self.commit,
            "tree": self.tree,
            "tag_object": self.tag_object,
            "subdirectory": self.subdirectory,
            "files": [[f.path, f.mode, f.sha256, f.size] for f in self.files],
            "archives": {digest: {"name": a.name, "size": a.size} for digest, a in self.archives.items()},
            "targets": [_target_to_json(target) for target in self.targets],
            "settings": dict(self.settings),
        }


def canonical(value: Any) -> bytes:
    """The one JSON spelling that digests are taken of."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True) + "\n").encode("ascii")


def from_bytes(data: bytes) -> Manifest:
    """Parse and validate a manifest, once, at the door. Raises BadManifest with the reason."""
    try:
        value = json.loads(data.decode("utf-8"))
        if not isinstance(value, dict):
            raise BadManifest("a manifest is a JSON object")
        return _from_json(cast("Dict[str, Any]", value))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, BadManifest):
            raise
        raise BadManifest("unreadable manifest: %s: %s" % (type(error).__name__, error)) from error


def is_safe_path(path: str) -> bool:
    """A relative path that stays inside: no empty, ``.`` or ``..`` part, no NUL, no leading slash, not ``.git``."""
    parts = path.split("/")
    return "\0" not in path and all(part not in ("", ".", "..") for part in parts) and parts[0].lower() != ".git"


def _target_to_json(target: Target) -> Dict[str, Any]:
    return {
        "python": target.python,
        "platform": target.platform,
        "packages": {
            digest: {"name": p.name, "version": p.version, "kind": p.kind, "build": list(p.build)}
            for digest, p in target.packages.items()
        },
        "install": list(target.install),
        "toolchain": list(target.toolchain),
    }


def _from_json(value: Dict[str, Any]) -> Manifest:
    if value["format"] != FORMAT:
        raise BadManifest("manifest format %r; this program reads format %d" % (value["format"], FORMAT))
    manifest = Manifest(
        app=str(value["app"]),
        tag=str(value["tag"]),
        commit=str(value["commit"]),
        tree=str(value["tree"]),
        tag_object=None if value["tag_object"] is None else str(value["tag_object"]),
        subdirectory=str(value["subdirectory"]),
        files=tuple(_file(entry) for entry in value["files"]),
        archives={names.sha256(d): Archive(str(a["name"]), int(a["size"])) for d, a in value["archives"].items()},
        targets=tuple(_target(entry) for entry in value["targets"]),
        settings=dict(value["settings"]),
    )
    problems = _problems(manifest)
    if problems:
        raise BadManifest("; ".join(problems[:20]))
    return manifest


def _file(entry: List[Any]) -> TreeFile:
    path, mode, digest, size = entry
    return TreeFile(str(path), str(mode), names.sha256(digest), int(size))


def _target(value: Dict[str, Any]) -> Target:
    packages = {
        names.sha256(digest): Package(
            names.sha256(digest),
            str(p["name"]),
            str(p["version"]),
            str(p["kind"]),
            tuple(names.sha256(need) for need in p["build"]),
        )
        for digest, p in value["packages"].items()
    }
    return Target(
        python=str(value["python"]),
        platform=str(value["platform"]),
        packages=packages,
        install=tuple(names.sha256(digest) for digest in value["install"]),
        toolchain=tuple(names.sha256(digest) for digest in value["toolchain"]),
    )


def _problems(manifest: Manifest) -> List[str]:
    found: List[str] = []
    if not names.is_tag(manifest.tag):
        found.append("not a deployable tag: %r" % manifest.tag)
    paths = [f.path for f in manifest.files]
    if len(set(paths)) != len(paths):
        found.append("a path is listed twice")
    folders = {path[:at] for path in paths for at, char in enumerate(path) if char == "/"}
    for f in manifest.files:
        if not is_safe_path(f.path):
            found.append("unsafe path %r" % f.path)
        if f.path in folders:
            found.append("%r is both a file and a folder" % f.path)
        if f.mode not in MODES:
            found.append("%r has mode %r" % (f.path, f.mode))
    for archive in manifest.archives.values():
        if "/" in archive.name or not is_safe_path(archive.name):
            found.append("unsafe archive name %r" % archive.name)
    if len({archive.name for archive in manifest.archives.values()}) != len(manifest.archives):
        found.append("an archive name is listed twice")  # vendor/ is one flat folder
    return found + [problem for target in manifest.targets for problem in _target_problems(target, manifest)]


def _target_problems(target: Target, manifest: Manifest) -> List[str]:
    found: List[str] = []
    used = set(target.install) | set(target.toolchain)
    for package in target.packages.values():
        used |= set(package.build)
        if package.kind not in ("sdist", "wheel"):
            found.append("%s has kind %r" % (package.name, package.kind))
    unknown = sorted(used - set(target.packages)) + sorted(set(target.packages) - set(manifest.archives))
    return found + ["%s: no archive %s" % (target.name, digest) for digest in unknown]
