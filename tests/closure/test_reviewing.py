"""What a reviewer is told of a new lock: versions, sizes and licences, before and after."""

from __future__ import annotations

from typing import Any

from deploy.closure import Change, Held, changes, holding


def test_a_new_lock_is_compared_with_the_one_before(project: Any, make_sdist: Any) -> None:
    """Moved, new and gone packages; what stayed is left out, and so are build tools."""
    stays, tool = make_sdist("stays", "1.0"), make_sdist("tool", "1.0")
    old, gone = make_sdist("lib", "1.0", extra="License: MIT\n"), make_sdist("gone", "1.0")
    new = make_sdist("lib", "2.0", extra="License: BUSL-1.1\n", files={"more.py": "x = 1\n" * 9000})
    project.lock("lib\nstays\ngone\n", [old, stays, gone], {old[0]: [tool]})
    before = holding(project.folder, "app")
    for path in project.vendor.iterdir():
        path.unlink()
    project.lock("lib\nstays\nfresh\n", [new, stays, make_sdist("fresh", "3.0")])
    after = holding(project.folder, "app")
    assert changes(before, after) == (
        Change("fresh", None, Held("3.0", len(make_sdist("fresh", "3.0")[1]), "unknown")),
        Change("gone", Held("1.0", len(gone[1]), "unknown"), None),
        Change("lib", Held("1.0", len(old[1]), "MIT"), Held("2.0", len(new[1]), "BUSL-1.1")),
    )
    assert after.vendor_bytes == sum(path.stat().st_size for path in project.vendor.iterdir())
    assert changes(after, after) == ()


def test_before_the_first_lock_there_is_nothing(project: Any, make_sdist: Any) -> None:
    """Then everything is new; archives that are not there yet state no licence, and fail nothing."""
    empty = holding(project.folder, "app")
    assert (empty.packages, empty.vendor_bytes) == ({}, 0)
    project.lock("lib\n", [make_sdist("lib", "1.0", extra="License: MIT\n")])
    assert [one.name for one in changes(empty, holding(project.folder, "app"))] == ["lib"]
    (project.vendor / "lib-1.0.tar.gz").unlink()
    assert holding(project.folder, "app").packages["lib"].licence == "unknown"
