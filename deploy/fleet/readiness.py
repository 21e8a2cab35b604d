"""Every host's target of a rollback, ready before any host moves: as it is, or staged again from its tag, or refused.

The repository is touched only where a host lacks its target or has it no longer whole. All that is wrong on all hosts
is told at once, with the tags that every host has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from deploy.bundle.contents import Bundle
from deploy.errors import DeployError
from deploy.events import Emit, Notice
from deploy.fleet import preflight
from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import HostOutcome, Outcome
from deploy.fleet.phases import Phases
from deploy.fleet.staging import stage_alone
from deploy.wire import names

Pack = Callable[[str], AbstractContextManager[Bundle]]
"""Makes the bundle of a tag from the repository. Raises DeployError where there is none, or no such tag."""


def targets(phases: Phases, tag: str | None, staying: Collection[str]) -> dict[str, str]:
    """Choose each host's release; where a host does not know the tag, the one that others have. Raises Stopped.

    Hosts that are ``staying`` keep what is live.
    """
    lived = [release for host in phases.hosts for release in _lived(host, tag)]
    others = _others(phases.hosts, set())

    def choose(host: Host) -> str:
        if host.current and host.name in staying:
            return host.current
        try:
            return preflight.rollback_target(host, tag, lived[0] if lived else None)
        except HostFailed as failure:
            step = failure.outcome.next_step
            step = f"{_go_to(host, others)}\n{step}" if others else step
            raise HostFailed(replace(failure.outcome, next_step=step)) from failure

    return phases.everywhere("choose", choose)


def make_ready(phases: Phases, releases: Mapping[str, str], pack: Pack, emit: Emit) -> dict[str, dict[str, Any]]:
    """Each host's answer about a target that can be switched to. Raises Stopped with every problem of every host."""
    found = phases.everywhere("verify", lambda host: host.ready(releases[host.name]))
    wanting = {name: answer for name, answer in found.items() if answer["problems"]}
    if not wanting:
        return found
    others = _others(phases.hosts, set(releases.values()))
    with ExitStack() as open_bundles:
        bundles, why_not = _packed(wanting, releases, pack, open_bundles)
        if why_not:
            refused = _refusal(wanting, releases, why_not, others)
            phases.everywhere("verify", lambda host: refused(host, found[host.name]))
        for name, answer in wanting.items():
            emit(Notice(f"{answer['problems'][0]['cause']}: staged again from its tag", name))

        def again(host: Host) -> dict[str, Any]:
            if host.name not in wanting:
                return found[host.name]
            release = releases[host.name]
            try:
                bundle = bundles[release]
                stage_alone(host, bundle.manifest, bundle.host_needs, bundle.read, restage=True)
            except HostFailed as failure:
                step = "\n".join(filter(None, (failure.outcome.next_step, _go_to(host, others))))
                raise HostFailed(replace(failure.outcome, next_step=step)) from failure
            return _refusal(wanting, releases, {}, others)(host, host.ready(release))

        return phases.everywhere("stage again", again, detail=", ".join(bundles))


def _packed(
    wanting: Mapping[str, Mapping[str, Any]], releases: Mapping[str, str], pack: Pack, open_bundles: ExitStack
) -> tuple[dict[str, Bundle], dict[str, str]]:
    """The bundles to stage again, by release; or by host why it cannot be. Nothing is packed where that cannot help."""
    if not all(problem["mends"] for answer in wanting.values() for problem in answer["problems"]):
        return {}, dict.fromkeys(wanting, "")
    bundles: dict[str, Bundle] = {}
    reasons: dict[str, str] = {}
    for release in sorted({releases[name] for name in wanting}):
        tag = names.tag_of(names.parse_release_id(release))
        try:
            bundle = open_bundles.enter_context(pack(tag))
        except DeployError as error:
            reasons[release] = "; ".join([error.why, *error.problems[:5]])
            continue
        bundles[release] = bundle
        made = bundle.manifest.release_id
        if made != release:
            commit = bundle.manifest.commit[:12]
            reasons[release] = f"{tag} (commit {commit}) would now make {made}: another content than {release}"
    return bundles, {
        name: f"cannot be staged again from its tag: {reasons[releases[name]]}"
        for name in wanting
        if reasons and releases[name] in reasons
    }


def _refusal(
    wanting: Mapping[str, Mapping[str, Any]],
    releases: Mapping[str, str],
    why_not: Mapping[str, str],
    others: Sequence[str],
) -> Callable[[Host, dict[str, Any]], dict[str, Any]]:
    """Make the judgement on one host's answer: the answer itself, or every problem in it."""

    def judge(host: Host, answer: dict[str, Any]) -> dict[str, Any]:
        problems: list[dict[str, Any]] = answer["problems"]
        if not problems or (why_not and host.name not in wanting):
            return answer
        causes = [str(problem["cause"]) for problem in problems] + list(filter(None, [why_not.get(host.name)]))
        steps = [str(problem["next"]) for problem in problems if not problem["mends"]]
        log = tuple(str(line) for problem in problems for line in problem["log"])
        step = "\n".join(dict.fromkeys([*steps, _go_to(host, others)]))
        cause = f"{releases[host.name]} is not ready: {'; '.join(causes)}"
        raise HostFailed(HostOutcome(host.name, Outcome.FAILED, host.serves, "verify", cause, step, log))

    return judge


def _go_to(host: Host, others: Sequence[str]) -> str:
    if not others:
        return f"no other tag was live on every host of this run; fab releases {host.run.where}  # lists what each has"
    more = f"; also there: {', '.join(others[1:6])}" if len(others) > 1 else ""
    return f"fab rollback:{others[0]} {host.run.where}  # was live before and is on every host{more}"


def _others(hosts: Sequence[Host], leave_out: set[str]) -> list[str]:
    """The good tags that are whole on all hosts, besides what is live and what was wanted, the nearest first."""
    ranked: list[list[str]] = []
    for host in hosts:
        rows: list[Mapping[str, Any]] = host.facts["releases"]
        good = [row for row in rows if row["state"] == "RETIRED" and not row["bad"]]
        before: list[str] = host.facts["rollback_candidates"]
        near = sorted(good, key=lambda row: (row["release"] not in before, -int(row["live_seq"])))
        ranked.append([row["tag"] for row in near if row["release"] not in leave_out])
    return [tag for tag in dict.fromkeys(ranked[0]) if all(tag in there for there in ranked)]


def _lived(host: Host, tag: str | None) -> list[str]:
    """The releases of a tag that were live on a host, the good ones first; whole ones before those that are gone."""
    rows: list[Mapping[str, Any]] = host.facts["releases"]
    whole = [row for row in rows if row["tag"] == tag and row["state"] in ("RETIRED", "ACTIVE")]
    gone: list[Mapping[str, Any]] = [row for row in host.facts.get("gone", []) if row["tag"] == tag]
    return [row["release"] for row in sorted(whole, key=lambda row: row["bad"])] + [row["release"] for row in gone]
