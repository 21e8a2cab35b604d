"""What must be true of a tag and a host before anything is changed; each finding with its fix. Changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from deploy.closure import HostNeed
from deploy.fleet.holders import freeze_in_words
from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import HostOutcome, Outcome
from deploy.settings.section import did_you_mean
from deploy.wire import names
from deploy.wire.manifest import Manifest
from deploy.wire.names import Sha256, parse_release_id

_PACKAGES = ("sealed-deploy", "fabric", "invoke", "paramiko", "virtualenv", "pip")


def target_for(host: Host, manifest: Manifest, *, restage: bool) -> int:
    """Which of the manifest's targets serves this host. Raises HostFailed: none does, or the tag is there already."""
    _same_tag(host, manifest, restage=restage)
    python = ".".join(str(host.facts["python"]).split(".")[:2])
    platform = host.facts["platform"]
    for number, target in enumerate(manifest.targets):
        if target.python == python and target.platform in ("any", platform):
            return number
    locked = ", ".join(target.name for target in manifest.targets)
    cause = f"the host runs Python {python} on {platform}; the closure is locked for {locked}"
    next_step = f"install the locked Python there, or set `python:` of the host, or lock for {python}: fab vendor.lock"
    raise _failed_at(host, "preflight", cause, next_step)


def offered(host: Host, manifest: Manifest, target: int, host_needs: Sequence[HostNeed]) -> list[Sha256]:
    """The digests the host lacks. Raises HostFailed with everything that stands in the way there."""
    answer = host.offer(manifest, target, [need.to_json() for need in host_needs if need.users])
    if answer["problems"]:
        raise _failed_at(
            host, "preflight", "; ".join(answer["problems"]), "mend it on the host, then run the same command again"
        )
    needed: list[Sha256] = answer["need"]
    if not set(needed) <= set(manifest.sizes):
        raise _failed_at(host, "preflight", "it asks for files that the release does not have", "look at the host")
    return needed


def staying(hosts: Sequence[Host]) -> set[str]:
    """Hosts that a bare rollback leaves where they are: a run that is to be undone did not get to them.

    A run that made some hosts live and not others was cut off, or left some behind. After a deploy those that it did
    not get to stay: they are on what the others go back to. After a rollback those that it got to stay: it is finished.
    """
    made = {host.name: _made(host) for host in hosts}
    live = {run["run"]: str(run["verb"]) for run in made.values() if run}
    found: set[str] = set()
    for host in hosts:
        for run in _not_made(host):
            if run["run"] not in live:
                continue
            if live[run["run"]] == "rollback":
                found |= {name for name, own in made.items() if own and own["run"] == run["run"]}
            else:
                found.add(host.name)
            break
    return found


def refuse_unclear(host: Host) -> None:
    """Raise HostFailed where hosts that are not asked may be live on a run that did not get to this one."""
    for run in _not_made(host)[:1]:
        cause = f"{run['verb']} by {run['by']} did not become live here, and hosts that are not asked now may have it"
        raise _failed_at(host, "choose", cause, f"fab rollback:TAG {host.run.where}  # names where to go")


def _made(host: Host) -> Mapping[str, Any]:
    """The run that made the present release live, as far as the host tells."""
    return next((run for run in _runs(host) if run["outcome"] == "live"), dict[str, Any]())


def _not_made(host: Host) -> list[Mapping[str, Any]]:
    """The runs since then, newest first."""
    return [run for run in _runs(host) if run["outcome"] != "live"]


def _runs(host: Host) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = host.facts.get("runs") or []
    return found


def rollback_target(host: Host, tag: str | None, elsewhere: str | None = None) -> str:
    """Which release of this host a rollback goes to, whole or not. Raises HostFailed with the candidates.

    ``elsewhere`` is the release of that tag that other hosts of the run have.
    """
    gone: list[Mapping[str, Any]] = host.facts.get("gone", [])
    complete = [row for row in host.facts["releases"] if row["state"] != "BROKEN"]
    candidates: list[str] = host.facts["rollback_candidates"]
    if tag is None:
        wanted = [row["release"] for row in gone if row["wanted"]]
        if wanted or candidates:
            return [*wanted, *candidates][0]
        marked = {True: " (bad: rolled away from, or returned)", False: ""}
        there = ", ".join(row["release"] + marked[bool(row["bad"])] for row in complete) or "none"
        cause = f"no good release was live before {host.current or 'now'}; releases here: {there}"
        raise _failed_at(host, "choose", cause, f"fab rollback:TAG {host.run.where}  # names one of them")
    of_tag = [row for row in complete if row["tag"] == tag]
    lived = [row for row in of_tag if row["state"] != "STAGED" or row.get("lived") or row["release"] == elsewhere]
    if lived:
        best = max(lived, key=lambda row: (not row["bad"], row["live_seq"], row["seq"]))
        release: str = best["release"]
        return release
    if of_tag:
        cause = f"{of_tag[0]['release']} was staged here and never live: what a deploy runs before it did not run"
        raise _failed_at(host, "choose", cause, f"fab deploy:{tag} {host.run.where}")
    known = [row["release"] for row in gone if row["tag"] == tag] + ([elsewhere] if elsewhere else [])
    if known:
        return str(known[0])
    there = ", ".join(sorted({row["tag"] for row in complete})) or "none"
    meant = did_you_mean(tag, [row["tag"] for row in complete])
    next_step = (
        f"fab rollback:TAG {host.run.where} with one of them; or, if git has it: fab deploy:{tag} {host.run.where}"
    )
    raise _failed_at(host, "choose", f"{tag} is not on this host{meant}; here are: {there}", next_step)


