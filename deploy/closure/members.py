"""Walks the members of an archive in memory: lists its files, gives the bytes of some, refuses what is hostile.

Nothing is extracted and nothing is run. A host unpacks with ``tarfile`` and ``zipfile`` of Python 3.8 and newer, in
part by way of pip; of those, only newer ones refuse links that lead out (PEP 706; pip before 25.3 follows them),
and what one unpacker overwrites another one keeps. Refused is therefore what could land outside the archive's own
folder, or be another file there than the one inspected here:

* names that are absolute or hold ``..``, ``//``, a backslash, a drive letter or a NUL; in an sdist, names outside its
  one folder;
* links whose target leaves that folder or passes through another folder and back, members behind a link, hard links
  to what is no file of the archive; in a wheel or ``.zip`` every link, because pip writes a file in its place;
* devices, FIFOs and unknown types; setuid and setgid bits of files (those of folders are dropped by every unpacker);
* a name twice, one that is both file and folder, and one that equals a metadata file but for its case. Hosts are
  Linux: any other two names that differ in case are two files there, and stay;
* bombs: more members or bytes than the caps, sparse files, zip members that overlap. ``zipfile`` never gives more of a
  member than the size it declares, so declared sizes are what a host could unpack;
* what readers understand differently: sizes in PAX headers, two names of one zip member, bytes before or after a
  zip, data after the end of a tar, encrypted members and compression that Python 3.8 lacks;
* anything that ends too early.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, cast

MAX_UNPACKED_BYTES = 1 << 30
"""No package on the public index unpacks to more than this without holding a compiled toolkit."""
MAX_WHEEL_BYTES = 8 << 30
"""Some wheels do hold compiled toolkits: torch has more than 1 GiB. They are judged by declared sizes, unread."""
MAX_RATIO = 200
"""Unpacked bytes for a packed one, beyond ALWAYS_BYTES: text packs to a tenth, only a bomb of zeros to a thousandth."""
ALWAYS_BYTES = 64 << 20
MAX_MEMBERS = 200_000
MAX_METADATA_BYTES = 8 << 20
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
_ENCRYPTED = 0x1
_UTF_8 = 0x800
_UNICODE_PATH = 0x7075
_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DRIVE = re.compile(r"[A-Za-z]:")
_ZIP_END_BYTES = 22
_ZIP_MEMBER_BYTES = 30
_PIECE_BYTES = 1 << 18


class BadArchive(ValueError):
    """The archive is damaged, hostile, or not what its file name says."""


@dataclass(frozen=True)
class Contents:
    """The names of all files, those of links, and the bytes of the files that were asked for."""

    files: frozenset[str]
    links: frozenset[str]
    texts: Mapping[str, bytes]


Wanted = Callable[[str], bool]


def read(file: str, data: bytes, wanted: Wanted) -> Contents:
    """Walk an archive by its file name. Raises BadArchive, and whatever the unpacking modules raise for damage."""
    if file.endswith(".whl"):
        return _zip(data, wanted).contents()
    found = _zip(data, wanted) if file.endswith(".zip") else _tar(file, data, wanted)
    found.require_one_folder()
    return found.contents()


class _Found:
    """What was met so far in one archive."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._links: dict[str, str] = {}
        self._hard: dict[str, str] = {}
        self._texts: dict[str, bytes] = {}

    def folder(self, name: str) -> None:
        if name:
            self._folders.add(name)

    def file(self, name: str, stream: Callable[[], IO[bytes]]) -> None:
        self._first(name)
        self._files.add(name)
        if self._wanted(name):
            self._texts[name] = _read_capped(stream(), name)

    def link(self, name: str, target: str) -> None:
        self._first(name)
        self._links[name] = target

    def hard_link(self, name: str, target: str) -> None:
        self._first(name)
        self._hard[name] = target

    def contents(self) -> Contents:
        """Judge all names together. Raises BadArchive."""
        parents = _parents(self._all())
        for name in sorted(self._files & (parents | self._folders)):
            raise BadArchive(f"holds {name!a} both as a file and as a folder")
        for name, target in sorted({**self._links, **self._hard}.items()):
            if name in parents or name in self._folders:
                raise BadArchive(f"holds members behind the link {name!a}")
            if name in self._hard and target not in self._files:
                raise BadArchive(f"holds a hard link to what is no file of it: {name!a} -> {target!a}")
            if name in self._links and _leads_out(name, target):
                raise BadArchive(f"holds a link that leads outside its own folder: {name!a} -> {target!a}")
        known = {name.lower(): name for name in self._texts}
        for name in sorted(self._files):
            if (twin := known.get(name.lower(), name)) != name:
                raise BadArchive(f"holds {twin!a} and {name!a}, which differ in case alone")
        return Contents(frozenset(self._files), frozenset((*self._links, *self._hard)), self._texts)

    def require_one_folder(self) -> None:
        names = self._all()
        tops = sorted({name.split("/")[0] for name in names})
        if len(tops) != 1:
            some = ", ".join(map(ascii, tops[:4]))
            raise BadArchive(f"holds {len(tops)} top-level entries, one folder was expected: {some}")
        if tops[0] in names - self._folders:
            raise BadArchive(f"holds no folder: {tops[0]!a} is a file or a link")

    def _all(self) -> set[str]:
        return {*self._files, *self._folders, *self._links, *self._hard}

    def _first(self, name: str) -> None:
        if not name or name in self._files or name in self._links or name in self._hard:
            raise BadArchive(f"holds {name!a} twice" if name else "holds a member without a name")


