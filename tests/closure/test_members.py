"""Archives are hostile input: each trick is refused by inspection, and what honest archives hold is not."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import members
from deploy.closure.members import BadArchive

REPOSITORY = Path(__file__).resolve().parents[2]
TOP = "lib-1.0"
INFO = b"Metadata-Version: 2.2\nName: lib\nVersion: 1.0\n"


def wanted(name: str) -> bool:
    """As for an sdist's metadata."""
    return name == f"{TOP}/PKG-INFO"


def entry(name: str, *, data: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One member of a tar; ``changes`` are attributes of TarInfo."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in changes.items():
        setattr(member, attribute, value)
    return member, data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link."""
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link."""
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002 - tarfile's word
    """A plain tar of metadata and these members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format) as archive:
        for member, data in (entry(f"{TOP}/PKG-INFO", data=INFO), *entries):
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def read_tar(data: bytes) -> members.Contents:
    """Read it as a .tar.gz."""
    return members.read("lib-1.0.tar.gz", gzip.compress(data), wanted)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([entry("/etc/cron.d/evil")], "outside its own folder"),
        ([entry("../evil")], "outside its own folder"),
        ([entry(f"{TOP}/a/../../../evil")], "outside its own folder"),
        ([entry(f"{TOP}//etc/passwd")], "outside its own folder"),
        ([entry("..\\evil")], "outside its own folder"),
        ([entry("C:evil")], "outside its own folder"),
        ([entry(f"{TOP}/a", pax_headers={"path": f"{TOP}/a\0b"})], "outside its own folder"),
        ([entry("evil.pth")], "2 top-level entries"),
        ([entry("evil-2.0/PKG-INFO")], "2 top-level entries"),
        ([link(f"{TOP}/a", "/etc/passwd")], "link that leads outside"),
        ([link(f"{TOP}/a", "..")], "link that leads outside"),
        ([link(f"{TOP}/a/b", "../../other")], "link that leads outside"),
        ([link(f"{TOP}/a/b/down", ".."), link(f"{TOP}/c", "a/b/down/../../..")], "link that leads outside"),
        ([link(f"{TOP}/a", "."), link(f"{TOP}/a/b", "..")], "behind the link"),
        ([entry(f"{TOP}/a/b"), link(f"{TOP}/a", "c")], "behind the link"),
        ([link(f"{TOP}/a", "c"), entry(f"{TOP}/a", type=tarfile.DIRTYPE)], "behind the link"),
        ([hard_link(f"{TOP}/a", "/etc/shadow")], "outside its own folder"),
        ([hard_link(f"{TOP}/a", f"{TOP}/absent")], "hard link to what is no file"),
        ([link(f"{TOP}/a", "b"), hard_link(f"{TOP}/c", f"{TOP}/a")], "hard link to what is no file"),
        ([entry(f"{TOP}/tty", type=tarfile.CHRTYPE)], "neither file, folder nor link"),
        ([entry(f"{TOP}/disk", type=tarfile.BLKTYPE)], "neither file, folder nor link"),
        ([entry(f"{TOP}/pipe", type=tarfile.FIFOTYPE)], "neither file, folder nor link"),
        ([entry(f"{TOP}/what", type=b"Z")], "neither file, folder nor link"),
        ([entry(f"{TOP}/root", mode=0o4755)], "setuid or setgid"),
        ([entry(f"{TOP}/group", mode=0o2755)], "setuid or setgid"),
        ([entry(f"{TOP}/PKG-INFO", data=b"Name: evil")], "holds 'lib-1.0/PKG-INFO' twice"),
        ([entry(f"./{TOP}/PKG-INFO", data=b"Name: evil")], "twice"),
        ([entry(f"{TOP}/a", data=b"1"), entry(f"{TOP}/./a", data=b"2")], "twice"),
        ([link(f"{TOP}/PKG-INFO", "other")], "twice"),
        ([entry(f"{TOP}/pkg-info", data=b"Name: evil")], "differ in case alone"),
        ([entry(f"{TOP}/a"), entry(f"{TOP}/a/b")], "both as a file and as a folder"),
        ([entry(f"{TOP}/a", pax_headers={"size": "3"}, data=b"abc")], "size readers understand differently"),
        (
            [entry(f"{TOP}/a", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, data=b"0\n" * 256)],
            "size",
        ),
    ],
)
def test_line_38_hostile_tars_are_refused(entries: list[tuple[tarfile.TarInfo, bytes]], says: str) -> None:
    """Each member that could land elsewhere than it seems, or be more than a file, is refused by name."""
    with pytest.raises(BadArchive, match=says):
        read_tar(tar(*entries))


@pytest.mark.parametrize(
    "entries",
    [
        [entry(f"./{TOP}", type=tarfile.DIRTYPE), entry(".", type=tarfile.DIRTYPE), entry(f"./{TOP}/a")],
        [link(f"{TOP}/README", "docs/README"), link(f"{TOP}/docs/up", ".."), link(f"{TOP}/gone", "absent")],
        [entry(f"{TOP}/a"), hard_link(f"{TOP}/b", f"{TOP}/a")],
        [entry(f"{TOP}/d", type=tarfile.DIRTYPE, mode=0o2775), entry(f"{TOP}/d", type=tarfile.DIRTYPE)],
        [entry(f"{TOP}/Makefile"), entry(f"{TOP}/makefile")],
        [entry(f"{TOP}/" + "long/" * 60 + "name"), entry(f"{TOP}/ü\n")],
    ],
)
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_honest_tars_hold_is_let_in(
    entries: list[tuple[tarfile.TarInfo, bytes]],
    format: int,  # noqa: A002 - tarfile's word
) -> None:
    """Links that stay inside, setgid folders, names in two cases, long and odd names."""
    found = read_tar(tar(*entries, format=format))
    assert found.texts == {f"{TOP}/PKG-INFO": INFO}
    assert found.links == {member.name for member, _ in entries if member.issym() or member.islnk()}
    assert {member.name.removeprefix("./") for member, _ in entries if member.isreg()} <= found.files


@pytest.mark.parametrize("member", [entry(TOP), link(TOP, "other")])
def test_archive_without_a_folder_is_refused(member: tuple[tarfile.TarInfo, bytes]) -> None:
    """One file, or one link, at the top."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(member[0])
    with pytest.raises(BadArchive, match=r"holds no folder: 'lib-1\.0' is a file or a link"):
        read_tar(packed.getvalue())


def test_bytes_after_the_end_and_cut_archives_are_refused() -> None:
    """A second tar behind the first, a cut one and one with a wrong checksum: readers would disagree on each."""
    whole = tar(entry(f"{TOP}/big", data=bytes(range(256)) * 4096))
    with pytest.raises(BadArchive, match="data after the end of the tar"):
        read_tar(whole + tar(entry(f"{TOP}/evil")))
    packed = gzip.compress(whole)
    with pytest.raises(EOFError):
        members.read("lib-1.0.tar.gz", packed[:-9], wanted)
    with pytest.raises(OSError, match="CRC"):
        members.read("lib-1.0.tar.gz", packed[:-8] + b"\0\0\0\0" + packed[-4:], wanted)
    with pytest.raises(tarfile.ReadError):
        read_tar(whole[: 512 * 4])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_bomb_is_cut_off(compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to more than the cap, or to too much for its size, is given up on while reading."""
    suffix = "gz" if compress is gzip.compress else "bz2"
    bomb = compress(tar(entry(f"{TOP}/zeros", data=bytes(4 << 20))))
    monkeypatch.setattr(members, "ALWAYS_BYTES", 1 << 20)
    with pytest.raises(BadArchive, match="unpacks to more than 1048576 bytes"):
        members.read(f"lib-1.0.tar.{suffix}", bomb, wanted)
    monkeypatch.setattr(members, "ALWAYS_BYTES", 64 << 20)
    monkeypatch.setattr(members, "MAX_UNPACKED_BYTES", 2 << 20)
    with pytest.raises(BadArchive, match="unpacks to more than 2097152 bytes"):
        members.read(f"lib-1.0.tar.{suffix}", bomb, wanted)


def test_too_many_members_and_huge_metadata_are_cut_off(monkeypatch: pytest.MonkeyPatch, make_pack: Any) -> None:
    """Both have caps of their own."""
    monkeypatch.setattr(members, "MAX_METADATA_BYTES", len(INFO) - 1)
    with pytest.raises(BadArchive, match="larger than"):
        read_tar(tar())
    monkeypatch.setattr(members, "MAX_MEMBERS", 3)
    many = {f"{TOP}/{number}": "" for number in range(4)}
    for file in ("lib-1.0.tar.gz", "lib-1.0.zip"):
        with pytest.raises(BadArchive, match="more than 3 members"):
            members.read(file, make_pack(file, many), wanted)


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    """A zip of metadata and these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{TOP}/PKG-INFO", INFO)
        for name, data in entries:
            archive.writestr(name, data)
    return packed.getvalue()


def described(name: str, **changes: Any) -> zipfile.ZipInfo:
    """A zip member with these attributes of ZipInfo."""
    found = zipfile.ZipInfo(name)
    for attribute, value in changes.items():
        setattr(found, attribute, value)
    return found


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([("/etc/evil", b"")], "outside its own folder"),
        ([(f"{TOP}/../../evil", b"")], "outside its own folder"),
        ([(f"{TOP}.data/data//etc/evil", b"")], "outside its own folder"),
        ([(f"{TOP}\\..\\evil", b"")], "outside its own folder"),
        ([(described(f"{TOP}/a", external_attr=0o120777 << 16), b"/etc/passwd")], "holds a link in a zip"),
        ([(described(f"{TOP}/a", external_attr=0o104755 << 16), b"")], "setuid or setgid"),
        ([(described(f"{TOP}/a", extra=b"up\x0c\0\1abcd../evil"), b"")], "under two names"),
        ([(f"{TOP}/pkg-info", b"")], "differ in case alone"),
        ([(f"{TOP}/a", b""), (f"{TOP}/a/b", b"")], "both as a file and as a folder"),
    ],
)
@pytest.mark.parametrize("file", ["lib-1.0.zip", "lib-1.0-py3-none-any.whl"])
def test_hostile_zips_are_refused(file: str, entries: list[tuple[zipfile.ZipInfo | str, bytes]], says: str) -> None:
    """As for tars, and links of every kind: pip writes a file in their place."""
    with pytest.raises(BadArchive, match=says):
        members.read(file, zipped(*entries), wanted)


