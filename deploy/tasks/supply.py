"""``fab vendor.*`` about what others made: bill of materials, licences, advisories, newer versions."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from deploy.errors import ExitCode, Refused
from deploy.tasks.commands import DOCUMENT
from deploy.tasks.executor import fleet_task
from deploy.tasks.place import place_of, subject

_TAG = {"tag": "The git tag whose own closure is meant; default: the working tree's."}


@fleet_task(help={**_TAG, "output": "The file to write; default: stdout."})
def sbom(c: Context, tag: str | None = None, output: str | None = None) -> None:
    """Write the bill of materials (CycloneDX 1.6, JSON) of a tag's closure, or of the working tree's. Asks nobody."""
    from deploy import closure, report

    with subject(c, tag) as of:
        text = closure.sbom(of.source, of.requirements, of.targets, of.application)
    if output is None:
        report.show_text(text)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        what = "The bill of materials was not written."
        raise Refused(what, str(error), "--output FILE in a folder that is there") from None
    report.show_text(f"wrote {output}\n")


@fleet_task(help={**_TAG, **DOCUMENT})
def licences(c: Context, tag: str | None = None, *, json: bool = False) -> None:
    """List the licence that each package of the closure states, build tools too. Asks nobody."""
    from deploy import closure, report

    with subject(c, tag) as of:
        lock = closure.read(of.source, of.requirements)
        found = closure.licences(lock, closure.contents(of.source, lock))
    report.show_licences(found, of.name, json=json)


@fleet_task(
    help={
        **_TAG,
        "advisories": "An exported file of advisories in OSV format (JSON, or a zip of it): uses no network.",
        "service": "The service to ask where no file is named: pypi or osv.",
        **DOCUMENT,
    }
)
def audit(
    c: Context,
    tag: str | None = None,
    advisories: str | None = None,
    service: str = "pypi",
    *,
    json: bool = False,
) -> None:
    """Hold everything pinned, build tools too, against known advisories; exit 1 where one speaks of it."""
    from deploy import closure, report

    export = None if advisories is None else Path(advisories)
    work_tree = closure.WorkTree(place_of(c).root)
    with subject(c, tag) as of:
        found = closure.audit(of.source, of.requirements, export, service, judged_in=work_tree)
    code = ExitCode.FAILED if found.open else ExitCode.OK
    report.show_audit(found, of.name, of.requirements, int(code), json=json)
    if code:
        raise Exit(code=int(code))


@fleet_task(help=DOCUMENT)
def outdated(c: Context, *, json: bool = False) -> None:
    """Show which run-time packages have newer versions, and how far the bounds let them go. Asks the index."""
    from deploy import closure, report

    place = place_of(c)
    report.show_outdated(
        closure.outdated(place.root, place.requirements), f"requirements/{place.requirements}", json=json
    )