def _zip(data: bytes, wanted: Wanted) -> _Found:
    found = _Found(wanted)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise BadArchive(f"holds more than {MAX_MEMBERS} members")
        limit = _limit(data, MAX_WHEEL_BYTES)
        if sum(member.file_size for member in members) > limit:
            raise BadArchive(f"unpacks to more than {limit} bytes")
        _require_plain_zip(data, archive.comment, members)
        for member in members:
            name = _inside(member.orig_filename)
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise BadArchive(f"holds a link in a zip, which pip would write as a file: {name!a}")
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _COMPRESSION:
                raise BadArchive(f"holds a member that Python cannot unpack: {name!a}")
            if member.is_dir():
                found.folder(name)
                continue
            _require_no_special_bits(name, mode)
            found.file(name, lambda member=member: archive.open(member))
    return found


def _require_plain_zip(data: bytes, comment: bytes, members: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse bytes that no member owns before and after, and those that two members own (a quoted overlap)."""
    end = len(data) - len(comment) - _ZIP_END_BYTES
    if data[end : end + 4] != b"PK\5\6":
        raise BadArchive("holds data after the end of the zip")
    free = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        at = member.header_offset
        if at < free:
            raise BadArchive(f"holds members that overlap: {member.filename!a}")
        if not free and at:
            raise BadArchive("holds data before the first member of the zip")
        name, extra = (int.from_bytes(data[at + place : at + place + 2], "little") for place in (26, 28))
        local = data[at + _ZIP_MEMBER_BYTES : at + _ZIP_MEMBER_BYTES + name]
        spelled = local.decode("utf-8" if member.flag_bits & _UTF_8 else "cp437", "replace")
        if {spelled, *_unicode_name(member.extra)} != {member.orig_filename}:
            raise BadArchive(f"holds a member under two names: {member.orig_filename!a} and {local!a}")
        free = at + _ZIP_MEMBER_BYTES + name + extra + member.compress_size


def _unicode_name(extra: bytes) -> set[str]:
    """Give the name in Info-ZIP's Unicode Path field, which Python 3.8 does not read and newer ones prefer."""
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == _UNICODE_PATH:
            return {extra[4 + 5 : 4 + size].decode("utf-8", "replace")}
        extra = extra[4 + size :]
    return set()


def _tar(file: str, data: bytes, wanted: Wanted) -> _Found:
    found = _Found(wanted)
    stream = _Capped(_decompressed(file, data), _limit(data, MAX_UNPACKED_BYTES))
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS:
                raise BadArchive(f"holds more than {MAX_MEMBERS} members")
            _tar_member(found, archive, member)
    # The stream is read to its end: only there does a cut or altered archive show.
    while piece := stream.read(_PIECE_BYTES):
        if piece.strip(b"\0"):
            raise BadArchive("holds data after the end of the tar")
    return found


def _tar_member(found: _Found, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    name = _inside(member.name)
    if member.issparse() or "size" in member.pax_headers:
        raise BadArchive(f"holds a member whose size readers understand differently: {name!a}")
    if member.isdir():
        found.folder(name)
    elif member.issym():
        found.link(name, member.linkname)
    elif member.islnk():
        found.hard_link(name, _inside(member.linkname))
    elif member.isreg():
        _require_no_special_bits(name, member.mode)
        found.file(name, lambda: cast(IO[bytes], archive.extractfile(member)))
    else:
        raise BadArchive(f"holds {name!a}, which is neither file, folder nor link")


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
    """A reader that gives up after a number of bytes: a small archive may unpack to terabytes."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = self._left = limit

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadArchive(f"unpacks to more than {self._limit} bytes")
        return data


def _limit(data: bytes, most: int) -> int:
    return min(most, max(ALWAYS_BYTES, MAX_RATIO * len(data)))


def _read_capped(stream: IO[bytes], name: str) -> bytes:
    with stream:
        data = stream.read(MAX_METADATA_BYTES + 1)
    if len(data) > MAX_METADATA_BYTES:
        raise BadArchive(f"{name!a} is larger than {MAX_METADATA_BYTES} bytes")
    return data


def _inside(name: str) -> str:
    """Give a member's name in one spelling (no ``.``, no empty parts). Raises BadArchive for one that leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    # An empty part counts: pip joins what stands behind the first folder to a path of its own, and `/x` would win.
    if name.startswith("/") or "//" in name or ".." in parts or "\\" in name or "\0" in name or _DRIVE.match(name):
        raise BadArchive(f"holds a member outside its own folder: {name!a}")
    return "/".join(parts)


def _parents(names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        above = name.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _require_no_special_bits(name: str, mode: int) -> None:
    if mode & _SPECIAL_BITS:
        raise BadArchive(f"holds {name!a} with a setuid or setgid bit")


def _leads_out(name: str, target: str) -> bool:
    """Tell whether a symbolic link leaves the archive's folder, or goes down before it goes up.

    Nothing lies behind a link, so leading ``..`` walk up real folders; a later one could start behind another link.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((count for count, part in enumerate(parts) if part != ".."), len(parts))
    above = name.count("/")
    return target.startswith("/") or "\0" in target or ups >= above or ".." in parts[ups:]
