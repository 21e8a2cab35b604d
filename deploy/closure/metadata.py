"""What an archive says about itself: name, version, requirements, build requirements, languages it is compiled from.

Runs none of its code. Archives are hostile input: ``members`` says what is refused of them, and why.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import Any, cast

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from . import licensing, members, native, toml
from .members import BadArchive, Contents
from .native import NOTHING, Native

LEGACY_BUILD = ("setuptools>=40.8.0",)
"""What an sdist needs where it has no ``build-system`` table (pyproject.toml specification, packaging.python.org)."""
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
_SCHEMES = ("data", "headers", "platlib", "purelib", "scripts")


@dataclass(frozen=True)
class BuildSystem:
    """The ``[build-system]`` table of PEP 517 and 518, defaults filled in."""

    requires: tuple[str, ...] = LEGACY_BUILD
    backend: str = LEGACY_BACKEND
    backend_path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metadata:
    """What the archive says. ``requires`` is None where it cannot be known without running a build.

    That is an sdist whose PKG-INFO is older than Metadata-Version 2.2 or lists Requires-Dist as Dynamic
    (PEP 643): there the lock's record stands in. ``build`` is None for a wheel, and ``native`` empty;
    ``license`` is empty where none is stated.
    """

    name: str
    version: str
    requires: tuple[str, ...] | None
    requires_python: str
    build: BuildSystem | None
    native: Native = NOTHING
    license: str = ""


def named(file: str) -> tuple[str, str]:
    """Give the normalised name and version that a file name states. Raises BadArchive."""
    if file.endswith(".tgz"):
        raise BadArchive(f"{file}: pip 24 and newer do not find .tgz archives; rename it to .tar.gz and lock again")
    try:
        if file.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(file)
            return name, str(version)
        for suffix in (".tar.bz2", ".tar.xz"):
            if file.endswith(suffix):
                file = file[: -len(suffix)] + ".tar.gz"
        name, version = parse_sdist_filename(file)
    except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion) as error:
        raise BadArchive(f"{file}: not the file name of an sdist or wheel: {error}") from error
    return name, str(version)


def read(file: str, data: bytes) -> Metadata:
    """Read an archive's own metadata (PKG-INFO and pyproject.toml, or METADATA). Raises BadArchive."""
    try:
        if file.endswith(".whl"):
            return _from_wheel(file, members.read(file, data, _is_wheel_metadata))
        return _from_sdist(file, members.read(file, data, _is_sdist_metadata))
    except BadArchive:
        raise
    except (OSError, EOFError, ValueError, KeyError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise BadArchive(f"{file}: unreadable: {type(error).__name__}: {error}") from error
    except (lzma.LZMAError, RuntimeError, NotImplementedError) as error:
        raise BadArchive(f"{file}: unreadable: {type(error).__name__}: {error}") from error


def _is_wheel_metadata(name: str) -> bool:
    return name.count("/") == 1 and name.endswith((".dist-info/METADATA", ".dist-info/WHEEL", ".dist-info/RECORD"))


def _is_sdist_metadata(name: str) -> bool:
    return name.count("/") == 1 and name.endswith(("/PKG-INFO", "/pyproject.toml", "/setup.py"))


def _from_wheel(file: str, found: Contents) -> Metadata:
    """Read a wheel as pip does (the binary distribution format, packaging.python.org): one folder of metadata."""
    infos = sorted({name.split("/")[0] for name in found.files if name.split("/")[0].endswith(".dist-info")})
    if len(infos) != 1:
        raise BadArchive(f"{file}: holds {len(infos)} folders of metadata (.dist-info), one was expected")
    for name in ("METADATA", "WHEEL", "RECORD"):
        if f"{infos[0]}/{name}" not in found.texts:
            raise BadArchive(f"{file}: holds no {infos[0]}/{name}")
    for name in sorted(found.files):
        top, _, below = name.partition("/")
        if top.endswith(".data") and below.split("/")[0] not in _SCHEMES:
            raise BadArchive(f"{file}: holds {name!a}, which belongs to no place of a virtualenv")
    fields = _fields(file, found.texts[f"{infos[0]}/METADATA"])
    return Metadata(fields.name, fields.version, fields.requires, fields.requires_python, None, license=fields.license)


def _from_sdist(file: str, found: Contents) -> Metadata:
    top = next(iter(found.files), "").split("/")[0]
    if not {f"{top}/PKG-INFO", f"{top}/pyproject.toml"} & found.texts.keys():
        raise BadArchive(f"{file}: holds neither PKG-INFO nor pyproject.toml in its top-level folder")
    for name in ("PKG-INFO", "pyproject.toml"):
        if f"{top}/{name}" in found.links:
            raise BadArchive(f"{file}: {top}/{name} is not a plain file")
    pyproject = toml.loads(found.texts.get(f"{top}/pyproject.toml", b""))
    build = _build_system(file, pyproject)
    inside = frozenset(name.partition("/")[2] for name in found.files)
    needs = native.needs(inside, found.texts.get(f"{top}/setup.py", b""), pyproject)
    if f"{top}/PKG-INFO" not in found.texts:
        name, version = named(file)
        return Metadata(name, version, None, "", build, needs)
    fields = _fields(file, found.texts[f"{top}/PKG-INFO"])
    static = fields.metadata_version >= Version("2.2") and "requires-dist" not in fields.dynamic
    requires = fields.requires if static else None
    return Metadata(fields.name, fields.version, requires, fields.requires_python, build, needs, fields.license)


@dataclass(frozen=True)
class _Fields:
    name: str
    version: str
    metadata_version: Version
    requires: tuple[str, ...]
    requires_python: str
    dynamic: frozenset[str]
    license: str


def _fields(file: str, data: bytes) -> _Fields:
    headers = HeaderParser().parsestr(data.decode("utf-8", errors="replace"))
    name, version = headers.get("Name"), headers.get("Version")
    if not name or not version:
        raise BadArchive(f"{file}: its metadata states no name or no version")
    try:
        metadata_version = Version(str(headers.get("Metadata-Version", "1.0")))
        spelled = str(Version(str(version)))
    except InvalidVersion as error:
        raise BadArchive(f"{file}: its metadata states an invalid version: {error}") from error
    return _Fields(
        name=canonicalize_name(str(name)),
        version=spelled,
        metadata_version=metadata_version,
        requires=tuple(" ".join(str(line).split()) for line in headers.get_all("Requires-Dist", [])),
        requires_python=str(headers.get("Requires-Python", "")).strip(),
        dynamic=frozenset(str(field).strip().lower() for field in headers.get_all("Dynamic", [])),
        license=licensing.stated(headers),
    )


def _build_system(file: str, pyproject: Mapping[str, Any]) -> BuildSystem:
    table: Any = pyproject.get("build-system")
    if table is None:
        return BuildSystem()
    if not isinstance(table, dict):
        raise BadArchive(f"{file}: its build-system is not a table")
    table = cast(dict[str, Any], table)
    requires: Any = table.get("requires", ())
    path: Any = table.get("backend-path", ())
    if not isinstance(requires, list | tuple) or not isinstance(path, list | tuple):
        raise BadArchive(f"{file}: its build-system is malformed (PEP 518)")
    return BuildSystem(
        requires=tuple(str(entry) for entry in cast(list[object], requires)),
        backend=str(table.get("build-backend", LEGACY_BACKEND)),
        backend_path=tuple(str(entry) for entry in cast(list[object], path)),
    )
