"""Answers about a closure in words: licences, newer versions, advisories, what a new lock changed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.report.text import LINE_LIMIT, escape, size

if TYPE_CHECKING:
    from deploy.closure import Audit, Change, Finding, Held, Holding, Licence, Standing

LICENCE_COLUMNS = ("PACKAGE", "VERSION", "LICENCE", "FOR", "KIND")
OUTDATED_COLUMNS = ("PACKAGE", "LOCKED", "WITHIN BOUNDS", "NEWEST")


def licence_rows(found: Sequence[Licence]) -> list[tuple[str, ...]]:
    """One row per package."""
    return [(one.name, one.version, escape(one.licence), one.used, one.kind) for one in found]


def licence_remarks(found: Sequence[Licence]) -> list[str]:
    """How many packages state no licence."""
    silent = sum(one.licence == "unknown" for one in found)
    return [f"{len(found)} packages; their own metadata states no licence: {silent}"]


def outdated_rows(found: Sequence[Standing]) -> list[tuple[str, ...]]:
    """One row per package; a cell is empty where nothing newer is there."""
    return [
        (one.name, one.locked, one.within if one.within != one.locked else "", one.newest if one.behind else "")
        for one in found
    ]


def outdated_remarks(found: Sequence[Standing]) -> list[str]:
    """How many are behind, and what would move them."""
    behind = sum(one.behind for one in found)
    movable = sum(one.within != one.locked for one in found)
    told = [f"{behind} of {len(found)} run-time packages have newer versions, {movable} of them within bounds"]
    return [*told, "next: fab vendor.upgrade, or fab vendor.upgrade NAME"] if movable else told


def audit_lines(audit: Audit, requirements: str) -> list[str]:
    """One line per finding and one that says who needs the package; then what was not judged, and what to do."""
    told = [line for finding in audit.findings for line in _finding(finding)]
    if audit.unknown:
        told.append(f"note: not known there, so not judged: {escape(', '.join(audit.unknown))}")
    if audit.outdated:
        told.append(
            f"note: accepted in requirements/{requirements}.in, and not found: {escape(', '.join(audit.outdated))}"
        )
    accepted = len(audit.findings) - len(audit.open)
    told.append(f"pins: {audit.pins}; advisories about them: {len(audit.open)}, and accepted ones: {accepted}")
    if audit.open:
        told.append(f"next: {_way_out(audit.open, requirements)}")
    return told


def change_line(change: Change) -> str:
    """``django 5.1 -> 5.2: 10.4 MB -> 10.6 MB; licence: MIT -> BSD-3-Clause``."""
    before, after = change.before, change.after
    versions = f"{change.name} {_version(before, '(new)')} -> {_version(after, '(gone)')}"
    if before is None or after is None:
        only = before or after
        return versions + (f": {size(only.size)}, licence: {escape(only.licence)}" if only else "")
    told = f"{versions}: {size(before.size)} -> {size(after.size)}"
    if before.licence == after.licence:
        return told
    return f"{told}; licence: {escape(before.licence)} -> {escape(after.licence)}"


def vendor_line(before: Holding, after: Holding) -> str:
    """``vendor/: 23.1 MB -> 23.4 MB``."""
    return f"vendor/: {size(before.vendor_bytes)} -> {size(after.vendor_bytes)}"


def _version(held: Held | None, otherwise: str) -> str:
    return held.version if held else otherwise


def _finding(finding: Finding) -> list[str]:
    about = finding.advisory
    first, *others = about.ids
    aliases = f" ({', '.join(others)})" if others else ""
    fixed = f"fixed in {', '.join(about.fixed)}" if about.fixed else "no fixed version is known"
    accepted = f"accepted ({finding.accepted}): " if finding.accepted else ""
    line = f"{about.name} {about.version}: {accepted}{first}{aliases}: {fixed}: {about.summary or 'no summary'}"
    chain = finding.chain or "nothing that requirements/ asks for"
    return [escape(line, LINE_LIMIT), f"  needed by {escape(chain)}"]


def _way_out(found: Sequence[Finding], requirements: str) -> str:
    """Name the command that may bring fixed versions, and the line that accepts."""
    built = [one for one in found if "[build]" in one.chain or one.chain.startswith("toolchain")]
    names = list(dict.fromkeys(one.advisory.name for one in found))
    upgrade = "fab vendor.upgrade" if built or len(names) > 1 else f"fab vendor.upgrade {names[0]}"
    example = f"# audit: {escape(found[0].advisory.ids[0])} WHY"
    return f"{upgrade}; or accept one by a line in requirements/{requirements}.in: {example}"