def change(old: bytes, new: bytes, *, last: bool = False) -> Callable[[bytes], bytes]:
    """Replace bytes, everywhere or in the last place (the central directory) alone."""
    return lambda data: new.join(data.rsplit(old, 1)) if last else data.replace(old, new)


@pytest.mark.parametrize(
    ("altered", "says"),
    [
        (change(b"lib-1.0/a", b"lib-1.0/\0"), "outside its own folder"),
        (change(b"lib-1.0/a", b"lib-1.0/b", last=True), "under two names"),
        (change(b"lib-1.0/a", b"lib-1.0/b"), "holds 'lib-1.0/b' twice"),
        (lambda data: b"#!/bin/sh\n" + data, "before the first member"),
        (lambda data: data + b"PK", "after the end of the zip"),
        (lambda data: data.replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\1\0"), "cannot unpack"),
        (lambda data: data.replace(b"PK\1\2\x14\x03\x14\0\0\0\x08", b"PK\1\2\x14\x03\x14\0\0\0\x5d"), "cannot unpack"),
    ],
)
def test_zips_that_readers_understand_differently_are_refused(altered: Callable[[bytes], bytes], says: str) -> None:
    """NUL in a name, another name in the directory, a name twice, bytes around it, encryption, odd compression."""
    whole = zipped((f"{TOP}/a", b"1"), (f"{TOP}/b", b"2"))
    data = altered(whole)
    assert data != whole
    with pytest.raises(BadArchive, match=says):
        members.read("lib-1.0.zip", data, wanted)


def test_members_of_a_zip_that_overlap_are_refused() -> None:
    """Two entries of the directory point at one member: the way to make a zip unpack to terabytes."""
    data = bytearray(zipped((f"{TOP}/a", b"1"), (f"{TOP}/b", b"2")))
    directory = data.index(b"PK\1\2")
    first = data.index(b"PK\1\2", directory + 1)
    second = data.index(b"PK\1\2", first + 1)
    data[second:] = data[second:].replace(b"lib-1.0/b", b"lib-1.0/a")
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(BadArchive, match="overlap"):
        members.read("lib-1.0.zip", bytes(data), wanted)


def test_zip_that_lies_about_its_sizes_is_refused_or_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it declares is what zipfile ever gives: too much is refused, too little ends the member early."""
    monkeypatch.setattr(members, "ALWAYS_BYTES", 1 << 20)
    with pytest.raises(BadArchive, match="unpacks to more than 1048576 bytes"):
        members.read("lib-1.0.zip", zipped((f"{TOP}/zeros", bytes(2 << 20))), wanted)
    data = bytearray(zipped())
    size = data.index(b"PK\1\2") + 24
    data[size : size + 4] = (4).to_bytes(4, "little")
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        members.read("lib-1.0.zip", bytes(data), wanted)


@pytest.mark.parametrize("archive", sorted((REPOSITORY / "demo" / "vendor").iterdir()), ids=lambda path: path.name)
def test_honest_archives_are_let_in(archive: Path) -> None:
    """Archives as the public index serves them."""
    assert members.read(archive.name, archive.read_bytes(), wanted).files
