"""``fab sandbox.up``, ``sandbox.down`` and ``sandbox.status``: rehearsal hosts on this machine. Parse, call, return."""

from __future__ import annotations

from invoke.context import Context

from deploy.errors import Refused
from deploy.tasks.commands import project_of
from deploy.tasks.executor import fleet_task


@fleet_task(help={"hosts": "How many hosts."})
def up(c: Context, hosts: int = 3) -> None:
    """Start sandbox hosts on loopback ports inside .sandbox/; what already runs is left alone."""
    from deploy import report, sandbox

    if not 1 <= hosts <= 99:
        raise Refused(
            "no sandbox host was started", f"--hosts {hosts} is not between 1 and 99", "fab sandbox.up --hosts 3"
        )
    report.show_sandbox(sandbox.up(project_of(c), hosts))


@fleet_task()
def down(c: Context) -> None:
    """Stop everything that sandbox.up started."""
    from deploy import report, sandbox

    sandbox.down(project_of(c))
    report.show_sandbox([])


@fleet_task()
def status(c: Context) -> None:
    """Show which sandbox hosts run, and where."""
    from deploy import report, sandbox

    report.show_sandbox(sandbox.status(project_of(c)))
