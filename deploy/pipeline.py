"""The table of contents: what each command does, in order. Decides nothing that a part below could decide.

deploy    check, pack -> connect, lock -> offer, send, stage everywhere -> gate -> activate in waves, confirm -> prune
rollback  connect, lock -> find each host's target, verify or stage it again -> gate -> activate in waves, confirm
prove     check -> connect, lock -> offer, send, stage everywhere in a ROOT for proof -> empty it
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy import closure
from deploy.bundle.acceptance import accept
from deploy.bundle.contents import Bundle
from deploy.bundle.listing import listed
from deploy.bundle.pack import pack
from deploy.bundle.repository import Repository, ResolvedTag
from deploy.closure import plan
from deploy.errors import ExitCode, Refused
from deploy.events import Emit, FleetStep, HostStep, Notice, RunEnded, RunStarted
from deploy.fleet import migrations, preflight, proof, readiness, survey
from deploy.fleet.activation import live_outcome
from deploy.fleet.host import Host
from deploy.fleet.outcomes import HostOutcome, Outcome, how_many, next_steps
from deploy.fleet.phases import Phases
from deploy.fleet.run import FleetRun
from deploy.hostprogram import host_program
from deploy.link import here
from deploy.link.open import opener
from deploy.settings import OperatorSettings, Stage, operator_of, resolve_stage
from deploy.wire import names
from deploy.wire.names import Sha256

NO_HOST = "No host was contacted; the service is unchanged."


@dataclass(frozen=True)
class Request:
    """What every command is given: the project, the merged ``deploy`` settings, and how the fleet is narrowed."""

    project: Path
    settings: Mapping[str, Any]
    stage: str | None
    hosts: tuple[str, ...] | None
    operator: str
    job: str = ""
    """The CI job that asks, as an address to look at."""
    fabric_config: Any = None
    dry: bool = False
    """Contact nobody: deploy only."""

    def operator_settings(self) -> OperatorSettings:
        """Every stage as the control machine's settings have it. Raises Refused."""
        file = self.project / "fabric.yaml"
        text = file.read_text(encoding="utf-8") if file.is_file() else None
        return operator_of(self.settings, text=text)


def asking(verb: str, request: Request, emit: Emit) -> FleetRun:
    """Make the run of a command that answers with a document: nothing is told before. Raises Refused."""
    return _run(verb, request, _stage(request), emit)


def begin(
    verb: str, request: Request, emit: Emit, stage: Stage | None = None, *, tag: str | None = None, **named: Any
) -> FleetRun:
    """Make a command's run on the hosts of its stage, and tell that it begins. Raises Refused."""
    stage = stage or _stage(request)
    emit(RunStarted(verb, stage.name, tuple(host.name for host in stage.hosts), tag))
    return _run(verb, request, stage, emit, tag=tag, **named)


def deploy(
    request: Request,
    tag: str | None,
    emit: Emit,
    *,
    restage: bool = False,
    skip_unreachable: bool = False,
    wait_s: float = 0,
) -> RunEnded:
    """Make a tag live on every host of the stage, or change nothing. Raises Refused before any host is contacted."""
    stage = _stage(request)
    repository, resolved, signers = _resolved(request, stage, tag)
    emit(RunStarted("deploy", stage.name, tuple(host.name for host in stage.hosts), resolved.tag))
    for notice in repository.notices(resolved):
        emit(Notice(notice))
    if signers:
        emit(FleetStep("trust", "done", f"{resolved.tag} is signed by {' and '.join(signers)}"))
    with _packed(emit, repository, resolved, stage.vendor_store) as bundle:
        named = {"tag": resolved.tag, "release": bundle.manifest.release_id}
        named["again"] = f"fab deploy:{resolved.tag}{' --restage' if restage else ''}"
        run = _run("deploy", request, stage, emit, skip_unreachable=skip_unreachable, **named)
        return run.guard(lambda phases: _deploy(run, phases, bundle, restage=restage, wait_s=wait_s or stage.wait_s))


def rollback(
    request: Request,
    tag: str | None,
    emit: Emit,
    *,
    skip_unreachable: bool = False,
    wait_s: float = 0,
    allow_migrations: bool = False,
) -> RunEnded:
    """Point every host back at an earlier release; needs nothing but SSH. None: each host's newest good one before.

    Only where a host has lost its target, or has it no longer whole, the repository is asked for the tag.
    """
    stage = _stage(request)
    stage = replace(stage, migrations="warn") if allow_migrations else stage
    _tag_name(tag)
    again = f"fab rollback{f':{tag}' if tag else ''}{' --allow-migrations' if allow_migrations else ''}"
    run = begin("rollback", request, emit, stage, tag=tag, skip_unreachable=skip_unreachable, again=again)

    @contextmanager
    def pack_again(lost: str) -> Generator[Bundle, None, None]:
        repository, resolved, _ = _resolved(request, stage, lost)
        with _packed(emit, repository, resolved, stage.vendor_store) as bundle:
            yield bundle

    return run.guard(lambda phases: _rollback(run, phases, tag, wait_s=wait_s or stage.wait_s, pack_again=pack_again))


