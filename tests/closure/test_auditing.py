"""A whole closure against advisories: build tools too, with the chain that needs them, and what a person accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, audit
from deploy.errors import Refused


def write(folder: Path, **flaws: str) -> Path:
    """An export in which each named package has one advisory of the given id, for all its versions."""
    records = [
        {
            "id": name,
            "affected": [
                {
                    "package": {"name": package, "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
                }
            ],
        }
        for package, name in flaws.items()
    ]
    path = folder / "advisories.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture
def locked(project: Any, make_sdist: Any, make_wheel: Any) -> Any:
    """An application of two packages, one of them built with a tool of its own that is also run-time elsewhere."""
    lib = make_sdist("lib", "1.0", ["dep"], ["tool"])
    project.lock("# why\nlib\n", [make_wheel("dep", "2.0"), lib], {lib[0]: [make_wheel("tool", "1.0")]})
    return project


def test_each_finding_says_who_needs_the_package(locked: Any, tmp_path: Path) -> None:
    """Run-time, build and toolchain alike."""
    export = write(tmp_path, dep="CVE-1", tool="CVE-2", pip="CVE-3", absent="CVE-4")
    found = audit(WorkTree(locked.folder), "app", export)
    assert {one.advisory.ids[0]: one.chain for one in found.findings} == {
        "CVE-1": "requirements/app.in:2 -> lib 1.0 -> dep: 2.0",
        "CVE-2": "requirements/app.in:2 -> lib 1.0 [build] -> tool: 1.0",
        "CVE-3": "toolchain -> pip: 26.3",
    }
    assert found.open == found.findings
    assert (found.pins, found.asked) == (5, "advisories.json, advisories: 4")


def test_one_that_is_needed_at_run_time_is_told_so(
    project: Any, make_sdist: Any, make_wheel: Any, tmp_path: Path
) -> None:
    """Though a build needs it as well, and by a chain as short."""
    tool = make_wheel("tool", "1.0")
    lib = make_sdist("lib", "1.0", [], ["tool"])
    project.lock("lib\ntool\n", [tool, lib], {lib[0]: [tool]})
    (found,) = audit(WorkTree(project.folder), "app", write(tmp_path, tool="CVE-2")).findings
    assert found.chain == "requirements/app.in:2 -> tool: 1.0"


def test_an_accepted_one_is_shown_and_is_no_open_finding(locked: Any, tmp_path: Path) -> None:
    """By any of its names, with the reason; the lock stays as it is, and an acceptance that met nothing is named."""
    comments = "# audit: CVE-2 only ever runs on our own sources\n#audit: CVE-9 gone since\n"
    locked.asked_path.write_text(comments + locked.asked_path.read_text())
    found = audit(WorkTree(locked.folder), "app", write(tmp_path, dep="CVE-1", tool="CVE-2"))
    assert [(one.advisory.name, one.accepted) for one in found.findings] == [
        ("dep", ""),
        ("tool", "only ever runs on our own sources"),
    ]
    assert [one.advisory.name for one in found.open] == ["dep"]
    assert found.outdated == ("CVE-9",)
    assert locked.problems() == []


def test_accepting_takes_a_reason(locked: Any, tmp_path: Path) -> None:
    """Every line without one is named."""
    locked.asked_path.write_text("# audit: CVE-1\nlib\n# audit:\n")
    with pytest.raises(Refused, match="without a reason") as refused:
        audit(WorkTree(locked.folder), "app", write(tmp_path, dep="CVE-1"))
    assert [problem.partition(": ")[0] for problem in refused.value.problems] == [
        "requirements/app.in:1",
        "requirements/app.in:3",
    ]


def test_what_no_chain_leads_to_is_found_all_the_same(locked: Any, tmp_path: Path) -> None:
    """A lock that `check` would refuse hides no finding."""
    locked.asked_path.write_text("other\n")
    found = audit(WorkTree(locked.folder), "app", write(tmp_path, lib="CVE-1", dep="CVE-2"))
    assert [one.advisory.ids for one in found.open] == [("CVE-2",), ("CVE-1",)]
