"""``check`` finds every way in which pins and vendor/ are not one closed set, all in one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, check, read, why
from deploy.errors import Refused


def test_closed_set_passes(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """A closure with nested run-time and build requirements, an sdist and a wheel is closed."""
    tool = make_sdist("tool", "3.0")
    lib = make_sdist("lib", "1.0", ["dep>=1"], ["tool>=2"])
    project.lock("lib\n", [make_wheel("dep", "1.5"), lib], {lib[0]: [tool]})
    assert project.problems() == []


def test_nested_run_time_hole_is_a_chain(project: Any, make_sdist: Any) -> None:
    """A requirement of a requirement that nothing meets is named with the whole chain."""
    project.lock("app-lib\n", [make_sdist("app-lib", "1.0", ["mid"]), make_sdist("mid", "2.0", ["deep>=3"])])
    assert project.problems() == ["app-lib 1.0 -> mid 2.0 -> deep >=3: not in vendor/"]


def test_nested_build_hole_is_a_chain(project: Any, make_sdist: Any) -> None:
    """The issue's own example: a build requirement of a nested package, met only in another version."""
    scm = make_sdist("setuptools-scm", "10.3.4")
    celery = make_sdist("celery", "5.7.0", ["python-dateutil"])
    dateutil = make_sdist("python-dateutil", "2.9.0", [], ["setuptools-scm<8"])
    project.lock("celery\n", [celery, dateutil], {dateutil[0]: [scm]})
    assert project.problems() == [
        "celery 5.7.0 -> python-dateutil 2.9.0 [build] -> setuptools-scm <8: not in vendor/ (have 10.3.4)"
    ]


def test_build_tools_need_their_own_environment(project: Any, make_sdist: Any) -> None:
    """A build tool's run-time requirement and its own build requirement are both followed."""
    tool = make_sdist("tool", "1.0", ["tool-dep"], ["seed"])
    lib = make_sdist("lib", "1.0", [], ["tool"])
    project.lock("lib\n", [lib], {lib[0]: [tool]})
    assert project.problems() == [
        "lib 1.0 [build] -> tool 1.0 -> tool-dep: not in vendor/",
        "lib 1.0 [build] -> tool 1.0 [build] -> seed: not in vendor/",
    ]


def test_dynamic_build_requirement_is_followed(project: Any, make_sdist: Any) -> None:
    """What a backend asked for only when it was run counts like what pyproject.toml says."""
    lib = make_sdist("lib", "1.0")
    project.lock("lib\n", [lib], dynamic={lib[0]: ("calver",)})
    assert project.problems() == ["lib 1.0 [build] -> calver: not in vendor/"]


def test_two_versions_of_one_tool_side_by_side(project: Any, make_sdist: Any) -> None:
    """Two build environments may hold two versions of one tool."""
    old, new = make_sdist("tool", "7.0"), make_sdist("tool", "8.0")
    one, two = make_sdist("one", "1.0", [], ["tool<8"]), make_sdist("two", "1.0", [], ["tool>=8"])
    project.lock("one\ntwo\n", [one, two], {one[0]: [old], two[0]: [new]})
    assert project.problems() == []


def test_version_locked_elsewhere_does_not_count_here(project: Any, make_sdist: Any) -> None:
    """A version that only another build environment holds does not close this one, and the error says so."""
    old, new = make_sdist("tool", "7.0"), make_sdist("tool", "8.0")
    one, two = make_sdist("one", "1.0", [], ["tool<8"]), make_sdist("two", "1.0", [], ["tool>=8"])
    project.lock("one\ntwo\n", [one, two, new], {one[0]: [old], two[0]: [old]})
    assert project.problems() == [
        "two 1.0 [build] -> tool >=8: in vendor/, but not locked for this place (have 7.0, 8.0)"
    ]


def test_build_loop_is_reported_as_a_loop(project: Any, make_sdist: Any) -> None:
    """Two tools that need each other to be built are shown as the loop they are, with the way out."""
    egg = make_sdist("egg", "1.0", [], ["hen"])
    hen = make_sdist("hen", "1.0", [], ["egg"])
    project.lock("egg\n", [egg], {egg[0]: [hen], hen[0]: [egg]})
    assert len(project.problems()) == 1
    assert "egg 1.0 -> hen 1.0 -> egg 1.0" in project.problems()[0]
    assert "# policy:" in project.problems()[0]


