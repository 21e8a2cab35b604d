"""What a closed closure tells the person who keeps it, one line each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deploy.closure import WorkTree, check, examine, lockfile, remarks

SETUP = "setup(ext_modules=[Extension('x', ['x.c'])])\n"


def said(project: Any) -> tuple[str, ...]:
    """The remarks on a project's closure."""
    return remarks(examine(WorkTree(project.folder), "app"))


def test_host_requirements_name_their_archives(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """One line a requirement: compilers first, optional ones marked, build tools too, wheels never."""
    compiled = {"setup.py": SETUP, "a.c": ""}
    optional = {"setup.py": SETUP.replace("'x',", "'x', optional=True,"), "a.c": ""}
    tool = make_sdist("tool", "3.0", files={**compiled, "a.c": "int b;"})
    regex = make_sdist("regex", "2024.1", [], ["tool"], files=compiled)
    psycopg = make_sdist("psycopg2", "2.9.10", files=compiled)
    heif = make_sdist("pillow-heif", "1.8.1", files=compiled)
    project.lock(
        "markupsafe\nregex\npsycopg2\npillow\npillow-heif\nlib\n",
        [
            make_sdist("markupsafe", "3.0.3", files=optional),
            regex,
            psycopg,
            heif,
            make_wheel("pillow", "11.0", tag="cp311-cp311-manylinux_2_28_x86_64"),
            make_sdist("lib", "1.0"),
        ],
        {regex[0]: [tool]},
    )
    compiler = "a C compiler and Python's headers (Debian: gcc python3-dev)"
    compiled_ones = ("markupsafe 3.0.3 (optional)", "pillow-heif 1.8.1", "psycopg2 2.9.10", "regex 2024.1", "tool 3.0")
    assert said(project) == (
        f"hosts need {compiler} for: {', '.join(compiled_ones)}",
        "hosts need libheif's headers (Debian: libheif-dev) for: pillow-heif 1.8.1",
        "hosts need pg_config (Debian: libpq-dev) for: psycopg2 2.9.10",
    )


def test_yanked_and_pre_release_pins_name_who_asks(project: Any, make_sdist: Any) -> None:
    """With the index's reason, and the line or package that asks for it."""
    lib = make_sdist("lib", "1.0", ["dep>=2.0rc1"])
    lock = project.lock("lib==1.0\n", [lib, make_sdist("dep", "2.0rc1")])
    archives = {**lock.archives, lib[0]: replace(lock.archives[lib[0]], yanked="broken on 3.11")}
    project.lock_path.write_text(lockfile.write_lock(replace(lock, archives=archives)))
    assert check(WorkTree(project.folder), "app").archives[lib[0]].yanked == "broken on 3.11"
    assert said(project) == (
        "pre-release: dep 2.0rc1; requirements/app.in:1 -> lib 1.0 -> dep >=2.0rc1",
        "yanked: lib 1.0: broken on 3.11; requirements/app.in:1 -> lib ==1.0",
    )


def test_an_ordinary_closure_calls_for_no_remark(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """Pure source archives and wheels of final versions."""
    project.lock("lib\ndep\n", [make_sdist("lib", "1.0"), make_wheel("dep", "1.0.post1")])
    assert said(project) == ()
