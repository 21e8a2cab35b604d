"""``setup_requires`` of a setup.py: what setuptools would fetch while building is found, locked and fetched before."""

from __future__ import annotations

from pathlib import Path

import pytest
from virtualenv.seed.wheels.embed import get_embed_wheel

from deploy.closure import WorkTree, check, fetch, lock
from tests.closure.conftest import PYTHON, Folder, ask, pack, sdist, silent, wheel
from tests.hosts.projects import REPOSITORY

SETUP = """
import setuptools
needs = ["stamp>=1; python_version>'3'", "Other"]
setuptools.setup(name="lib", version="1.0", py_modules=["lib"], setup_requires=needs)
"""


@pytest.mark.slow
def test_setup_requires_is_locked_as_a_build_requirement(index: Folder, root: Path) -> None:
    """With the real setuptools, from its own sdist, for an archive that has nothing but a setup.py."""
    for name in ("setuptools-*.tar.gz", "wheel-*.whl", "packaging-*.whl"):
        (path,) = (REPOSITORY / "demo/vendor").glob(name)
        index.offer((path.name, path.read_bytes()))
    quick = get_embed_wheel("setuptools", PYTHON)  # of the same version: pip resolves it without building it
    if quick is not None:
        index.offer((quick.path.name, quick.path.read_bytes()))
    info = "Metadata-Version: 1.2\nName: lib\nVersion: 1.0\n"
    files = {"lib-1.0/PKG-INFO": info, "lib-1.0/setup.py": SETUP, "lib-1.0/lib.py": ""}
    index.offer(("lib-1.0.tar.gz", pack("x.tar.gz", files)), wheel("lib", "1.0"))
    index.offer(sdist("stamp", "2.0", files={"stamp.py": ""}), wheel("stamp", "2.0"), wheel("other", "1.0"))
    ask(root, "lib\n")
    locked = lock(root, "app", (PYTHON,), silent).lock
    build = locked.targets[0].builds["lib-1.0.tar.gz"]
    assert build.static == ("setuptools>=40.8.0", "wheel")
    assert [text.partition(";")[0] for text in build.dynamic] == ["Other", "stamp>=1"]
    assert any(file.startswith("setuptools-") and file.endswith(".tar.gz") for file in build.environment)
    assert {locked.archives[file].name for file in build.environment} == {
        "other", "packaging", "setuptools", "stamp", "wheel",
    }  # fmt: skip
    fetch(root, "app", silent)
    check(WorkTree(root), "app")
