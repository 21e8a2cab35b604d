"""Reads an exported advisory file (OSV format) and matches it against pinned versions. Offline; judges no severity.

What is read: one JSON list of records (https://ossf.github.io/osv-schema/), one such record, the answer of an OSV
service (``{"vulns": [...]}``), or a zip of records, one a file, as OSV publishes one for each ecosystem. Records of
other ecosystems than PyPI and withdrawn ones have no say.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ECOSYSTEM = "PyPI"
_ENDS = ("introduced", "fixed", "last_affected")


class BadExport(ValueError):
    """The file is no export of advisories about PyPI's packages."""


@dataclass(frozen=True)
class Advisory:
    """One advisory that speaks of one pinned version. ``ids`` are all its names, the best known first."""

    name: str
    version: str
    ids: tuple[str, ...]
    fixed: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Export:
    """The records of a file by normalised package name; ``newest`` is when the last of them changed (RFC 3339)."""

    records: Mapping[str, Sequence[Mapping[str, Any]]]
    count: int
    newest: str


def read(path: Path) -> Export:
    """Read an export. Raises BadExport, also where it holds no record about PyPI at all: that would find nothing."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    ids, newest = set[str](), ""
    try:
        for record in _records(path):
            names = {canonicalize_name(one["package"]["name"]) for one in _affected(record)}
            for name in names:
                by_name.setdefault(name, []).append(record)
            if names:
                ids.add(str(record["id"]))
                newest = max(newest, str(record.get("modified", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, RuntimeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise BadExport(f"{path} cannot be read as advisories in OSV format: {why}") from error
    if not ids:
        raise BadExport(f"{path} holds no advisory about a package of {ECOSYSTEM}")
    return Export(by_name, len(ids), newest)


def match(export: Export, pins: Iterable[tuple[str, str]]) -> list[Advisory]:
    """Give every advisory that affects one of ``pins`` (normalised name, version), aliases merged."""
    found: list[Advisory] = []
    for name, version in sorted(set(pins)):
        for record in export.records.get(name, ()):
            advisory = None if record.get("withdrawn") else _judge(record, name, version)
            if advisory:
                found.append(advisory)
    return merged(found)


def merged(advisories: Iterable[Advisory]) -> list[Advisory]:
    """Make one of those about one pin that share an id: one flaw has a PYSEC, a CVE and a GHSA name."""
    found: list[Advisory] = []
    for advisory in advisories:
        same = [
            one
            for one in found
            if (one.name, one.version) == (advisory.name, advisory.version) and set(one.ids) & set(advisory.ids)
        ]
        found = [one for one in found if one not in same]
        every = sorted([*same, advisory], key=lambda one: _by_renown(one.ids[0]))
        ids = sorted({name for one in every for name in one.ids}, key=_by_renown)
        fixed = sorted({version for one in every for version in one.fixed}, key=Version)
        summary = next((one.summary for one in every if one.summary), "")
        found.append(Advisory(advisory.name, advisory.version, tuple(ids), tuple(fixed), summary))
    return sorted(found, key=lambda one: (one.name, Version(one.version), one.ids))


def describe(name: str, version: str, ids: Iterable[str], fixed: Iterable[str], text: str) -> Advisory:
    """Describe one: of the fixed versions those that are newer than the pin, of the text its first line."""
    pinned = Version(version)
    newer = sorted({fix for fix in map(Version, fixed) if fix > pinned})
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    known = tuple(sorted(set(ids), key=_by_renown))
    return Advisory(name, version, known, tuple(map(str, newer)), lines[0] if lines else "")


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist():
                if member.filename.endswith(".json"):
                    yield json.loads(packed.read(member))
        return
    value: Any = json.loads(path.read_bytes())
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value)
        value = value.get("vulns", [value])
    if not isinstance(value, list):
        raise TypeError("neither a list of records nor one record")
    yield from cast("list[Mapping[str, Any]]", value)


def _affected(record: Mapping[str, Any], name: str | None = None) -> list[Mapping[str, Any]]:
    """What a record says of packages of PyPI, or of one of them."""
    listed: Sequence[Mapping[str, Any]] = record.get("affected") or ()
    ours = [one for one in listed if one.get("package", {}).get("ecosystem") == ECOSYSTEM]
    return [one for one in ours if name is None or canonicalize_name(one["package"]["name"]) == name]


def _judge(record: Mapping[str, Any], name: str, version: str) -> Advisory | None:
    """Give the advisory where it affects the version, or where its versions cannot be compared: somebody must look."""
    ids = (str(record["id"]), *map(str, record.get("aliases") or ()))
    text = str(record.get("summary") or record.get("details") or "")
    entries = _affected(record, name)
    try:
        hit = any(_covers(entry, Version(version)) for entry in entries)
        fixed = [
            event["fixed"] for entry in entries for one in _ranges(entry) for event in one["events"] if "fixed" in event
        ]
        return describe(name, version, ids, fixed, text) if hit else None
    except (InvalidVersion, AttributeError, KeyError, TypeError) as error:
        return describe(name, version, ids, (), f"(cannot be judged: {error}) {text}")


def _covers(entry: Mapping[str, Any], version: Version) -> bool:
    return version in _listed(entry) or any(_in_range(version, one["events"]) for one in _ranges(entry))


def _ranges(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in entry.get("ranges") or () if one.get("type") == "ECOSYSTEM"]


def _listed(entry: Mapping[str, Any]) -> Iterator[Version]:
    """The versions that a record lists one by one; old ones that PEP 440 cannot read are no version of a pin."""
    for text in entry.get("versions") or ():
        try:
            yield Version(text)
        except InvalidVersion:
            continue


def _in_range(version: Version, events: Sequence[Mapping[str, str]]) -> bool:
    """Evaluate the events of one range as the OSV schema does, in the order of their versions."""
    limits = [event["limit"] for event in events if event.get("limit", "*") != "*"]
    if limits and not any(version < Version(limit) for limit in limits):
        return False
    ends = [(_bound(event[word]), word) for event in events for word in _ENDS if word in event]
    affected = False
    for at, word in sorted(ends, key=lambda end: (end[0], _ENDS.index(end[1]))):
        if word == "introduced" and version >= at:
            affected = True
        elif (word == "fixed" and version >= at) or (word == "last_affected" and version > at):
            affected = False
    return affected


def _bound(text: str) -> Version:
    """A version of an event; ``0`` is before all others, pre-releases and dev releases of 0 too."""
    return Version("0.dev0") if text == "0" else Version(text)


def _by_renown(name: str) -> tuple[int, str]:
    """PYSEC before CVE before all others, as pip-audit does."""
    kinds = ("PYSEC-", "CVE-")
    return next((rank for rank, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name
