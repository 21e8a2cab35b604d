"""What ``fab trust`` and ``fab hosts.scan`` answer: who may sign, whose tags would be taken, which keys hosts show.

Changes nothing on any host; writes key files only where it is asked to, and git's configuration never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deploy.bundle import adding, listing
from deploy.bundle.acceptance import Verdict, accept, signers_of
from deploy.bundle.repository import Repository
from deploy.bundle.signer import Signer
from deploy.errors import ExitCode, Refused
from deploy.link import host_keys
from deploy.link.open import address_of
from deploy.pipeline import Request
from deploy.settings import Trust, resolve_stage

FORMAT = 1
LAST_TAGS = 10


def show(request: Request) -> dict[str, Any]:
    """List who may sign for which stage, and for the last tags who signed and which stages would take them.

    ``exit_code`` is 1 where a file that settings name cannot be read: then no tag would be taken.
    """
    stages = _stages(request)
    repository = Repository(request.project)
    problems: list[str] = []
    signers: list[dict[str, Any]] = []
    for files in dict.fromkeys(map(_files, stages.values())):
        of = [name for name, trust in stages.items() if _files(trust) == files]
        try:
            signers += [{**asdict(one), "stages": of} for one in listing.listed(files)]
        except Refused as error:
            problems.append(f"{', '.join(of)}: {error.why}")
    return {
        "format": FORMAT,
        "exit_code": int(ExitCode.FAILED if problems else ExitCode.OK),
        "stages": [{"stage": name, **asdict(trust)} for name, trust in _declared(request).items()],
        "signers": signers,
        "tags": [_tag(repository, tag, stages) for tag in repository.tags()[:LAST_TAGS]],
        "roots": _roots(repository),
        "problems": problems,
    }


def add(request: Request, key: Path, name: str | None) -> dict[str, Any]:
    """Allow one more signer: write their public key to the file of the control machine's settings.

    Tells what remains to be written into fabric.yaml and what the signer types. Raises Refused.
    """
    stages = _stages(request)
    if request.stage is not None and request.stage not in stages:
        raise Refused("Nothing was written.", f"there is no stage {request.stage!a}", f"one of: {', '.join(stages)}")
    chosen = [stages[request.stage]] if request.stage else list(stages.values())
    added = adding.add(request.project, key, name, chosen)
    return {"format": FORMAT, "exit_code": int(ExitCode.OK), **asdict(added)}


def scan(request: Request, *, write: bool) -> dict[str, Any]:
    """Ask the stage's hosts for their keys and hold them against known_hosts; ``write`` adds those of unknown hosts.

    ``exit_code`` is 0 where every host is known by the keys that it shows. Raises Refused.
    """
    if request.dry:
        raise Refused(
            "No host was contacted.", "--dry contacts nobody, and the keys are the hosts' to show", "leave --dry out"
        )
    stage = resolve_stage(request.operator_settings(), request.stage, project=request.project, hosts=request.hosts)
    remote = [(host.name, address_of(host)) for host in stage.hosts if not host.local]
    shown = host_keys.scan(remote, request.fabric_config)
    written: Sequence[str] = ()
    if write:
        try:
            written = host_keys.write(shown)
        except OSError as error:
            step = "look at `known_hosts` in fabric.yaml"
            raise Refused("No host was changed.", f"the keys cannot be written: {error}", step) from error
    good = all(_is_good(one, written=write) for one in shown)
    where = f"--stage {stage.name}" + (f" --hosts {','.join(request.hosts)}" if request.hosts else "")
    return {
        "format": FORMAT,
        "exit_code": int(ExitCode.OK if good else ExitCode.FAILED),
        "stage": stage.name,
        "where": where,
        "written": list(written),
        "hosts": [{**asdict(one), "new": [key.fingerprint for key in one.new]} for one in shown],
        "local": [host.name for host in stage.hosts if host.local],
    }


def _is_good(shown: host_keys.Shown, *, written: bool) -> bool:
    if shown.error:
        return False
    return all(key.state == "known" or (written and key in shown.new) for key in shown.keys)


def _declared(request: Request) -> dict[str, Trust]:
    """Every stage's settings, as written."""
    settings = request.operator_settings()
    return {name: settings.stages[name].trust for name in settings.declared or settings.stages}


def _stages(request: Request) -> dict[str, Trust]:
    return {name: trust.anchored(request.project) for name, trust in _declared(request).items()}


def _files(trust: Trust) -> Trust:
    """Who may sign, without what is asked of a tag."""
    return replace(trust, tags="any", signatures=1, repository_id=())


def _roots(repository: Repository) -> list[str]:
    """What ``repository_id`` would be here; nothing where it cannot be told."""
    try:
        return [] if repository.is_shallow else list(repository.roots("HEAD"))
    except Refused:  # no commit yet
        return []


def _tag(repository: Repository, tag: str, stages: Mapping[str, Trust]) -> dict[str, Any]:
    """Say of one tag who signed it and, stage by stage, why it would not be taken; a refusal is an answer here."""
    row: dict[str, Any] = {"tag": tag, "commit": "", "tagger": "", "signers": []}
    refused: dict[str, str] = {}
    try:
        resolved = repository.resolve(tag)
    except Refused as error:
        return {**row, "accepted": [], "refused": dict.fromkeys(stages, error.why)}
    signed: dict[Trust, Verdict] = {}  # stages that name the same files are verified once
    signers: dict[Signer, None] = {}
    for name, trust in stages.items():
        try:
            files = _files(trust)
            if files not in signed and resolved.tag_object is not None and (trust.allowed_signers or trust.gpg_keys):
                signed[files] = signers_of(repository, resolved, files)
                signers |= dict.fromkeys(signed[files][0])
            accept(repository, resolved, trust, signed.get(files))
        except Refused as error:
            refused[name] = "; ".join([error.why, *error.problems])
    row |= {"commit": resolved.commit, "tagger": resolved.tagger or "", "signers": [asdict(one) for one in signers]}
    return {**row, "accepted": [name for name in stages if name not in refused], "refused": refused}
