"""The commands of ``fab``: each parses, calls one function and returns its exit code. Decides nothing about hosts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from invoke.config import DataProxy
from invoke.context import Context
from invoke.exceptions import Exit

from deploy.errors import Refused
from deploy.tasks.executor import fleet_task
from deploy.tasks.operator import operator

if TYPE_CHECKING:
    from deploy.events import Emit, RunEnded
    from deploy.pipeline import Request

# Imports of the pipeline, of rich and of the sandbox stand inside the tasks: `fab --list` must not pay for them.

STAGE = {
    "stage": "The stage, as fabric.yaml names it.",
    "hosts": "Only these hosts of the stage: a,b (also: fab -H a,b).",
}
VERBOSE = {"verbose": "Show every step of every host."}
LINES = {"json": "One JSON object a line on stdout, for machines."}
DOCUMENT = {"json": "One JSON document on stdout, for machines."}
WAIT = {"wait": "Seconds to wait for a lock that somebody else holds."}
SKIP = {"skip_unreachable": "Go on without hosts that cannot be reached; the exit code is then not 0."}


@fleet_task(
    takes_hosts=True,
    help={
        "tag": "The git tag; default: the tag on HEAD.",
        "restage": "Accept that the tag now has another content than the release on the hosts.",
        **STAGE,
        **SKIP,
        **WAIT,
        **LINES,
        **VERBOSE,
    },
)
def deploy(
    c: Context,
    tag: str | None = None,
    stage: str | None = None,
    hosts: str | None = None,
    wait: int = 0,
    *,
    restage: bool = False,
    skip_unreachable: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Make a tag live on every host of a stage, or change nothing. Also: fab deploy:TAG."""
    from deploy import pipeline

    request = request_for(c, stage, hosts)
    run_and_leave(
        lambda emit: pipeline.deploy(
            request, tag, emit, restage=restage, skip_unreachable=skip_unreachable, wait_s=wait_seconds(wait)
        ),
        json=json,
        verbose=verbose,
    )


