"""``fab sandbox.up``, ``sandbox.down`` and ``sandbox.status``: rehearsal hosts on this machine. Parse, call, return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invoke.context import Context

from deploy.tasks.commands import project_of, settings_of
from deploy.tasks.executor import fleet_task
from deploy.tasks.stages import as_mapping


@fleet_task(help={"hosts": "How many hosts."})
def up(c: Context, hosts: int = 3) -> None:
    """Start sandbox hosts on loopback ports inside .sandbox/; what already runs is left alone."""
    from deploy import report, sandbox

    sandbox.up(project_of(c), hosts, service=_service(settings_of(c)))
    report.show_sandbox(sandbox.status(project_of(c)))


@fleet_task(help={"remove": "Delete .sandbox/ too: releases, keys and ports."})
def down(c: Context, *, remove: bool = False) -> None:
    """Stop everything that sandbox.up started."""
    from deploy import report, sandbox

    report.show_stopped(sandbox.down(project_of(c), remove=remove))


@fleet_task()
def status(c: Context) -> None:
    """Show which sandbox hosts run, what they serve, and where."""
    from deploy import report, sandbox

    report.show_sandbox(sandbox.status(project_of(c)))


def _service(settings: Mapping[str, Any]) -> str | None:
    """The ``service`` that the sandbox's supervisors run: the stage's own, else the app's. Settings check its shape."""
    stage = as_mapping(as_mapping(settings.get("stages")).get("sandbox"))
    service: object = stage.get("service") or settings.get("service")
    return service if isinstance(service, str) else None