def status(request: Request, emit: Emit) -> dict[str, Any]:
    """What is live on each host and how that is proven. Changes nothing."""
    return survey.survey(asking("status", request, emit), probe=True)


def releases(request: Request, emit: Emit) -> dict[str, Any]:
    """The releases on each host, newest first. Changes nothing."""
    return survey.survey(asking("releases", request, emit), probe=False)


def check(request: Request, emit: Emit) -> RunEnded:
    """Look at every host and say what stands in the way of a deploy. Changes nothing."""
    stage = _stage(request)
    listed(stage.trust)  # raises where nobody could sign
    run = begin("check", request, emit, stage)
    emit(Notice(preflight.versions()))

    def asked(phases: Phases) -> RunEnded:
        run.connect(phases, usable=False)
        outcomes = [preflight.outcome_of(host) for host in phases.hosts]
        for host, outcome in zip(phases.hosts, outcomes, strict=True):
            emit(HostStep(host.name, "facts", "failed" if outcome.cause else "done", preflight.facts_line(host)))
        bad = [outcome for outcome in outcomes if outcome.cause]
        verdict = f"{len(bad)} of {len(outcomes)} hosts are not ready" if bad else "every host is ready for a deploy"
        code = ExitCode.FAILED if bad else ExitCode.OK
        return run.ended(outcomes, verdict, code=code, next_step=next_steps(outcomes))

    return run.guard(asked)


def verify(request: Request, emit: Emit, tag: str | None = None) -> RunEnded:
    """Hash a release on every host again and compare it with its marker. Changes nothing."""
    stage = _stage(request)
    _tag_name(tag)
    run = begin("verify", request, emit, stage, tag=tag)

    def asked(phases: Phases) -> RunEnded:
        run.connect(phases)
        outcomes = list(phases.everywhere("verify", lambda host: preflight.verified(host, tag)).values())
        bad = [outcome for outcome in outcomes if outcome.cause]
        verdict = (
            "every byte is as it was staged"
            if not bad
            else f"missing or not intact on {len(bad)} of {len(outcomes)} hosts"
        )
        code = ExitCode.FAILED if bad else ExitCode.OK
        return run.ended(outcomes, verdict, code=code, next_step=next_steps(outcomes))

    return run.guard(asked)


def prove(request: Request, root: Path, requirements: str, targets: Sequence[str], emit: Emit) -> RunEnded:
    """Build and install the working tree's closure on every host of the stage, beside what is live; nothing stays.

    Raises Refused where the closure is not closed.
    """
    stage = proof.aside(_stage(request))
    closed = closure.examine(closure.WorkTree(root), requirements, targets)
    lock, host_needs = closed.lock, closure.host_needs(closed)
    manifest = here.bare_manifest("prove", requirements, plan.targets(lock), plan.archives(lock))
    run = begin("prove", request, emit, stage, again="fab vendor.prove")

    def read(digest: Sha256) -> bytes:
        return (root / "vendor" / manifest.archives[digest].name).read_bytes()

    def asked(phases: Phases) -> RunEnded:
        run.connect(phases, usable=False)
        phases.lock(stage.wait_s)
        found = phases.everywhere("prove", lambda host: proof.prove(host, manifest, host_needs, read))
        for name, one in found.items():
            for line in proof.tried(one.attempts):
                emit(Notice(line, name))
        outcomes = [
            HostOutcome(name, Outcome.ANSWERED, f"{one.packages} packages as locked, builds sealed by {one.sealed}")
            for name, one in found.items()
        ]
        verdict = f"requirements/{requirements} builds and installs as locked on {_count(phases.hosts)}; nothing stays"
        return run.ended(outcomes, verdict, code=ExitCode.OK)

    return run.guard(asked)


