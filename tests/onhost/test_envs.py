"""Installed packages kept by env key: releases share what nothing may write, and keep scripts of their own that run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.onhost import envs
from deploy.onhost.layout import Layout, remove_tree

KEY = "k" * 64
ENTRY_POINT = "import sys\nprint('hello from', sys.argv[1:], __name__)\n"


@pytest.fixture
def installed(layout: Layout) -> Callable[..., Path]:
    """A virtualenv as pip leaves it: a package with its RECORD, a script, a data file. The path may be an odd one."""

    def make(at: str = "releases/v1-01234567/venv", code: str = "", script: str = "") -> Path:
        venv = layout.root / at
        before = empty(venv)
        site = envs.site_packages(venv)
        (site / "tiny-1.0.dist-info").mkdir()
        (site / "tiny.py").write_text(code or "VALUE = 1\n")
        (site / "tiny-1.0.dist-info/RECORD").write_text(
            "tiny.py,sha256=abc,10\n../../../bin/tiny,sha256=def,99\ntiny-1.0.dist-info/RECORD,,\n"
        )
        (venv / "bin/tiny").write_text(script or f"#!{venv}/bin/python\n{ENTRY_POINT}")
        (venv / "bin/tiny").chmod(0o755)
        (venv / "share").mkdir()
        (venv / "share/tiny.txt").write_text("data")
        made[venv] = before
        return venv

    made: dict[Path, set[str]] = {}
    make.before = made  # type: ignore[attr-defined]
    return make


def empty(venv: Path) -> set[str]:
    """An empty virtualenv at this path; returns what it holds."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    envs.site_packages(venv).mkdir(parents=True)
    return envs.contents(venv)


def capture(layout: Layout, installed: Callable[..., Path], venv: Path) -> bool:
    """Move it into the store."""
    before: dict[Path, set[str]] = installed.before  # type: ignore[attr-defined]
    return envs.capture(layout, KEY, venv, before[venv], {"sealed": "kernel"})


def say(venv: Path, name: str = "tiny") -> str:
    """Run a script of the virtualenv as a service would: by its path, through the kernel."""
    return subprocess.run([venv / "bin" / name, "a b"], capture_output=True, text=True, check=True).stdout


def test_what_was_installed_moves_and_is_linked_back(layout: Layout, installed: Callable[..., Path]) -> None:
    """The first release uses its own entry; the entry is complete, read-only and equal to its marker."""
    venv = installed()
    assert capture(layout, installed, venv)
    site = envs.site_packages(venv)
    assert site.is_symlink()
    assert not str(site.readlink()).startswith("/")
    assert (site / "tiny.py").read_text() == "VALUE = 1\n"
    assert say(venv) == "hello from ['a b'] __main__\n"
    assert envs.known(layout) == [KEY]
    assert envs.differences(layout, KEY) == []
    about = envs.marker(layout, KEY)
    assert about is not None
    assert about["sealed"] == "kernel"
    entry = layout.envs / KEY
    assert {p.stat().st_mode & 0o222 for p in [entry, *entry.rglob("*")]} == {0}


def test_a_second_release_gets_the_packages_and_scripts_of_its_own(
    layout: Layout, installed: Callable[..., Path]
) -> None:
    """Its scripts start its own interpreter, not the first release's, and go on after the first one is gone."""
    first = installed()
    capture(layout, installed, first)
    second = layout.root / "releases/v2-89abcdef/venv"
    empty(second)
    envs.link(layout, KEY, second)
    text = (second / "bin/tiny").read_text()
    assert f"{second}/bin/python" in text
    assert str(first) not in text
    assert (second / "share/tiny.txt").read_text() == "data"
    remove_tree(first)
    assert say(second) == "hello from ['a b'] __main__\n"


def test_records_name_scripts_without_their_hash(layout: Layout, installed: Callable[..., Path]) -> None:
    """Each release has its own, so one hash would be wrong for all others; PEP 376 allows to leave it out."""
    venv = installed()
    capture(layout, installed, venv)
    lines = (envs.site_packages(venv) / "tiny-1.0.dist-info/RECORD").read_text().splitlines()
    assert lines == ["tiny.py,sha256=abc,10", "../../../bin/tiny,,", "tiny-1.0.dist-info/RECORD,,"]


