"""``fab trust`` and ``fab trust.add``: who may sign tags. Parse, call, return."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from deploy.tasks.commands import DOCUMENT, leave, request_for
from deploy.tasks.executor import fleet_task


@fleet_task(default=True, help=DOCUMENT)
def show(c: Context, *, json: bool = False) -> None:
    """Show who may sign tags for each stage, and who signed the last tags. Contacts no host."""
    from deploy import report, trust

    answer = trust.show(request_for(c, None, None))
    report.show_trust(answer, json=json)
    leave(int(answer["exit_code"]))


@fleet_task(
    help={
        "key": "The signer's public key: an SSH one, or an exported OpenPGP one.",
        "name": "Whose key it is, such as alice@example.org; an OpenPGP key says so itself.",
        "stage": "The stage whose file is meant, where stages name different ones.",
        **DOCUMENT,
    }
)
def add(c: Context, key: str, name: str | None = None, stage: str | None = None, *, json: bool = False) -> None:
    """Allow one more signer, and say what remains to be done. Writes a file of public keys, never git's settings."""
    from deploy import report, trust

    report.show_signer(trust.add(request_for(c, stage, None), Path(key), name), json=json)