def _deploy(run: FleetRun, phases: Phases, bundle: Bundle, *, restage: bool, wait_s: float) -> RunEnded:
    manifest = bundle.manifest
    release = manifest.release_id
    run.connect(phases)
    phases.everywhere("target", lambda host: preflight.target_for(host, manifest, restage=restage))
    phases.lock(wait_s)
    # Asked again: somebody may have released another commit of this tag meanwhile.
    targets = phases.everywhere("target", lambda host: preflight.target_for(host, manifest, restage=restage))
    offers = phases.everywhere(
        "offer", lambda host: preflight.offered(host, manifest, targets[host.name], bundle.host_needs)
    )
    sizes = manifest.sizes

    def stage_on(host: Host) -> dict[str, Any]:
        host.send(offers[host.name], sizes, bundle.read)
        return host.stage()

    phases.everywhere("stage", stage_on, detail=release)
    migrations.before_deploy(phases, release, manifest.settings, run.emit)
    answers = phases.switch(dict.fromkeys(targets, release), dict.fromkeys(targets, manifest.settings), run.strategy)
    phases.prune()
    outcomes = [live_outcome(host, release, answers[host.name]) for host in phases.hosts]
    return run.ended(outcomes, f"{manifest.tag} is live on {_count(phases.hosts)}", undo=run.undo(answers))


def _rollback(run: FleetRun, phases: Phases, tag: str | None, *, wait_s: float, pack_again: readiness.Pack) -> RunEnded:
    run.connect(phases)
    phases.lock(wait_s)
    staying = preflight.staying(phases.hosts) if tag is None else set[str]()
    if tag is None and not staying and run.is_partial:
        phases.everywhere("choose", preflight.refuse_unclear)
    targets = readiness.targets(phases, tag, staying)
    for name in sorted(staying):
        run.emit(Notice(f"stays on {targets[name]}: what was cut off left it where the others go", name))
    for host in phases.hosts:
        rows = [*host.facts["releases"], *host.facts["gone"]]
        if any(row["release"] == targets[host.name] and row["bad"] for row in rows):
            run.emit(Notice(f"{targets[host.name]} is marked bad: it was rolled away from or returned", host.name))
    ready = readiness.make_ready(phases, targets, pack_again, run.emit)
    migrations.before_rollback(phases, targets, ready, run.stage.migrations, run.emit)
    answers = phases.switch(targets, {name: answer["settings"] for name, answer in ready.items()}, run.strategy)
    outcomes = [live_outcome(host, targets[host.name], answers[host.name]) for host in phases.hosts]
    tags = sorted({names.tag_of(names.parse_release_id(release)) for release in targets.values()})
    if len(tags) == 1:
        verdict, next_step = f"{tags[0]} is live on {_count(phases.hosts)}", ""
    else:
        verdict = f"every host is back on its own release before, and they DIFFER: {', '.join(tags)}"
        next_step = f"fab releases {run.where}  # shows which tag all of them have; then fab rollback:TAG"
    return run.ended(outcomes, verdict, next_step=next_step, undo=run.undo(answers))


def _stage(request: Request) -> Stage:
    return resolve_stage(request.operator_settings(), request.stage, project=request.project, hosts=request.hosts)


def _resolved(request: Request, stage: Stage, tag: str | None) -> tuple[Repository, ResolvedTag, tuple[str, ...]]:
    """Find the tag (None: the one on HEAD) and hold it against what the stage accepts. Raises Refused."""
    repository = Repository(request.project)
    resolved = repository.resolve(tag or repository.tag_on_head())
    return repository, resolved, tuple(map(str, accept(repository, resolved, stage.trust)))


def _run(verb: str, request: Request, stage: Stage, emit: Emit, **named: Any) -> FleetRun:
    program = host_program()
    return FleetRun(
        verb,
        stage,
        emit,
        operator=request.operator,
        job=request.job,
        program=(program.data, program.sha256),
        open_pipe=opener(request.fabric_config, dry=request.dry),
        narrowed=request.hosts is not None,
        dry=request.dry,
        **named,
    )


@contextmanager
def _packed(emit: Emit, repository: Repository, resolved: ResolvedTag, store: str) -> Generator[Bundle, None, None]:
    """Check the closure on the tag's own content and pack it, before any host is contacted."""
    began = time.monotonic()
    emit(FleetStep("check and pack", "started", resolved.tag))
    try:
        bundle = pack(repository, resolved, store)
    except Refused:
        emit(FleetStep("check and pack", "failed", resolved.tag, time.monotonic() - began))
        raise
    manifest = bundle.manifest
    detail = f"{len(manifest.files)} files, {len(manifest.archives)} archives, release {manifest.release_id}"
    emit(FleetStep("check and pack", "done", detail, time.monotonic() - began))
    with bundle:
        yield bundle


def _tag_name(tag: str | None) -> None:
    if tag is not None and not names.is_tag(tag):
        raise Refused(
            NO_HOST, f"{tag!a} is not a tag that can be deployed", "fab releases  # lists the tags on the hosts"
        )


def _count(hosts: Sequence[Host]) -> str:
    return how_many(len(hosts), "host")
