"""``check`` finds every way in which pins and vendor/ are not one closed set, all in one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, check, why
from deploy.errors import Refused


def test_closed_set_passes(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """A closure with nested run-time and build requirements, an sdist and a wheel is closed."""
    tool = make_sdist("tool", "3.0")
    lib = make_sdist("lib", "1.0", ["dep>=1"], ["tool>=2"])
    project.lock("lib\n", [make_wheel("dep", "1.5"), lib], {lib[0]: [tool]})
    assert project.problems() == []


def test_missing_stray_and_tampered_files(project: Any, make_sdist: Any) -> None:
    """One file gone, one too many and one changed byte are three problems of one run."""
    one, two = make_sdist("one", "1.0"), make_sdist("two", "1.0")
    project.lock("one\ntwo\n", [one, two])
    (project.vendor / one[0]).unlink()
    data = bytearray(two[1])
    data[len(data) // 2] ^= 1
    (project.vendor / two[0]).write_bytes(data)
    (project.vendor / "stray-1.0.tar.gz").write_bytes(b"x")
    found = "\n".join(project.problems())
    assert len(project.problems()) == 3
    assert "vendor/one-1.0.tar.gz: missing" in found
    assert "vendor/two-1.0.tar.gz: its bytes are not the pinned ones" in found
    assert "vendor/stray-1.0.tar.gz: no lock names it" in found


def test_files_of_another_lock_are_not_strays(project: Any, make_sdist: Any) -> None:
    """All locks of requirements/ share vendor/."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    other = project.lock_path.with_name("pylock.dev.toml")
    other.write_text(project.lock_path.read_text())
    project.lock("two\n", [make_sdist("two", "1.0")])
    assert project.problems() == []
    other.write_text("format = broken")
    assert any("pylock.dev.toml: not a lock" in line for line in project.problems())


def test_no_lock_at_all_says_so(project: Any) -> None:
    """Without a lock the answer is exit 2 and the command that writes one."""
    with pytest.raises(Refused, match="nothing is locked") as refused:
        check(WorkTree(project.folder), "app")
    assert refused.value.exit_code == 2
    assert refused.value.next_step == "fab vendor.lock"


def test_memory_changes_no_answer(project: Any, make_sdist: Any) -> None:
    """What is remembered of an archive gives the same problems, and a spoilt memory is read around."""
    project.lock("lib\n", [make_sdist("lib", "1.0", ["dep"], ["tool"])])
    first = project.problems()
    assert project.problems() == first
    spoilt = list((Path(os.environ["XDG_CACHE_HOME"]) / "sealed-deploy").rglob("*.json"))
    assert spoilt
    for path in spoilt:
        path.write_text("{")
    assert project.problems() == first


def next_step(project: Any) -> str:
    """What a refused check says to do."""
    with pytest.raises(Refused) as refused:
        check(WorkTree(project.folder), "app", "3.11")
    return refused.value.next_step


def test_the_next_command_mends_what_is_wrong_and_no_more(project: Any, make_sdist: Any) -> None:
    """Missing or altered files are fetched, strays removed; the pins move only where they are wrong."""
    lib = make_sdist("lib", "1.0")
    project.lock("lib\n", [lib])
    path = project.folder / "vendor" / lib[0]
    path.write_bytes(b"altered")
    assert next_step(project) == "fab vendor.fetch"
    (project.folder / "vendor" / "stray-1.0.tar.gz").write_bytes(b"x")
    assert next_step(project) == "fab vendor.fetch --prune"
    path.write_bytes(lib[1])
    assert next_step(project) == "fab vendor.fetch --prune"
    project.asked_path.write_text("lib\nmore\n")
    assert next_step(project) == "fab vendor.lock && fab vendor.fetch --prune"


def test_another_python_than_the_settings_ask_for_is_a_break(project: Any, make_sdist: Any) -> None:
    """As a deploy would refuse it."""
    project.lock("lib\n", [make_sdist("lib", "1.0")])
    with pytest.raises(Refused) as refused:
        check(WorkTree(project.folder), "app", "3.9")
    assert refused.value.problems == (
        "requirements/pylock.app.toml is locked for Python 3.11; the settings ask for 3.9",
    )  # fmt: skip


def test_why_shows_every_chain_that_needs_a_package(project: Any, make_sdist: Any) -> None:
    """Run-time and build-time, each behind the shortest chain to who states it; spelled in any way."""
    scm = make_sdist("setuptools-scm", "7.1.0")
    celery = make_sdist("celery", "5.7.0", ["python-dateutil", "six"])
    dateutil = make_sdist("python-dateutil", "2.9.0", ["six>=1.5"], ["setuptools-scm<8"])
    project.lock("celery\nsix\n", [make_sdist("six", "1.17.0"), celery, dateutil], {dateutil[0]: [scm]})
    assert why(WorkTree(project.folder), "app", "Six") == {
        "python3.11-linux_x86_64": [
            "requirements/app.in:2 -> six: 1.17.0",
            "celery 5.7.0 -> six: 1.17.0",
            "celery 5.7.0 -> python-dateutil 2.9.0 -> six >=1.5: 1.17.0",
        ]
    }
    (chain,) = why(WorkTree(project.folder), "app", "setuptools_scm")["python3.11-linux_x86_64"]
    assert chain == "celery 5.7.0 -> python-dateutil 2.9.0 [build] -> setuptools-scm <8: 7.1.0"
    with pytest.raises(Refused, match=r"nothing in requirements/app needs celeri; did you mean 'celery'\?"):
        why(WorkTree(project.folder), "app", "celeri")
