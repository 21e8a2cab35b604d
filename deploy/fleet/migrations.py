"""What a deploy or a rollback means for migrations: asked of releases, told to the operator, held against the policy.

Decides by what hosts wrote down at earlier deploys, so that a rollback needs no database and no working release; the
live release is asked only where it would go back across something (docs/adr/0012).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.events import Emit, Notice
from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import HostOutcome, Outcome, how_many
from deploy.fleet.phases import Phases
from deploy.wire import commands, names
from deploy.wire.migrations import Difference, Listing, union, unknown_to

POINT = "migrations"
MOST_SHOWN = 12
Answers = Mapping[str, Mapping[str, Any]]


def before_deploy(phases: Phases, release: str, settings: Mapping[str, Any], emit: Emit) -> None:
    """Show what a deploy applies, and what is applied that it does not know; write down what it knows. Raises Stopped.

    A command that fails keeps nobody from deploying: a rollback will then know less.
    """
    asked = _asked(phases.hosts, dict.fromkeys((host.name for host in phases.hosts), settings))
    if not asked:
        return
    answers = phases.everywhere(POINT, lambda host: host.migrations(release, asked.get(host.name, [])))
    _tell_failures(answers, emit, "what it applies is not known, and a rollback cannot compare")
    told = _listings(phases.hosts, asked, answers)
    tag = _tag(release)
    _tell(emit, {name: _shown(f"{tag} applies", one.pending or [], "migration") for name, one in told.items()})
    unknown = {name: _difference(one.known, answers[name]["recorded"]) for name, one in told.items()}
    _tell(emit, {name: _shown(f"{tag} does not know", one.across + one.before) for name, one in unknown.items()})

    def record(host: Host) -> None:
        if host.name in told:
            host.record(release, told[host.name].known, [])

    phases.everywhere("record migrations", record)


def before_rollback(phases: Phases, releases: Mapping[str, str], ready: Answers, policy: str, emit: Emit) -> None:
    """Hold applied migrations that a target does not know against the policy. Raises Stopped with the exact list."""
    known = _known(phases, releases, ready, emit)
    found = {
        name: _difference(known[releases[name]], answer["migrations"])
        for name, answer in ready.items()
        if releases[name] in known
    }
    across = {name: difference.across for name, difference in found.items() if difference.across}
    undo: dict[str, list[str]] = {}
    if across and policy != "allow":
        across, undo = _still_applied(phases, across, {name: known[releases[name]] for name in across}, ready, emit)
    _tell(emit, {name: _shown("neither release knows", one.before) for name, one in found.items()})
    if not across or policy != "refuse":
        _tell(
            emit,
            {name: _shown(f"{_tag(releases[name])} does not know", across.get(name, [])) for name in found},
        )
        return

    def judge(host: Host) -> None:
        if host.name in across:
            raise HostFailed(_refused(host, releases[host.name], across[host.name], undo[host.name]))

    phases.everywhere(POINT, judge)


def _refused(host: Host, release: str, across: Sequence[str], undo: Sequence[str]) -> HostOutcome:
    tag = _tag(release)
    cause = f"{release} does not know {how_many(len(across), 'applied migration')}: {', '.join(across)}"
    back = f"fab rollback:{tag} {host.run.where}"
    steps = [*undo, f"{back}  # when they are undone", f"{back} --allow-migrations  # if {tag} can live with them"]
    return HostOutcome(host.name, Outcome.FAILED, host.serves, POINT, cause, "\n".join(steps))


def _known(phases: Phases, releases: Mapping[str, str], ready: Answers, emit: Emit) -> dict[str, list[str]]:
    """What each target knows: as any host wrote it down (one id, one content), else as the target itself says."""
    known: dict[str, list[str]] = {}
    for name, answer in ready.items():
        if answer["migrations"]["known"] is not None:
            known.setdefault(releases[name], answer["migrations"]["known"])
    unknown = [host for host in phases.hosts if releases[host.name] not in known]
    listing = _asked(unknown, {host.name: ready[host.name]["settings"] for host in unknown}, each=True)
    asked = {releases[name]: name for name in listing}.values()
    if asked and any(answer["migrations"]["applied"] for answer in ready.values()):
        answers = phases.everywhere(
            POINT, lambda host: host.migrations(releases[host.name], None if host.name in asked else ())
        )
        _tell_failures(answers, emit, "what it knows was never written down, and cannot be compared")
        known.update({releases[name]: answers[name]["known"] for name in asked if answers[name]["known"] is not None})
    return known


def _still_applied(
    phases: Phases,
    across: Mapping[str, Sequence[str]],
    targets: Mapping[str, Sequence[str]],
    ready: Answers,
    emit: Emit,
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Ask the live release what of it is applied now, and how to undo that; what it cannot say counts as applied."""
    hosts = [host for host in phases.hosts if host.name in across]
    asked = _asked(hosts, {host.name: ready[host.name]["settings"] for host in hosts})

    def ask(host: Host) -> dict[str, Any]:
        if host.name not in across or not host.current:
            return {"known": None, "pending": None, "failed": None, "undo": []}
        return host.migrations(
            host.current, None if host.name in asked else (), undo=across[host.name], target=targets[host.name]
        )

    answers = phases.everywhere(POINT, ask)
    _tell_failures(answers, emit, "going by what was written down at the last deploy")
    told = _listings(hosts, {name: [] for name in asked}, answers)
    pending = {name: set(one.pending or ()) for name, one in told.items()}
    left = {name: [one for one in every if one not in pending.get(name, ())] for name, every in across.items()}

    def record(host: Host) -> None:
        undone = [one for one in across.get(host.name, ()) if one in pending.get(host.name, ())]
        if undone:
            host.record(None, None, undone)

    phases.everywhere("record migrations", record)
    return {name: every for name, every in left.items() if every}, _undo(hosts, asked, answers)