def test_names_that_differ_in_case_and_dashes_are_one_package(project: Any, make_sdist: Any) -> None:
    """`Django`, `django` and `Zope.Interface`, `zope_interface` meet each other (PEP 503)."""
    zope = make_sdist("zope.interface", "7.0")
    project.lock("Django\n", [make_sdist("django", "5.2", ["Zope_Interface>=6"]), zope])
    assert project.problems() == []


def test_two_spellings_of_one_package_are_refused(project: Any, make_sdist: Any) -> None:
    """Two files of one package are an error: pip would pick one of them silently."""
    project.lock("Django\n", [make_sdist("Django", "5.2"), make_sdist("django", "5.1")])
    assert any("are one package (django)" in line for line in project.problems())


@pytest.mark.parametrize(
    ("marker", "needed"),
    [
        ("python_version < '3.12'", True),
        ("python_version >= '3.12'", False),
        ("sys_platform == 'win32'", False),
        ("platform_machine == 'x86_64'", True),
        ("implementation_name == 'pypy'", False),
        ("python_full_version < '3.11.8'", True),
        ("extra == 'all'", False),
    ],
)
def test_markers_are_judged_for_the_target(project: Any, make_sdist: Any, marker: str, *, needed: bool) -> None:
    """A requirement counts where its marker holds on the target, whatever machine asks."""
    project.lock("lib\n", [make_sdist("lib", "1.0", [f"dep; {marker}"])])
    assert project.problems() == (["lib 1.0 -> dep: not in vendor/"] if needed else [])


def test_extras_are_followed_from_root_and_from_requirements(project: Any, make_sdist: Any) -> None:
    """`lib[fast]` brings in what `fast` needs, also through another package, and no other extra."""
    lib = make_sdist("lib", "1.0", ['speed; extra == "fast"', 'docs; extra == "docs"'])
    project.lock("lib[Fast]\n", [lib])
    assert project.problems() == ["lib 1.0 -> speed: not in vendor/"]
    project.lock("top\n", [lib, make_sdist("top", "1.0", ["lib[fast]", "lib"])])
    assert project.problems() == ["top 1.0 -> lib 1.0 -> speed: not in vendor/"]


def test_root_that_nothing_meets_names_its_line(project: Any, make_sdist: Any) -> None:
    """What a person wrote and no pin meets is named by file and line."""
    project.lock("# comment\nlib>=2\n", [make_sdist("lib", "1.0")])
    assert project.problems() == ["requirements/app.in:2 -> lib >=2: not in vendor/ (have 1.0)"]


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


def test_symlink_in_vendor_is_not_a_file(project: Any, make_sdist: Any, tmp_path: Any) -> None:
    """A symlink to the right bytes is missing: git would ship the name of its target."""
    one = make_sdist("one", "1.0")
    project.lock("one\n", [one])
    (project.vendor / one[0]).rename(tmp_path / "elsewhere")
    (project.vendor / one[0]).symlink_to(tmp_path / "elsewhere")
    assert project.problems() == ["vendor/one-1.0.tar.gz: missing (one 1.0 is pinned)"]


