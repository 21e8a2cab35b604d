"""Audits a closure, run-time packages and build tools alike: which advisories speak of what is pinned.

A person may accept one in ``NAME.in``; it is shown on and no longer fails the audit::

    # audit: PYSEC-2024-1 the module it is in is never imported
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import Refused

from . import advisories, advisory_service, lockfile, proof
from .advisories import Advisory
from .source import Source

_ACCEPTED = re.compile(r"\s*#\s*audit:\s*(?P<rest>.*)$")
_WORDS = re.compile(r"(?P<id>\S+)\s+(?P<reason>\S.*)$")
_NOTHING = "Nothing was audited."


@dataclass(frozen=True)
class Finding:
    """One advisory, the shortest chain to who needs the package, and why it was accepted ('' where it was not)."""

    advisory: Advisory
    chain: str
    accepted: str


@dataclass(frozen=True)
class Audit:
    """What an audit found. ``asked`` says whose advisories; ``pins`` counts versions.

    ``unknown`` are pins that the service knows nothing of; ``outdated`` ids accepted in NAME.in that met no finding.
    """

    asked: str
    pins: int
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    outdated: tuple[str, ...]

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that nobody accepted."""
        return tuple(finding for finding in self.findings if not finding.accepted)


def audit(
    source: Source,
    requirements: str,
    export: Path | None = None,
    service: str = "pypi",
    *,
    judged_in: Source | None = None,
) -> Audit:
    """Hold everything that ``requirements/NAME`` locks against the advisories of a service, or of an exported file.

    ``judged_in`` is a second tree whose ``NAME.in`` accepts too: what is known of a tag today was not when it was made.
    Raises Refused where there is no lock, or the file is no export in OSV format; Failed where the service is silent.
    """
    lock = proof.read(source, requirements)
    trees = [source] if judged_in is None else [source, judged_in]
    accepted = {name: why for tree in trees for name, why in _accepted(tree, lockfile.asked_path(requirements)).items()}
    pins = {(archive.name, archive.version) for archive in lock.archives.values()}
    if export is None:
        found, unknown = advisory_service.ask(pins, service)
        asked = f"service {service}"
    else:
        known = _read(export)
        found, unknown = advisories.match(known, pins), list[str]()
        asked = f"{export.name}, advisories: {known.count}" + (f", newest: {known.newest}" if known.newest else "")
    chains = _chains(source, requirements, {advisory.name for advisory in found})
    findings = tuple(
        Finding(
            advisory,
            chains.get((advisory.name, advisory.version), ""),
            next((accepted[name] for name in advisory.ids if name in accepted), ""),
        )
        for advisory in found
    )
    met = {name for advisory in found for name in advisory.ids}
    return Audit(asked, len(pins), findings, tuple(unknown), tuple(name for name in accepted if name not in met))


def _read(export: Path) -> advisories.Export:
    try:
        return advisories.read(export)
    except advisories.BadExport as error:
        step = "export OSV's advisories for PyPI (one zip, or a JSON list of records), and name that file"
        raise Refused(_NOTHING, str(error), step) from None


def _accepted(source: Source, path: str) -> dict[str, str]:
    """Read the ids that a person accepted, each with its reason. Raises Refused for one without."""
    try:
        text = source.read(path).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    accepted: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if comment := _ACCEPTED.match(line):
            words = _WORDS.match(comment["rest"])
            if words:
                accepted[words["id"]] = words["reason"].strip()
            else:
                problems.append(f"{path}:{number}: it reads '# audit: ID why this is acceptable'")
    if problems:
        raise Refused(_NOTHING, "an advisory is accepted without a reason", f"edit {path}", problems=problems)
    return accepted


def _chains(source: Source, requirements: str, names: Collection[str]) -> Mapping[tuple[str, str], str]:
    """Give the shortest chain to each version of some packages, one that is needed at run time before all others.

    What is locked though nothing asks for it has none: `check` says so, and no finding is hidden for that.
    """
    found: dict[tuple[str, str], str] = {}
    if not names:
        return found
    needed = proof.who_needs(source, requirements)
    for name in names:
        for line in sorted((line for lines in needed[name].values() for line in lines), key=_rank):
            found.setdefault((name, line.rpartition(": ")[2]), line)
    return found


def _rank(chain: str) -> tuple[bool, bool, int]:
    return "[build]" in chain, chain.startswith("toolchain"), chain.count(" -> ")
