"""The answers of ``status`` and ``releases`` as rows of text. Pure: drawing them is ``deploy.report``'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from deploy.fleet.holders import freeze_in_words, lock_in_words
from deploy.report.text import COMMAND_LIMIT, escape, lines, moment

STATUS_COLUMNS = ("HOST", "LIVE", "PROOF", "PREVIOUS", "BY", "WHEN", "SEAL")
RELEASES_COLUMNS = ("HOST", "", "TAG", "RELEASE", "STATE", "BAD", "PIN", "COMMIT", "BY", "WHEN")
SANDBOX_COLUMNS = ("HOST", "SSH", "LIVE", "URL", "ROOT")
MARK = "->"
"""Stands before the live release."""


def host_names(answer: Mapping[str, Any]) -> list[str]:
    """The hosts an answer is about."""
    return [str(host.get("host")) for host in _hosts(answer)]


def status_rows(answer: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per host, in the order of the fleet."""
    return [_status_row(host) for host in _hosts(answer)]


def releases_rows(answer: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per host and release, newest first by the journal's sequence number: never by name or clock."""
    rows: list[tuple[str, ...]] = []
    for host in _hosts(answer):
        known = cast("Sequence[Mapping[str, Any]]", host.get("releases") or [])
        live = _release(host.get("current"))
        name = _text(host.get("host"))
        if not host.get("reachable", True):
            rows.append((name, "", "unreachable", *[""] * 7))
        elif not known:
            rows.append((name, "", "none", *[""] * 7))
        for release in sorted(known, key=lambda one: int(one.get("seq") or 0), reverse=True):
            rows.append(
                (
                    name,
                    MARK if _release(release) == live and live else "",
                    _text(release.get("tag")),
                    _release(release),
                    _text(release.get("state")),
                    "bad" if release.get("bad") else "",
                    _pinned_by(release.get("pinned")),
                    _text(release.get("commit"))[:10],
                    _text(release.get("by")),
                    moment(release.get("deployed_at")),
                )
            )
    return rows


def sandbox_rows(hosts: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row per sandbox host; a host that was just brought up serves SSH."""
    return [
        (
            _text(host.get("name")),
            f"{_text(host.get('address'))}:{_text(host.get('port'))}" if host.get("ssh", True) else "down",
            _text(host.get("live")) or "nothing",
            _text(host.get("url")),
            escape(str(host.get("root", ""))),
        )
        for host in hosts
    ]


def freezes(answer: Mapping[str, Any]) -> list[str]:
    """Which hosts are frozen, by whom and why, and how that ends: what stands above everything else."""
    by_freeze: dict[str, list[str]] = {}
    for host in _hosts(answer):
        if host.get("freeze"):
            by_freeze.setdefault(escape(freeze_in_words(host["freeze"])), []).append(_text(host.get("host")))
    told = [f"{', '.join(names)}: {words}" for words, names in by_freeze.items()]
    stage = f" --stage {_text(answer.get('stage'))}" if answer.get("stage") else ""
    return told + [f"next: fab thaw{stage}  # ends the freeze"] * bool(told)


def remarks(answer: Mapping[str, Any]) -> list[str]:
    """What a person should look at: unreachable hosts, locks held, recovery that is due, notes; a line each."""
    told: list[str] = []
    for host in _hosts(answer):
        name = _text(host.get("host"))
        word = "error" if host.get("reachable", True) else "unreachable"
        if host.get("error") or word == "unreachable":
            told += [f"{name}: {word}: {line}" for line in lines(str(host.get("error") or "no reason given"))]
        if host.get("next_step"):
            told += [f"{name}: next: {line}" for line in lines(str(host["next_step"]), width=COMMAND_LIMIT)]
        if host.get("lock"):
            told.append(f"{name}: locked, {escape(lock_in_words(host['lock']))}")
        if host.get("lease"):
            told.append(f"{name}: {_lease(host['lease'])}")
        if host.get("pending"):
            told.append(f"{name}: pending: {_text(host['pending'])}")
        notes = cast("Sequence[object]", host.get("notes") or [])
        told += [f"{name}: note: {escape(str(note))}" for note in notes]
    return told + _differing(answer)


def _lease(lease: Mapping[str, Any]) -> str:
    words = f"{_text(lease.get('release'))} waits to be confirmed, for {int(lease.get('age_s') or 0)} s now"
    return f"lease: {words}; when {_text(lease.get('by'))} falls silent, the host settles by itself"


def _differing(answer: Mapping[str, Any]) -> list[str]:
    """Say it where reachable hosts are live on different releases, and nobody is at work."""
    reached = [host for host in _hosts(answer) if host.get("reachable", True)]
    live: dict[str, list[str]] = {}
    for host in reached:
        live.setdefault(_release(host.get("current")) or "nothing", []).append(_text(host.get("host")))
    if len(live) < 2 or any(host.get("lock") for host in reached):
        return []
    where = "; ".join(f"{release} on {', '.join(names)}" for release, names in sorted(live.items()))
    stage = f" --stage {_text(answer.get('stage'))}" if answer.get("stage") else ""
    return [f"the hosts differ: {where}", f"next: fab deploy:TAG{stage} makes them one, or fab rollback:TAG{stage}"]


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out in columns two blanks apart, as ``column -t`` would; no line ends in blanks."""
    table = [tuple(columns), *rows]
    widths = [max(len(row[at]) for row in table) for at in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _status_row(host: Mapping[str, Any]) -> tuple[str, ...]:
    name = _text(host.get("host"))
    if not host.get("reachable", True):
        return (name, "unreachable", *[""] * 5)
    current: Any = host.get("current")
    facts = _facts(host, current)
    return (
        name,
        _release(current) or "nothing",
        _text(host.get("live")) if current else "",
        _release(host.get("previous")),
        _text(facts.get("by")),
        moment(facts.get("deployed_at")),
        _text(facts.get("sealed")),
    )


def _facts(host: Mapping[str, Any], current: Any) -> Mapping[str, Any]:
    known = cast("Sequence[Mapping[str, Any]]", host.get("releases") or [])
    listed = [one for one in known if _release(one) == _release(current)]
    own = cast("dict[str, Any]", current) if isinstance(current, dict) else {}
    return {**(listed[0] if listed else {}), **own}


def _release(value: object) -> str:
    """The release id, from a release's facts or from the bare id."""
    if isinstance(value, Mapping):
        value = cast("Mapping[str, Any]", value).get("release")
    return _text(value)


def _pinned_by(pinned: object) -> str:
    return _text(cast("Mapping[str, Any]", pinned).get("by")) or "pinned" if isinstance(pinned, Mapping) else ""


def _hosts(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return cast("Sequence[Mapping[str, Any]]", answer.get("hosts") or [])


def _text(value: object) -> str:
    return "" if value is None else escape(str(value), 120)
