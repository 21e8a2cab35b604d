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
        check(WorkTree(project.folder), "app", ("3.11",))
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
    project.asked_path.write_text("lib\n-e .\n")
    assert next_step(project) == "edit requirements/app.in, then fab vendor.lock && fab vendor.fetch --prune"
    project.asked_path.unlink()
    assert next_step(project) == "edit requirements/app.in, then fab vendor.lock && fab vendor.fetch --prune"


def test_a_bad_archive_is_not_mended_by_locking_it_again(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """The index serves those bytes: another version, or the package's other kind, is the way out."""
    other = (make_sdist("lib", "1.0")[0], make_sdist("evil", "1.0")[1])
    newer = (make_wheel("lib", "1.0")[0], make_wheel("lib", "2.0")[1])
    run = "then fab vendor.lock && fab vendor.fetch"
    asks = "ask for another version of lib in requirements/app.in, or for its other kind"
    project.lock("lib\n", [other])
    assert next_step(project) == f"{asks} ('# policy: lib wheel'), {run}"
    (project.vendor / other[0]).unlink()
    project.lock("lib\n", [newer])
    assert next_step(project) == f"{asks} ('# policy: lib source'), {run}"
    (project.vendor / newer[0]).unlink()
    app = make_sdist("app", "1.0", [], ["lib"])
    project.lock("app\n", [app], {app[0]: [other]})
    assert next_step(project) == f"ask for the other kind of lib in requirements/app.in ('# policy: lib wheel'), {run}"
    tools = [make_wheel("pip", "26.3"), ("virtualenv-2.0-py3-none-any.whl", make_wheel("virtualenv", "1.0")[1])]
    (project.vendor / other[0]).unlink()
    (project.vendor / "virtualenv-21.15.8-py3-none-any.whl").unlink()
    project.lock("app\n", [make_wheel("app", "1.0")], toolchain=tools)
    (project.vendor / app[0]).unlink()
    assert next_step(project) == f"upgrade sealed-deploy, which pins virtualenv 2.0, {run}"


def test_another_lock_that_cannot_be_read_is_named_with_all_else(project: Any, make_sdist: Any) -> None:
    """Whose files are strays cannot be told then, so none is called one."""
    project.lock("lib\n", [make_sdist("lib", "1.0", ["dep"])])
    (project.vendor / "stray-1.0.tar.gz").write_bytes(b"x")
    (project.folder / "requirements/pylock.other.toml").write_text("nothing")
    hole, other = project.problems()
    assert hole == "lib 1.0 -> dep: not in vendor/"
    assert other.startswith("requirements/pylock.other.toml: not a lock that vendor.lock wrote")
    assert next_step(project) == "mend or remove the lock that cannot be read, then fab vendor.lock && fab vendor.fetch"


@pytest.mark.parametrize(
    ("stray", "how"),
    [
        ("Django-5.2.tar.gz", "under another spelling"),
        ("django-5.2.0.tar.gz", "under another spelling"),
        ("django-5.2.zip", "in another form"),
        ("Django-5.2-py3-none-any.whl", "in another form"),
        ("django-5.1.tar.gz", ""),
    ],
)
def test_stray_of_a_locked_package_says_so(project: Any, make_sdist: Any, stray: str, how: str) -> None:
    """Plain pip would pick one of two files of one version silently."""
    project.lock("django\n", [make_sdist("django", "5.2")])
    (project.vendor / stray).write_bytes(b"x")
    same = f": the same package as django-5.2.tar.gz {how}; pip would pick one of them silently" if how else ""
    assert project.problems() == [f"vendor/{stray}: no lock names it{same}"]


def test_two_locked_files_of_one_version_are_refused(project: Any, make_sdist: Any) -> None:
    """Even where each has its own place: one is a pin, the other builds something."""
    tool, other = make_sdist("tool", "1.0"), make_sdist("tool", "1.0", suffix=".zip")
    lib = make_sdist("lib", "1.0", [], ["tool"])
    project.lock("tool\nlib\n", [tool, lib], {lib[0]: [other]})
    assert project.problems() == [
        "tool-1.0.tar.gz and tool-1.0.zip are one package (tool 1.0); pip would pick one of them silently"
    ]


def test_hostile_archive_is_named_with_what_it_holds(project: Any, make_sdist: Any) -> None:
    """One line with the file and the member, beside every other break."""
    hostile = make_sdist("lib", "1.0", files={"../../evil": ""})
    project.lock("lib\ndep\n", [hostile, make_sdist("dep", "1.0", ["deep"])])
    hole, line = project.problems()
    assert hole == "dep 1.0 -> deep: not in vendor/"
    assert line.startswith("vendor/lib-1.0.tar.gz: holds a member outside its own folder: 'lib-1.0/../../evil' (the ")


def test_another_python_than_the_settings_ask_for_is_a_break(project: Any, make_sdist: Any) -> None:
    """As a deploy would refuse it."""
    project.lock("lib\n", [make_sdist("lib", "1.0")])
    with pytest.raises(Refused) as refused:
        check(WorkTree(project.folder), "app", ("3.9",))
    assert refused.value.problems == (
        "requirements/pylock.app.toml is locked for python3.11-linux_x86_64; the settings ask for Python 3.9",
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
            "requirements/app.in:1 -> celery 5.7.0 -> six: 1.17.0",
            "requirements/app.in:1 -> celery 5.7.0 -> python-dateutil 2.9.0 -> six >=1.5: 1.17.0",
        ]
    }
    (chain,) = why(WorkTree(project.folder), "app", "setuptools_scm")["python3.11-linux_x86_64"]
    assert chain == (
        "requirements/app.in:1 -> celery 5.7.0 -> python-dateutil 2.9.0 [build] -> setuptools-scm <8: 7.1.0"
    )
    with pytest.raises(Refused, match=r"nothing in requirements/app needs celeri; did you mean 'celery'\?"):
        why(WorkTree(project.folder), "app", "celeri")


def test_lock_with_a_version_that_is_none_is_refused(project: Any, make_sdist: Any) -> None:
    """Edited by hand: a refusal, not a crash while versions are compared."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    project.lock_path.write_text(project.lock_path.read_text().replace('version = "1.0"', 'version = "one"'))
    (problem,) = project.problems()
    assert problem.startswith("requirements/pylock.app.toml: not a lock that vendor.lock wrote: InvalidVersion")
