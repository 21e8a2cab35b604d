"""Archives are hostile input: what is wrong with them is an error of one line, never an extraction or a crash."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from deploy.closure import metadata

INFO = "Metadata-Version: 2.2\nName: lib\nVersion: 1.0\n"


def tar(*members: tuple[str, bytes | None]) -> bytes:
    """A .tar.gz with exactly these members; None makes a symlink to /etc/passwd."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data or b""))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("lib-1.0/PKG-INFO", b"Name: evil")], "holds lib-1.0/PKG-INFO twice"),
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("./lib-1.0/PKG-INFO", b"Name: evil")], "twice"),
        ([("lib-1.0/PKG-INFO", None)], "not a plain file"),
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("../evil", b"")], "outside its own folder"),
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("/etc/evil", b"")], "outside its own folder"),
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("evil-2.0/PKG-INFO", INFO.encode())], "2 top-level folders"),
        ([("lib-1.0/setup.py", b"")], "0 top-level folders"),
        ([("lib-1.0/PKG-INFO", b"nothing")], "states no name or no version"),
        ([("lib-1.0/PKG-INFO", INFO.replace("1.0", "one").encode())], "invalid version"),
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("lib-1.0/pyproject.toml", b"[")], "unreadable"),
        ([("lib-1.0/PKG-INFO", INFO.encode()), ("lib-1.0/pyproject.toml", b"build-system = 1")], "not a table"),
        (
            [("lib-1.0/PKG-INFO", INFO.encode()), ("lib-1.0/pyproject.toml", b"[build-system]\nrequires = 'x'")],
            "malformed",
        ),
    ],
)
def test_hostile_tars_are_refused(members: list[tuple[str, bytes | None]], says: str) -> None:
    """Doubled, linked, escaping and unreadable metadata is refused by name."""
    with pytest.raises(metadata.BadArchive, match=says):
        metadata.read("lib-1.0.tar.gz", tar(*members))


@pytest.mark.parametrize("file", ["lib-1.0.tar.gz", "lib-1.0.zip", "lib-1.0.tar.xz", "lib-1.0-py3-none-any.whl"])
def test_damaged_archives_are_refused(file: str, make_sdist: Any, make_wheel: Any) -> None:
    """A truncated archive and plain rubbish are errors of one line in every format."""
    suffix = file[len("lib-1.0") :]
    _, whole = make_wheel("lib", "1.0") if file.endswith(".whl") else make_sdist("lib", "1.0", suffix=suffix)
    for data in (whole[: len(whole) // 2], b"rubbish", b""):
        with pytest.raises(metadata.BadArchive):
            metadata.read(file, data)


def test_bomb_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to more than the cap is given up on while reading."""
    monkeypatch.setattr(metadata, "MAX_UNPACKED_BYTES", 1 << 20)
    bomb = tar(("lib-1.0/zeros", bytes(2 << 20)), ("lib-1.0/PKG-INFO", INFO.encode()))
    assert len(bomb) < 1 << 16
    with pytest.raises(metadata.BadArchive, match="unpacks to more than"):
        metadata.read("lib-1.0.tar.gz", bomb)


def test_huge_metadata_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metadata file beyond its own cap is refused."""
    monkeypatch.setattr(metadata, "MAX_METADATA_BYTES", 100)
    with pytest.raises(metadata.BadArchive, match="larger than 100 bytes"):
        metadata.read("lib-1.0.tar.gz", tar(("lib-1.0/PKG-INFO", INFO.encode() + b"x" * 200)))


def test_legacy_sdist_gets_the_default_backend() -> None:
    """Without pyproject.toml the build environment is PEP 517's default, and requirements are unknown."""
    found = metadata.read(
        "lib-1.0.tar.gz", tar(("lib-1.0/PKG-INFO", b"Metadata-Version: 1.2\nName: lib\nVersion: 1.0"))
    )
    assert found.requires is None
    assert found.build is not None
    assert found.build.requires == ("setuptools>=40.8.0",)
    assert found.build.backend == "setuptools.build_meta:__legacy__"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("lib-1.0.tgz", "rename it to .tar.gz"),
        ("lib.tar.gz", "not the file name"),
        ("lib-1.0-py3.whl", "not the file name"),
        ("lib-1.0.exe", "not the file name"),
    ],
)
def test_odd_file_names_are_refused(file: str, says: str) -> None:
    """Names that pip would not find, or that state no version, are refused with what to do."""
    with pytest.raises(metadata.BadArchive, match=says):
        metadata.named(file)
