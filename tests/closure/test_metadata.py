"""What archives say of themselves is read without running them; what cannot be read is an error of one line."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

import pytest

from deploy.closure import metadata

INFO = "Metadata-Version: 2.2\nName: lib\nVersion: 1.0\n"


def tar(*members: tuple[str, bytes]) -> bytes:
    """A .tar.gz with exactly these members; a name that ends in a slash makes a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("lib-1.0/setup.py", b"")], "neither PKG-INFO nor pyproject.toml"),
        ([("lib-1.0/", b"")], "neither PKG-INFO nor pyproject.toml"),
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
def test_unreadable_metadata_is_refused(members: list[tuple[str, bytes]], says: str) -> None:
    """Metadata that is absent, or that cannot be read, is an error of one line."""
    with pytest.raises(metadata.BadArchive, match=says):
        metadata.read("lib-1.0.tar.gz", tar(*members))


@pytest.mark.parametrize(
    ("name", "refused"), [("PKG-INFO", True), ("pyproject.toml", True), ("setup.py", False), ("README", False)]
)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_metadata_that_is_a_link_is_refused(name: str, kind: bytes, *, refused: bool) -> None:
    """What is read here and what an unpacker would see could be two files; setup.py only tells what it compiles."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for other in {"PKG-INFO", "pyproject.toml", "other"} - {name}:
            member = tarfile.TarInfo(f"lib-1.0/{other}")
            member.size = len(INFO) if other == "PKG-INFO" else 0
            archive.addfile(member, io.BytesIO(INFO.encode()))
        linked = tarfile.TarInfo(f"lib-1.0/{name}")
        linked.type, linked.linkname = kind, "lib-1.0/other" if kind == tarfile.LNKTYPE else "other"
        archive.addfile(linked)
    if refused:
        with pytest.raises(metadata.BadArchive, match=f"lib-1.0/{name} is not a plain file"):
            metadata.read("lib-1.0.tar.gz", packed.getvalue())
    else:
        assert metadata.read("lib-1.0.tar.gz", packed.getvalue()).name == "lib"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict.fromkeys(["lib-1.0.dist-info/RECORD"]), "holds no lib-1.0.dist-info/RECORD"),
        (dict.fromkeys(["lib-1.0.dist-info/WHEEL"]), "holds no lib-1.0.dist-info/WHEEL"),
        (dict.fromkeys(["lib-1.0.dist-info/METADATA"]), "holds no lib-1.0.dist-info/METADATA"),
        ({"other-1.0.dist-info/METADATA": INFO}, "holds 2 folders of metadata"),
        ({"lib-1.0.data/etc/passwd": ""}, "belongs to no place of a virtualenv"),
        ({"lib-1.0.data/file": ""}, "belongs to no place of a virtualenv"),
        ({"lib-1.0.data/scripts/lib": "", "lib-1.0.data/data/etc/lib.conf": ""}, ""),
    ],
)
def test_wheels_are_laid_out_as_the_standard_says(
    change: dict[str, str | None], says: str, make_wheel: Any, make_pack: Any
) -> None:
    """One .dist-info folder with METADATA, WHEEL and RECORD; *.data/ holds nothing but known places."""
    _, whole = make_wheel("lib", "1.0", files={"lib.py": ""})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        texts: dict[str, str | None] = {name: archive.read(name).decode() for name in archive.namelist()}
    texts.update(change)
    data = make_pack("x.whl", {name: text for name, text in texts.items() if text is not None})
    if not says:
        assert metadata.read("lib-1.0-py3-none-any.whl", data).name == "lib"
        return
    with pytest.raises(metadata.BadArchive, match=says):
        metadata.read("lib-1.0-py3-none-any.whl", data)


@pytest.mark.parametrize("file", ["lib-1.0.tar.gz", "lib-1.0.zip", "lib-1.0.tar.xz", "lib-1.0-py3-none-any.whl"])
def test_damaged_archives_are_refused(file: str, make_sdist: Any, make_wheel: Any) -> None:
    """A truncated archive and plain rubbish are errors of one line in every format."""
    suffix = file[len("lib-1.0") :]
    _, whole = make_wheel("lib", "1.0") if file.endswith(".whl") else make_sdist("lib", "1.0", suffix=suffix)
    for data in (whole[: len(whole) // 2], b"rubbish", b""):
        with pytest.raises(metadata.BadArchive):
            metadata.read(file, data)


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
