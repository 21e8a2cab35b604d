"""What hosts need to build an sdist is read from its files, and from tables where files cannot tell."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.closure import metadata, native
from deploy.closure.native import Native

SETUP = "from setuptools import Extension, setup\nsetup(ext_modules=[Extension('x', ['x.c'])])\n"


@pytest.mark.parametrize(
    ("files", "setup", "pyproject", "expected"),
    [
        (["lib/a.c"], SETUP, {}, Native(("c",))),
        (["lib/a.pyx"], "setup(ext_modules=cythonize('lib/a.pyx'))", {}, Native(("c",))),
        (["lib/a.cpp"], "setup(ext_modules=[Extension('x', ['lib/a.cpp'])])", {}, Native(("c++",))),
        (["lib/a.c", "lib/b.cpp"], "setup(ext_modules=[Extension('x', ['a.c', 'b.cpp'])])", {}, Native(("c++",))),
        (["lib/a.c", "bundled/tool.cpp"], SETUP, {}, Native(("c",))),
        (["lib/a.c"], "setup(cffi_modules=['build.py:ffi'])", {}, Native(("c",))),
        (["lib/a.c"], "", {"tool": {"setuptools": {"ext-modules": [{"name": "a"}]}}}, Native(("c",))),
        (["src/lib.rs"], "", {"build-system": {"build-backend": "maturin"}}, Native(("rust",))),
        (["src/lib.rs"], "", {"build-system": {"requires": ["setuptools-rust"]}}, Native(("rust",))),
        (["rust/lib.rs", "lib/a.c"], SETUP, {"build-system": {"requires": ["setuptools"]}}, Native(("c",))),
        (["a.c", "b.cc"], "", {"build-system": {"build-backend": "mesonpy"}}, Native(("c++",))),
        (["lib/a.c"], SETUP.replace("'x', ", "'x', optional=True, "), {}, Native(("c",), optional=True)),
        (["lib/a.c"], SETUP.replace("'x', ", "'x', optional=False, "), {}, Native(("c",))),
        (["lib/a.c"], SETUP + "class BuildFailed(Exception): ...\n", {}, Native(("c",), optional=True)),
        (["tests/a.c", "docs/b.c", "lib/benchmarks/c.c"], SETUP, {}, Native()),
        (["lib/a.c"], "setup(name='lib')  # no ext_modules here", {}, Native()),
        (["launcher.c"], "", {"build-system": {"build-backend": "own", "backend-path": ["."]}}, Native()),
        (["lib/a.py"], SETUP, {}, Native()),
        (["lib/a.c"], SETUP, {"build-system": 1, "tool": {"setuptools": "odd"}}, Native(("c",))),
    ],
)
def test_what_is_read_from_an_sdist(files: list[str], setup: str, pyproject: dict[str, Any], expected: Native) -> None:
    """Sources count where the build declares that it compiles, and what is optional is told apart."""
    assert native.needs(files, setup.encode(), pyproject) == expected


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_says_what_it_compiles(make_sdist: Any, suffix: str) -> None:
    """From the archive's own bytes, without running them."""
    file, data = make_sdist("lib", "1.0", files={"setup.py": SETUP, "lib/a.c": "int a;"}, suffix=suffix)
    assert metadata.read(file, data).native == Native(("c",))


def test_what_is_known_of_a_package_beats_its_files() -> None:
    """One package says optional of other extensions than its own, another declares nothing at all."""
    assert native.of("gevent", Native(("c",), optional=True)) == Native(("c",))
    assert native.of("uwsgi", Native()) == Native(("c",))
    assert native.of("lib", Native(("rust",))) == Native(("rust",))
