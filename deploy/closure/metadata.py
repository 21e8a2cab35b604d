"""What an archive says about itself: name, version, requirements, build requirements. Runs none of its code.

Archives are hostile input: members are read in memory and never extracted, decompressed bytes and members are
counted and capped, a second copy of a metadata file (which an unpacker might prefer) is an error.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import IO, Any, cast

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from . import licensing, toml

MAX_UNPACKED_BYTES = 1 << 30
"""No package on the public index unpacks to more than this without holding a compiled toolkit."""
MAX_MEMBERS = 200_000
MAX_METADATA_BYTES = 8 << 20
LEGACY_BUILD = ("setuptools>=40.8.0",)
"""What an sdist needs where it has no ``build-system`` table (pyproject.toml specification, packaging.python.org)."""
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"


class BadArchive(ValueError):
    """The archive is damaged, hostile, or not what its file name says."""


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
    (PEP 643): there the lock's record stands in. ``build`` is None for a wheel. ``license`` is '' where none is stated.
    """

    name: str
    version: str
    requires: tuple[str, ...] | None
    requires_python: str
    build: BuildSystem | None
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
        members = _wheel_members(data) if file.endswith(".whl") else _sdist_members(file, data)
        return _from_wheel(file, members) if file.endswith(".whl") else _from_sdist(file, members)
    except BadArchive:
        raise
    except (OSError, EOFError, ValueError, KeyError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise BadArchive(f"{file}: unreadable: {type(error).__name__}: {error}") from error
    except (lzma.LZMAError, RuntimeError, NotImplementedError) as error:
        raise BadArchive(f"{file}: unreadable: {type(error).__name__}: {error}") from error


def _from_wheel(file: str, members: dict[str, bytes]) -> Metadata:
    infos = [name for name in members if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
    if len(infos) != 1:
        raise BadArchive(f"{file}: holds {len(infos)} METADATA files, one was expected")
    fields = _fields(file, members[infos[0]])
    return Metadata(fields.name, fields.version, fields.requires, fields.requires_python, None, fields.license)


def _from_sdist(file: str, members: dict[str, bytes]) -> Metadata:
    tops = sorted({name.split("/")[0] for name in members})
    if len(tops) != 1:
        raise BadArchive(f"{file}: holds {len(tops)} top-level folders with metadata, one was expected")
    top = tops[0]
    build = _build_system(file, members.get(f"{top}/pyproject.toml"))
    if f"{top}/PKG-INFO" not in members:
        name, version = named(file)
        return Metadata(name, version, None, "", build)
    fields = _fields(file, members[f"{top}/PKG-INFO"])
    static = fields.metadata_version >= Version("2.2") and "requires-dist" not in fields.dynamic
    requires = fields.requires if static else None
    return Metadata(fields.name, fields.version, requires, fields.requires_python, build, fields.license)


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


def _build_system(file: str, pyproject: bytes | None) -> BuildSystem:
    if pyproject is None:
        return BuildSystem()
    document = toml.loads(pyproject)
    table: Any = document.get("build-system")
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


def _wheel_members(data: bytes) -> dict[str, bytes]:
    return _zip_members(data, lambda name: name.count("/") == 1 and name.endswith(".dist-info/METADATA"))


def _sdist_members(file: str, data: bytes) -> dict[str, bytes]:
    if file.endswith(".zip"):
        return _zip_members(data, _is_sdist_metadata)
    return dict(_tar_members(file, data))


def _is_sdist_metadata(name: str) -> bool:
    return name.count("/") == 1 and name.endswith(("/PKG-INFO", "/pyproject.toml"))


def _zip_members(data: bytes, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise BadArchive(f"holds more than {MAX_MEMBERS} members")
        for member in members:
            _require_inside(member.filename)
            if wanted(member.filename):
                _require_first(member.filename, found)
                with archive.open(member) as stream:
                    found[member.filename] = _read_capped(stream, member.filename)
    return found


def _tar_members(file: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=cast(IO[bytes], _Capped(_decompressed(file, data))), mode="r|") as archive:
        for count, member in enumerate(archive):
            if count > MAX_MEMBERS:
                raise BadArchive(f"holds more than {MAX_MEMBERS} members")
            name = member.name.removeprefix("./")
            _require_inside(name)
            if not _is_sdist_metadata(name):
                continue
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None:
                raise BadArchive(f"{name} is not a plain file")
            _require_first(name, found)
            found[name] = _read_capped(stream, name)
    yield from found.items()


def _decompressed(file: str, data: bytes) -> IO[bytes]:
    packed = io.BytesIO(data)
    if file.endswith(".tar.gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=packed))
    if file.endswith(".tar.bz2"):
        return cast(IO[bytes], bz2.BZ2File(packed))
    if file.endswith(".tar.xz"):
        return cast(IO[bytes], lzma.LZMAFile(packed))
    raise BadArchive(f"{file}: not an sdist or wheel by its file name")


class _Capped:
    """A reader that gives up after MAX_UNPACKED_BYTES: a small archive may unpack to terabytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = MAX_UNPACKED_BYTES

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadArchive(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        return data


def _read_capped(stream: IO[bytes], name: str) -> bytes:
    data = stream.read(MAX_METADATA_BYTES + 1)
    if len(data) > MAX_METADATA_BYTES:
        raise BadArchive(f"{name} is larger than {MAX_METADATA_BYTES} bytes")
    return data


def _require_first(name: str, found: dict[str, bytes]) -> None:
    if name in found:
        raise BadArchive(f"holds {name} twice")


def _require_inside(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise BadArchive(f"holds a member outside its own folder: {name!r}")
