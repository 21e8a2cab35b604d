"""``fab hosts.scan``: which keys hosts show, and which of them are known. Parse, call, return."""

from __future__ import annotations

from invoke.context import Context

from deploy.tasks.commands import DOCUMENT, STAGE, leave, request_for
from deploy.tasks.executor import fleet_task


@fleet_task(
    takes_hosts=True,
    help={
        "write": "Add the keys of unknown hosts to known_hosts; compare the fingerprints first.",
        **STAGE,
        **DOCUMENT,
    },
)
def scan(
    c: Context, stage: str | None = None, hosts: str | None = None, *, write: bool = False, json: bool = False
) -> None:
    """Show the fingerprints of the hosts' keys, and which are new or CHANGED. Logs in nowhere."""
    from deploy import report, trust

    answer = trust.scan(request_for(c, stage, hosts), write=write)
    report.show_host_keys(answer, json=json)
    leave(int(answer["exit_code"]))
