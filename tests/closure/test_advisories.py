"""Exported advisories against pinned versions: the rules of the OSV schema, and files that are no export."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy.closure.advisories import BadExport, match, read


def record(name: str = "lib", *, known_as: str = "PYSEC-2024-1", **more: Any) -> dict[str, Any]:
    """One OSV record about one package; ``events`` or ``versions`` say which versions of it."""
    affected: dict[str, Any] = {"package": {"name": name, "ecosystem": more.pop("ecosystem", "PyPI")}}
    if "events" in more:
        affected["ranges"] = [{"type": more.pop("type", "ECOSYSTEM"), "events": more.pop("events")}]
    if "versions" in more:
        affected["versions"] = more.pop("versions")
    return {"id": known_as, "modified": "2024-05-01T00:00:00Z", "summary": "A flaw", "affected": [affected], **more}


def export(folder: Path, *records: Any) -> Path:
    """A file with these records."""
    path = folder / "advisories.json"
    path.write_text(json.dumps(list(records)))
    return path


def ids(path: Path, version: str, name: str = "lib") -> list[str]:
    """The first id of every advisory that speaks of one version."""
    return [one.ids[0] for one in match(read(path), [(name, version)])]


SINCE, FIXED, LAST = {"introduced": "1.2"}, {"fixed": "2.0"}, {"last_affected": "1.9"}
ALWAYS = {"introduced": "0"}


@pytest.mark.parametrize(
    ("events", "affected", "safe"),
    [
        ([SINCE, FIXED], ["1.2", "1.2.0", "1.10", "2.0rc1"], ["1.1", "1.2rc1", "2.0", "2.0.post1", "2.1"]),
        ([FIXED, SINCE], ["1.2", "1.10"], ["1.1", "2.0"]),
        ([SINCE, LAST], ["1.2", "1.9", "1.9.0"], ["1.9.1", "1.10"]),
        ([ALWAYS, FIXED], ["0.dev0", "0.1", "1.9"], ["2.0"]),
        ([ALWAYS], ["0.1", "99"], []),
        ([ALWAYS, {"fixed": "1.0"}, SINCE, FIXED], ["0.9", "1.5"], ["1.0", "1.1", "2.0"]),
        ([ALWAYS, {"limit": "1.5"}], ["1.0"], ["1.5", "2.0"]),
        ([{"introduced": "1.2"}, {"last_affected": "1.2"}], ["1.2"], ["1.1", "1.2.1", "1.3"]),
    ],
)
def test_ranges_hold_as_the_schema_says(
    tmp_path: Path, events: list[dict[str, str]], affected: list[str], safe: list[str]
) -> None:
    """In the order of versions (PEP 440), not of the file."""
    path = export(tmp_path, record(events=events))
    assert [version for version in (*affected, *safe) if ids(path, version)] == affected


def test_listed_versions_count_beside_ranges(tmp_path: Path) -> None:
    """Under any spelling; one that PEP 440 cannot read is no pin's."""
    path = export(tmp_path, record(events=[SINCE, FIXED], versions=["0.5.0", "0.6-final-2"]))
    assert [version for version in ("0.5", "0.6", "1.5") if ids(path, version)] == ["0.5", "1.5"]


def test_withdrawn_and_foreign_ones_have_no_say(tmp_path: Path) -> None:
    """Nor a range of commits, nor a package of another name; the name is compared as PyPI does."""
    path = export(
        tmp_path,
        record(known_as="A-1", events=[ALWAYS], withdrawn="2024-06-01T00:00:00Z"),
        record(known_as="A-2", events=[ALWAYS], ecosystem="npm"),
        record(known_as="A-3", events=[ALWAYS], type="GIT"),
        record("library", known_as="A-4", events=[ALWAYS]),
        record("My.Lib", known_as="A-5", events=[ALWAYS]),
    )
    assert ids(path, "1.0") == []
    assert ids(path, "1.0", "my-lib") == ["A-5"]


def test_aliases_are_one_finding(tmp_path: Path) -> None:
    """However many records tell of it, also where only a third one joins two; fixed versions are those still ahead."""
    path = export(
        tmp_path,
        record(known_as="GHSA-1", summary="By GitHub", events=[ALWAYS, FIXED]),
        record(known_as="PYSEC-2024-7", summary="By PyPA", events=[ALWAYS, {"fixed": "1.1"}, SINCE, {"fixed": "1.9"}]),
        record(known_as="CVE-2024-7", aliases=["GHSA-1", "PYSEC-2024-7"], events=[ALWAYS]),
        record(known_as="CVE-2024-8", summary="", details="First line.\nMore.", events=[ALWAYS]),
    )
    one, other = match(read(path), [("lib", "1.5")])
    assert (other.ids, other.fixed, other.summary) == (
        ("PYSEC-2024-7", "CVE-2024-7", "GHSA-1"),
        ("1.9", "2.0"),
        "By PyPA",
    )
    assert (one.ids, one.fixed, one.summary) == (("CVE-2024-8",), (), "First line.")


def test_versions_that_cannot_be_compared_are_a_finding(tmp_path: Path) -> None:
    """Somebody must look: what nobody could judge is not fine."""
    path = export(tmp_path, record(events=[{"introduced": "r12"}]))
    (one,) = match(read(path), [("lib", "1.0")])
    assert "cannot be judged" in one.summary


def test_an_export_is_a_zip_of_records_too(tmp_path: Path) -> None:
    """As OSV publishes one for each ecosystem; it says how new it is."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("PYSEC-2024-1.json", json.dumps(record(events=[SINCE, FIXED])))
        packed.writestr(
            "PYSEC-2024-2.json", json.dumps(record(known_as="PYSEC-2024-2", modified="2025-01-01T00:00:00Z"))
        )
        packed.writestr("README.txt", "no record")
    found = read(path)
    assert (found.count, found.newest) == (2, "2025-01-01T00:00:00Z")
    assert ids(path, "1.5") == ["PYSEC-2024-1"]


def test_one_record_and_the_answer_of_a_service_are_read(tmp_path: Path) -> None:
    """Saved by hand."""
    path = tmp_path / "one.json"
    for value in (record(events=[ALWAYS]), {"vulns": [record(events=[ALWAYS])]}):
        path.write_text(json.dumps(value))
        assert ids(path, "1.0") == ["PYSEC-2024-1"]


@pytest.mark.parametrize(
    "content",
    [b"", b"not json", b"[]", b"{}", b"3", b"[3]", b'{"vulns": 3}',
     b'[{"affected": [{"package": {"ecosystem": "PyPI"}}]}]',
     b'[{"affected": [{"package": {"ecosystem": "PyPI", "name": "lib"}}]}]', b"PK\x03\x04 no zip",
     json.dumps([record(ecosystem="npm")]).encode()],
)  # fmt: skip
def test_what_is_no_export_finds_nothing_by_mistake(tmp_path: Path, content: bytes) -> None:
    """An empty list, another ecosystem's records and rubbish are errors: a green audit must mean something."""
    path = tmp_path / "advisories.json"
    path.write_bytes(content)
    with pytest.raises(BadExport, match=r"advisories\.json"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(BadExport, match="nowhere"):
        read(tmp_path / "nowhere.json")