def releases_of(host: Host, tag: str) -> list[str]:
    """The complete releases of a tag on this host. Raises HostFailed where there is none, with what is there."""
    complete = [row for row in host.facts["releases"] if row["state"] != "BROKEN"]
    found = [row["release"] for row in complete if row["tag"] == tag]
    if not found:
        there = ", ".join(sorted({row["tag"] for row in complete})) or "none"
        meant = did_you_mean(tag, [row["tag"] for row in complete])
        others = f"fab {host.run.verb}:{tag} --stage {host.run.stage} --hosts HOSTS  # those that have it"
        raise _failed_at(host, "choose", f"{tag} is not on this host{meant}; here are: {there}", others)
    return found


def verified(host: Host, tag: str | None) -> HostOutcome:
    """Hash the live release, or those of ``tag``, again."""
    rows = [row for row in host.facts["releases"] if (row["tag"] == tag if tag else row["release"] == host.current)]
    if not rows:
        cause = f"{tag} is not on this host" if tag else "nothing is live"
        return HostOutcome(host.name, Outcome.FAILED, "", "verify", cause, "fab releases")
    found = host.verify([row["release"] for row in rows])
    wrong = [f"{release}: {line}" for release, lines in found.items() for line in lines]
    if wrong:
        again = f"fab deploy:{names.tag_of(parse_release_id(next(iter(found))))} {host.run.where}  # stages it anew"
        if found.get(host.current or ""):
            again = f"fab rollback {host.run.where}  # nothing is taken from under a running service; then\n{again}"
        return HostOutcome(host.name, Outcome.FAILED, "not as it was staged", "verify", "; ".join(wrong), again)
    return HostOutcome(host.name, Outcome.ANSWERED, f"{', '.join(found)} as it was staged")


def outcome_of(host: Host) -> HostOutcome:
    """Whether a host could be deployed to, with the exact commands that mend what keeps it from it."""
    problems: list[str] = host.facts["problems"]
    if not problems:
        return HostOutcome(host.name, Outcome.ANSWERED, facts_line(host))
    next_step = f"mend what is listed on the host, then: fab check {host.run.where}"
    return HostOutcome(host.name, Outcome.FAILED, facts_line(host), "preflight", "; ".join(problems), next_step)


def facts_line(host: Host) -> str:
    """What a host says of itself, in one line."""
    facts = host.facts
    free = f", {facts['free_bytes'] >> 20} MB free" if "free_bytes" in facts else ""
    pending = f"; pending: {host.pending}" if host.pending else ""
    confined = "" if facts.get("landlock", 1) else ", no Landlock: builds may read and write what its user may"
    frozen = f"; {freeze_in_words(facts['freeze'])}" if facts.get("freeze") else ""
    return (
        f"python {facts['python']}, {facts['platform']}, user {facts['user']}{free}{confined}, "
        f"live: {facts['current'] or 'nothing'}{pending}{frozen}"
    )


def versions() -> str:
    """The control side's own versions, in one line."""
    found: list[str] = [f"python {sys.version.split()[0]}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def _same_tag(host: Host, manifest: Manifest, *, restage: bool) -> None:
    rows: list[Mapping[str, Any]] = host.facts["releases"]
    for row in rows:
        if row["tag"] != manifest.tag or row["state"] == "BROKEN":
            continue
        if row["commit"] and row["commit"] != manifest.commit:  # also of the same id, which has 8 digits of a digest
            was, now = row["commit"][:12], manifest.commit[:12]
            cause = f"{manifest.tag} was released here from commit {was}; it now names {now}"
            raise _failed_at(host, "preflight", cause, "never move a released tag: make a new one and deploy that")
        if row["release"] != manifest.release_id and not restage:
            cause = (
                f"{row['release']} of the same commit is here with another content (settings, archives or library "
                f"differ) than {manifest.release_id}"
            )
            raise _failed_at(host, "preflight", cause, f"fab deploy:{manifest.tag} {host.run.where} --restage")


def _failed_at(host: Host, step: str, cause: str, next_step: str) -> HostFailed:
    serves = f"still serves {host.current}" if host.current else "nothing live, as before"
    return HostFailed(HostOutcome(host.name, Outcome.FAILED, serves, step, cause, next_step))