def test_files_of_another_lock_are_not_strays(project: Any, make_sdist: Any) -> None:
    """All locks of requirements/ share vendor/."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    other = project.lock_path.with_name("pylock.dev.toml")
    other.write_text(project.lock_path.read_text())
    project.lock("two\n", [make_sdist("two", "1.0")])
    assert project.problems() == []
    other.write_text("format = broken")
    assert any("pylock.dev.toml: not a lock" in line for line in project.problems())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-i https://index.example/simple", "option lines are refused (-i)"),
        ("--extra-index-url https://index.example/simple", "option lines are refused (--extra-index-url)"),
        ("-f ./elsewhere", "option lines are refused (-f)"),
        ("--find-links=https://files.example", "option lines are refused (--find-links=https://files.example)"),
        ("-e .", "option lines are refused (-e)"),
        ("-r other.in", "option lines are refused (-r)"),
        ("lib @ https://files.example/lib.tar.gz", "a URL requirement is refused"),
        ("lib@https://files.example/lib.tar.gz", "a URL requirement is refused"),
        ("https://files.example/lib.tar.gz", "a URL requirement is refused"),
        ("git+https://git.example/lib", "a VCS requirement is refused"),
        ("lib @ git+ssh://git.example/lib", "a VCS requirement is refused"),
        ("lib \\\n  --index-url https://index.example", ""),
    ],
)
@pytest.mark.parametrize("file", ["app.in", "app.txt"])
def test_lines_that_look_past_vendor_are_refused(
    project: Any, make_sdist: Any, file: str, line: str, says: str
) -> None:
    """Options, URLs and VCS requirements are refused with file and line, in what people write and in the pins."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    path = project.folder / "requirements" / file
    number = len(path.read_text().splitlines()) + 1
    path.write_text(f"{path.read_text()}{line}\n")
    assert any(p.startswith(f"requirements/{file}:{number}: ") and says in p for p in project.problems())


def test_pins_and_lock_are_compared_both_ways(project: Any, make_sdist: Any) -> None:
    """A pin removed from the text, one added and one with another hash are each named."""
    project.lock("one\ntwo\n", [make_sdist("one", "1.0"), make_sdist("two", "1.0")])
    lines = [line for line in project.pins_path.read_text().splitlines() if "one-1.0" not in line]
    lines = [line[:-64] + "0" * 64 if "two-1.0" in line else line for line in lines]
    project.pins_path.write_text("\n".join([*lines, f"./vendor/new-1.0.tar.gz --hash=sha256:{'1' * 64}"]) + "\n")
    found = "\n".join(project.problems())
    assert "one-1.0.tar.gz is locked but not pinned here" in found
    assert "new-1.0.tar.gz is pinned here but not locked" in found
    assert "two-1.0.tar.gz has another hash than the lock" in found