@pytest.mark.parametrize("folder", ["x" * 150, "with a space", "it's", "x" * 90 + " y"])
def test_scripts_run_below_paths_that_no_interpreter_line_takes(
    layout: Layout, installed: Callable[..., Path], folder: str
) -> None:
    """Longer than 127 bytes or with a space: pip's own /bin/sh form, which any kernel can start."""
    venv = installed()
    capture(layout, installed, venv)
    odd = layout.root / folder / "venv"
    empty(odd)
    envs.link(layout, KEY, odd)
    assert say(odd) == "hello from ['a b'] __main__\n"
    first = (odd / "bin/tiny").read_bytes().split(b"\n")[0]
    assert len(first) <= envs.SHEBANG_BYTES


@pytest.mark.parametrize("folder", ["x" * 150, "with a space"])
def test_options_of_an_interpreter_line_survive_such_paths(
    layout: Layout, installed: Callable[..., Path], folder: str
) -> None:
    """`#!python -E` is two words, of which only the first is a path."""
    venv = layout.root / "releases/v1-01234567/venv"
    installed(script=f"#!{venv}/bin/python -E\n{ENTRY_POINT}")
    capture(layout, installed, venv)
    odd = layout.root / folder / "venv"
    empty(odd)
    envs.link(layout, KEY, odd)
    assert say(odd) == "hello from ['a b'] __main__\n"


def test_an_entry_captured_below_a_long_path_serves_a_short_one(layout: Layout, installed: Callable[..., Path]) -> None:
    """What pip wrote there is the /bin/sh form already."""
    venv = layout.root / ("x" * 150) / "venv"
    script = f"#!/bin/sh\n'''exec' \"{venv}/bin/python\" \"$0\" \"$@\"\n' '''\n{ENTRY_POINT}"
    installed(at=f"{'x' * 150}/venv", script=script)
    capture(layout, installed, venv)
    assert say(venv) == "hello from ['a b'] __main__\n"
    short = layout.root / "releases/v2-89abcdef/venv"
    empty(short)
    envs.link(layout, KEY, short)
    remove_tree(venv)
    assert say(short) == "hello from ['a b'] __main__\n"


def test_other_scripts_are_kept_byte_for_byte(layout: Layout, installed: Callable[..., Path]) -> None:
    """A shell script, and one that asks env for python, name no release."""
    venv = installed(script="#!/bin/sh\necho hello from \"['$1']\" __main__\n")
    capture(layout, installed, venv)
    assert (venv / "bin/tiny").read_text() == "#!/bin/sh\necho hello from \"['$1']\" __main__\n"
    assert say(venv) == "hello from ['a b'] __main__\n"


def baked_module(venv: Path) -> None:
    """Write the path into a module."""
    (envs.site_packages(venv) / "config.py").write_text(f"PREFIX = '{venv}'\n")


def baked_data(venv: Path) -> None:
    """Write it into a data file."""
    (venv / "share/tiny.txt").write_text(f"prefix={venv}\n")


def baked_binary(venv: Path) -> None:
    """Write it into a program."""
    (venv / "bin/tool").write_bytes(b"\x7fELF\0\0" + os.fsencode(str(venv)) + b"/lib\0")


@pytest.mark.parametrize("bake", [baked_module, baked_data, baked_binary])
def test_packages_that_bake_the_path_in_stay_private(
    layout: Layout, installed: Callable[..., Path], bake: Callable[[Path], None]
) -> None:
    """In a module, a data file or a binary: nothing is moved or patched, nothing is shared."""
    venv = installed()
    bake(venv)
    assert not capture(layout, installed, venv)
    assert not envs.site_packages(venv).is_symlink()
    assert envs.known(layout) == []
    assert say(venv) == "hello from ['a b'] __main__\n"


def test_an_altered_entry_is_found(layout: Layout, installed: Callable[..., Path]) -> None:
    """One changed byte in shared packages is a difference of every release that links to them."""
    venv = installed()
    capture(layout, installed, venv)
    path = layout.envs / KEY / "site-packages/tiny.py"
    path.chmod(0o644)
    path.write_text("VALUE = 2\n")
    path.chmod(0o444)
    assert envs.differences(layout, KEY) == [f"environment {KEY[:12]}: altered: site-packages/tiny.py"]


def test_an_entry_without_its_marker_is_not_known(layout: Layout, installed: Callable[..., Path]) -> None:
    """A crash before the marker leaves garbage, not an environment; nor is one of a format to come."""
    venv = installed()
    capture(layout, installed, venv)
    path = layout.envs / KEY / envs.MARKER
    text = path.read_text()
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_text(text.replace('"format":1', '"format":2'))
    assert envs.marker(layout, KEY) is None
    path.unlink()
    assert envs.known(layout) == []
    assert envs.differences(layout, KEY) == [f"environment {KEY[:12]} is missing"]
