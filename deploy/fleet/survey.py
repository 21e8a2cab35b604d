"""``status``, ``releases`` and ``log``: every host's answer, or why it gave none, as one document. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

from deploy.errors import ExitCode
from deploy.fleet.fanout import Results
from deploy.fleet.host import Host
from deploy.fleet.outcomes import HostOutcome
from deploy.fleet.run import FleetRun

FORMAT = 1
T = TypeVar("T")


def survey(run: FleetRun, *, probe: bool) -> dict[str, Any]:
    """Ask every host of the run. ``exit_code`` is 0 where all answered and nothing wrong was found, else 1 or 4."""

    def ask(host: Host) -> dict[str, Any]:
        return host.probe() if probe and host.current else {}

    results = _asked(run, ask)
    rows = [_row(host, results.given.get(host.name, {}), results.failed.get(host.name)) for host in run.phases.hosts]
    return {"format": FORMAT, "stage": run.stage.name, "exit_code": int(_exit_code(rows)), "hosts": rows}


def journals(run: FleetRun, number: int) -> dict[str, Any]:
    """The last ``number`` records of each host's journal, oldest first; ``exit_code`` is 4 where one did not answer."""
    results = _asked(run, lambda host: host.log(number))
    rows: list[dict[str, Any]] = []
    for host in run.phases.hosts:
        records = [
            {**record, "at": _iso(record.get("at")), **({"until": _iso(record["until"])} if "until" in record else {})}
            for record in results.given.get(host.name, [])
        ]
        rows.append({**_heard(host, results.failed.get(host.name)), "records": records})
    code = ExitCode.MIXED if results.failed else ExitCode.OK
    return {"format": FORMAT, "stage": run.stage.name, "exit_code": int(code), "hosts": rows}


def _asked(run: FleetRun, what: Callable[[Host], T]) -> Results[T]:
    try:
        return run.ask(what)
    finally:
        run.phases.close()


def _heard(host: Host, failed: HostOutcome | None) -> dict[str, Any]:
    """Whether a host answered, and why not."""
    return {
        "host": host.name,
        "reachable": bool(host.facts),
        "error": f"{failed.step}: {failed.cause}" if failed else None,
        "next_step": failed.next_step if failed else None,
    }


def _iso(at: Any) -> str | None:
    """ISO 8601, UTC; None for what is no moment, as of a clock that was far off."""
    try:
        return datetime.fromtimestamp(float(at), tz=timezone.utc).isoformat(timespec="seconds") if at else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _row(host: Host, probe: Mapping[str, Any], failed: HostOutcome | None) -> dict[str, Any]:
    facts: Mapping[str, Any] = host.facts
    releases = [_release(row) for row in facts.get("releases", [])]
    by_id = {row["release"]: row for row in releases}
    return {
        **_heard(host, failed),
        "current": by_id.get(facts.get("current")),
        "previous": by_id.get(facts.get("previous")),
        "releases": releases,
        "lock": facts.get("lock"),
        "freeze": _freeze(facts.get("freeze")),
        "lease": _lease(facts),
        "pending": host.pending or None,
        "well": probe.get("well"),
        "live": probe.get("live"),
        "notes": list(facts.get("problems") or []),
    }


def _lease(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """A switch that waits for its run to confirm it; ``age_s`` by the host's clock. None where no run is at work."""
    lease = facts.get("lease")
    if not lease or not facts.get("lock"):
        return None
    age_s = round(max(0.0, facts["clock"] - lease["at"]), 1)
    return {"release": lease["release"], "run": lease["run"], "by": lease["by"], "age_s": age_s}


def _release(row: Mapping[str, Any]) -> dict[str, Any]:
    pinned = row.get("pinned")
    return {
        "release": row["release"],
        "tag": row["tag"],
        "commit": row["commit"],
        "state": row["state"],
        "bad": row["bad"],
        "seq": row["seq"],
        "pinned": {"by": pinned["by"], "since": _iso(pinned["at"])} if pinned else None,
        "deployed_at": _iso(row["live_at"] or row["staged_at"]),
        "by": row["by"],
        "sealed": row["sealed"],
    }


def _freeze(freeze: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {**freeze, "since": _iso(freeze.get("since")), "until": _iso(freeze.get("until"))} if freeze else None


def _exit_code(rows: list[dict[str, Any]]) -> ExitCode:
    """Unreachable or unsettled hosts are for a person to look at, and hosts that differ while nobody is at work."""
    live = {row["current"]["release"] if row["current"] else None for row in rows}
    differ = len(live) > 1 and not any(row["lock"] for row in rows)
    if any(not row["reachable"] or row["pending"] for row in rows) or differ:
        return ExitCode.MIXED
    unwell = any(row["error"] or row["notes"] or (row["well"] is False and row["current"]) for row in rows)
    return ExitCode.FAILED if unwell else ExitCode.OK