def test_changed_in_file_is_noticed(project: Any, make_sdist: Any) -> None:
    """A requirement dropped from the .in file makes the lock stale, even where everything is still met."""
    project.lock("one\ntwo\n", [make_sdist("one", "1.0"), make_sdist("two", "1.0")])
    project.asked_path.write_text("one\n")
    assert project.problems() == ["requirements/app.in: changed since it was locked"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.bz2", ".tar.xz"])
def test_every_sdist_format_is_read(project: Any, make_sdist: Any, suffix: str) -> None:
    """Requirements are read from .zip, .tar.bz2 and .tar.xz as from .tar.gz."""
    project.lock("lib\n", [make_sdist("lib", "1.0", ["dep"], ["tool"], suffix=suffix)])
    assert project.problems() == ["lib 1.0 -> dep: not in vendor/", "lib 1.0 [build] -> tool: not in vendor/"]


def test_metadata_that_disagrees_with_the_file_name(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """An archive whose own metadata states another name or version is refused."""
    _, other = make_sdist("evil", "1.0")
    _, newer = make_wheel("dep", "2.0")
    project.lock("lib\ndep\n", [("lib-1.0.tar.gz", other), ("dep-1.0-py3-none-any.whl", newer)])
    found = "\n".join(project.problems())
    assert "vendor/lib-1.0.tar.gz: the file name says lib 1.0, its metadata says evil 1.0" in found
    assert "vendor/dep-1.0-py3-none-any.whl: the file name says dep 1.0, its metadata says dep 2.0" in found
    assert found.count("(the index serves it so: these are the pinned bytes)") == 2


def test_lock_stands_in_where_an_sdist_cannot_tell(project: Any, make_sdist: Any) -> None:
    """Old or dynamic metadata is not trusted for what it leaves out: the lock's record counts."""
    old = make_sdist("old", "1.0", standard="2.1")
    dynamic = make_sdist("dyn", "1.0", extra="Dynamic: Requires-Dist\n")
    project.lock("old\ndyn\n", [old, dynamic], recorded={old[0]: ("a",), dynamic[0]: ("b",)})
    assert project.problems() == ["old 1.0 -> a: not in vendor/", "dyn 1.0 -> b: not in vendor/"]


def test_static_metadata_beats_the_lock(project: Any, make_sdist: Any) -> None:
    """A lock that was edited to forget a requirement does not hide it."""
    lib = make_sdist("lib", "1.0", ["dep"])
    project.lock("lib\n", [lib], recorded={lib[0]: ()})
    assert project.problems() == ["lib 1.0 -> dep: not in vendor/"]


def test_requires_python_is_judged_for_the_target(project: Any, make_sdist: Any) -> None:
    """An archive that does not let the target's Python in is refused."""
    project.lock("lib\n", [make_sdist("lib", "1.0", extra="Requires-Python: >=3.12\n")])
    assert project.problems() == ["lib-1.0.tar.gz: requires Python >=3.12; the target has 3.11.7"]


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp311-cp311-manylinux_2_28_x86_64", True),
        ("cp38-abi3-manylinux1_x86_64", True),
        ("cp311-cp311-manylinux_2_34_x86_64", False),
        ("cp312-cp312-manylinux_2_17_x86_64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("cp311-cp311-manylinux_2_17_aarch64", False),
        ("cp311-cp311-macosx_11_0_arm64", False),
    ],
)
def test_wheel_tags_fit_the_target(project: Any, make_wheel: Any, tag: str, *, fits: bool) -> None:
    """A wheel must fit the target's Python, processor and a glibc no newer than the target's."""
    project.lock("lib\n", [make_wheel("lib", "1.0", tag=tag)])
    says = f"lib-1.0-{tag}.whl: does not fit python3.11-linux_x86_64 with glibc 2.28"
    assert project.problems() == ([] if fits else [says])


def test_toolchain_is_part_of_the_closure(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """A missing pip, and a virtualenv whose own requirement is missing, are holes."""
    project.lock("one\n", [make_sdist("one", "1.0")], toolchain=[make_wheel("virtualenv", "21.0", ["filelock"])])
    assert project.problems() == [
        "toolchain -> pip: not in vendor/",
        "toolchain -> virtualenv 21.0 -> filelock: not in vendor/",
    ]


def test_sdist_without_a_locked_environment(project: Any, make_sdist: Any) -> None:
    """An sdist that the lock has no build environment for is a hole, not an empty environment."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    text = project.lock_path.read_text()
    start = text.index("[[tool.sealed-deploy.builds]]")
    project.lock_path.write_text(text[:start] + text[text.index("[[tool.sealed-deploy.archives]]") :])
    assert project.problems() == ["one 1.0 [build]: its build environment is not locked"]


def test_url_in_metadata_is_refused(project: Any, make_sdist: Any) -> None:
    """A package that asks for a URL would reach past vendor/."""
    project.lock("lib\n", [make_sdist("lib", "1.0", ["dep @ https://files.example/dep.zip"])])
    assert project.problems() == ["lib 1.0 -> dep: asks for https://files.example/dep.zip; nothing but vendor/ is used"]


def test_no_lock_at_all_says_so(project: Any) -> None:
    """Without a lock the answer is exit 2 and the command that writes one."""
    with pytest.raises(Refused, match="nothing is locked") as refused:
        check(WorkTree(project.folder), "app")
    assert refused.value.exit_code == 2
    assert refused.value.next_step == "fab vendor.lock"


def test_newer_lock_format_is_refused(project: Any, make_sdist: Any) -> None:
    """A lock of a newer format asks for an upgrade and is never half understood."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    project.lock_path.write_text(project.lock_path.read_text().replace("format = 2", "format = 3"))
    with pytest.raises(Refused, match="upgrade it"):
        read(WorkTree(project.folder), "app")


def test_hand_edited_standard_part_is_refused(project: Any, make_sdist: Any) -> None:
    """The part for other installers must say what the library's own part says."""
    project.lock("one\n", [make_sdist("one", "1.0")])
    text = project.lock_path.read_text()
    project.lock_path.write_text(text.replace('path = "../vendor/one', 'path = "../elsewhere/one'))
    assert "disagree" in project.problems()[0]


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
        ("notes.txt", ""),
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