def _undo(hosts: Sequence[Host], asked: Mapping[str, Sequence[str]], answers: Answers) -> dict[str, list[str]]:
    """The commands that undo, each with its host; who was not asked has the same database as those who were."""
    lines: dict[str, list[str]] = {}
    for host in hosts:
        at = f"on {host.name}"
        by_hand = f"undo them {at} with the release that is live, which may lose data"
        given: list[str] = answers[host.name]["undo"]
        lines[host.name] = [f"{line}  # {at}; undoes them, which may lose data" for line in given] or [by_hand]
    every = [line for name in asked for line in lines[name]]
    return {name: own if name in asked or not every else every for name, own in lines.items()}


def _asked(
    hosts: Sequence[Host], settings: Mapping[str, Mapping[str, Any]], *, each: bool = False
) -> dict[str, list[str]]:
    """Which commands each host runs: its own, and those ``once`` for the fleet that no host before has, or ``each``."""
    asked: dict[str, list[str]] = {}
    taken: set[str] = set()
    for host in hosts:
        found = commands.hooks_of(settings[host.name], POINT, host.run.verb, host.settings.levels)
        mine = [hook.text for hook in found if each or not hook.once or hook.text not in taken]
        taken.update(hook.text for hook in found if hook.once)
        if mine:
            asked[host.name] = mine
    return asked


def _listings(hosts: Sequence[Host], asked: Mapping[str, Sequence[str]], answers: Answers) -> dict[str, Listing]:
    """By host what its release lists; who was not asked takes what the others said, for the fleet's one database."""
    own = {
        name: Listing(list(answers[name]["known"]), answers[name]["pending"])
        for name in asked
        if answers[name]["known"] is not None
    }
    if not own:
        return {}
    shared = union(list(own.values()))
    return {**{host.name: shared for host in hosts if host.name not in asked}, **own}


def _difference(known: Sequence[str], recorded: Mapping[str, Any]) -> Difference:
    return unknown_to(known, recorded["current"], recorded["applied"])


def _tell_failures(answers: Answers, emit: Emit, so: str) -> None:
    for name, answer in answers.items():
        if answer["failed"]:
            last = f": {answer['log'][-1]}" if answer.get("log") else ""
            emit(Notice(f"{answer['failed']}{last}; {so}", name))


def _tell(emit: Emit, texts: Mapping[str, str]) -> None:
    """Tell once what is the same on all hosts, and nothing where there is nothing to tell."""
    said = set(texts.values())
    for name, text in [(None, next(iter(said)))] if len(said) == 1 else texts.items():
        if text:
            emit(Notice(text, name))


def _shown(what: str, every: Sequence[str], kind: str = "applied migration") -> str:
    more = f" and {len(every) - MOST_SHOWN} more" if len(every) > MOST_SHOWN else ""
    return f"{what} {how_many(len(every), kind)}: {', '.join(every[:MOST_SHOWN])}{more}" if every else ""


def _tag(release: str) -> str:
    return names.tag_of(names.parse_release_id(release))