@fleet_task(
    takes_hosts=True,
    help={
        "tag": "The git tag; default: each host's newest good release before the present one.",
        "allow-migrations": "Go back this once though the database has migrations that the target does not know.",
        **STAGE,
        **SKIP,
        **WAIT,
        **LINES,
        **VERBOSE,
    },
)
def rollback(
    c: Context,
    tag: str | None = None,
    stage: str | None = None,
    hosts: str | None = None,
    wait: int = 0,
    *,
    skip_unreachable: bool = False,
    allow_migrations: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Point the hosts back at an earlier release; needs nothing but SSH. Also: fab rollback:TAG."""
    from deploy import pipeline

    request = request_for(c, stage, hosts)
    run_and_leave(
        lambda emit: pipeline.rollback(
            request,
            tag,
            emit,
            skip_unreachable=skip_unreachable,
            wait_s=wait_seconds(wait),
            allow_migrations=allow_migrations,
        ),
        json=json,
        verbose=verbose,
    )


@fleet_task(takes_hosts=True, help={**STAGE, **DOCUMENT, **VERBOSE})
def status(
    c: Context, stage: str | None = None, hosts: str | None = None, *, json: bool = False, verbose: bool = False
) -> None:
    """Show what is live on each host, how that is proven, and who holds a lock."""
    from deploy import pipeline, report

    request = request_for(c, stage, hosts)
    show_answer(lambda emit: pipeline.status(request, emit), report.show_status, json=json, verbose=verbose)


@fleet_task(takes_hosts=True, help={**STAGE, **DOCUMENT, **VERBOSE})
def releases(
    c: Context, stage: str | None = None, hosts: str | None = None, *, json: bool = False, verbose: bool = False
) -> None:
    """List the releases on each host, newest first."""
    from deploy import pipeline, report

    request = request_for(c, stage, hosts)
    show_answer(lambda emit: pipeline.releases(request, emit), report.show_releases, json=json, verbose=verbose)


@fleet_task(takes_hosts=True, help={**STAGE, **LINES, **VERBOSE})
def check(
    c: Context, stage: str | None = None, hosts: str | None = None, *, json: bool = False, verbose: bool = False
) -> None:
    """Look at the settings and at every host, and say what stands in the way of a deploy. Changes nothing."""
    from deploy import pipeline

    request = request_for(c, stage, hosts)
    run_and_leave(lambda emit: pipeline.check(request, emit), json=json, verbose=verbose)


@fleet_task(
    takes_hosts=True,
    help={"tag": "The tag whose release to verify; default: the live one.", **STAGE, **LINES, **VERBOSE},
)
def verify(
    c: Context,
    tag: str | None = None,
    stage: str | None = None,
    hosts: str | None = None,
    *,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Hash a release on every host again and compare it with its manifest. Changes nothing."""
    from deploy import pipeline

    request = request_for(c, stage, hosts)
    run_and_leave(lambda emit: pipeline.verify(request, emit, tag=tag), json=json, verbose=verbose)


def request_for(c: Context, stage: str | None, hosts: str | None) -> Request:
    """Gather what one run is asked: project, merged settings, stage, hosts, operator. Raises Refused."""
    from deploy import pipeline

    wanted = None if hosts is None else tuple(dict.fromkeys(name.strip() for name in hosts.split(",") if name.strip()))
    if wanted == ():
        raise Refused(
            "nothing was contacted: the list of hosts is empty", f"hosts given: {hosts!r}", "name hosts: --hosts a,b"
        )
    asks = operator(os.environ)
    return pipeline.Request(
        project=project_of(c),
        settings=settings_of(c),
        stage=stage or _own(c).get("stage"),
        hosts=wanted,
        operator=asks.by,
        job=asks.job,
        fabric_config=c.config,
        dry=bool(cast("Any", c.config).run.dry),
    )


def project_of(c: Context) -> Path:
    """The folder of the fabfile, where fabric.yaml, requirements/ and vendor/ lie."""
    return Path(_own(c).get("project") or Path.cwd())


def _own(c: Context) -> Mapping[str, str | None]:
    return cast("dict[str, str | None]", _plain(_config(c).get("sealed_deploy")) or {})


def _config(c: Context) -> Mapping[str, object]:
    return cast("Mapping[str, object]", c.config)


def settings_of(c: Context) -> Mapping[str, Any]:
    """The `deploy` mapping as Fabric merged it (files, environment, command line), unvalidated. Raises Refused."""
    settings = _plain(_config(c).get("deploy"))
    if settings is not None and not isinstance(settings, dict):
        raise Refused("nothing was contacted", "`deploy:` in fabric.yaml is not a mapping", "correct fabric.yaml")
    return cast("dict[str, Any]", settings or {})


def _plain(value: object) -> Any:
    if isinstance(value, DataProxy | dict):
        mapping = cast("Mapping[str, object]", value)
        return {key: _plain(mapping[key]) for key in mapping}
    return value


def wait_seconds(wait: int) -> float:
    """Take ``--wait``. Raises Refused."""
    if wait < 0:
        raise Refused("nothing was contacted", f"--wait {wait} is negative", "give seconds to wait, or leave it out")
    return float(wait)


def run_and_leave(call: Callable[[Emit], RunEnded], *, json: bool, verbose: bool) -> None:
    """Run a command that asks hosts, tell it, and end with its exit code."""
    from deploy import report

    with report.sink(json=json, verbose=verbose) as emit:
        ended = call(emit)
    leave(ended.exit_code)


def show_answer(
    call: Callable[[Emit], Mapping[str, Any]],
    show: Callable[..., None],
    *,
    json: bool,
    verbose: bool,
) -> None:
    """Ask hosts, show the answer as a table or one JSON document, and end with its exit code."""
    from deploy import report

    with report.quiet_sink(verbose=verbose) as emit:
        answer = call(emit)
    show(answer, json=json)
    leave(int(answer["exit_code"]))


def leave(code: int) -> None:
    """End the command with this exit code."""
    if code:
        raise Exit(code=int(code))
