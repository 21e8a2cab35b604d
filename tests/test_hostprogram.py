"""The host program: one zip, the same bytes from the same sources, importable on the oldest Python."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from deploy.hostprogram import LIBRARY, host_program


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    """Times, modes, umask, leftovers and the order of a folder do not reach the zip."""
    digests = set()
    for number, mode in enumerate((0o600, 0o777)):
        copy = tmp_path / str(number)
        mask = os.umask(0o077 if number else 0o022)
        try:
            for package in ("wire", "onhost") if number else ("onhost", "wire"):
                shutil.copytree(LIBRARY / package, copy / package)
        finally:
            os.umask(mask)
        (copy / "wire/__pycache__").mkdir(exist_ok=True)
        (copy / "wire/__pycache__/names.cpython-311.pyc").write_bytes(bytes([number]))
        for path in copy.rglob("*.py"):
            path.chmod(mode)
            os.utime(path, (number * 10**9, number * 10**9))
        digests.add(host_program(copy).sha256)
    assert digests == {host_program().sha256}


def test_another_source_gives_another_digest(tmp_path: Path) -> None:
    """One changed byte in one source changes the name of the program."""
    for package in ("wire", "onhost"):
        shutil.copytree(LIBRARY / package, tmp_path / package)
    with (tmp_path / "wire/names.py").open("a") as file:
        file.write("#")
    assert host_program(tmp_path).sha256 != host_program().sha256


def test_holds_wire_and_onhost_and_nothing_of_the_control_side() -> None:
    """Only what runs on a host is inside, under fixed times and modes."""
    with zipfile.ZipFile(io.BytesIO(host_program().data)) as archive:
        members = archive.infolist()
    names = [member.filename for member in members]
    assert {"__main__.py", "deploy/__init__.py", "deploy/wire/names.py", "deploy/onhost/__init__.py"} <= set(names)
    assert all(
        name == "__main__.py" or name.startswith(("deploy/wire/", "deploy/onhost/", "deploy/__init__"))
        for name in names
    )
    assert names == sorted(names)
    assert {(m.date_time, m.external_attr, m.create_system, m.compress_type) for m in members} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644 << 16, 3, zipfile.ZIP_STORED)
    }


def test_every_module_imports_from_the_zip_on_every_python(tmp_path: Path, pythons: dict[str, str]) -> None:
    """Under -I -S, on each Python 3.8 or newer of this machine, from the zip alone."""
    if not pythons:
        pytest.skip("no Python to try")
    program = tmp_path / "onhost.pyz"
    program.write_bytes(host_program().data)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import deploy.wire.names as n; print(n.__file__, n.is_tag('v1'))"
    )
    for python in pythons.values():
        done = subprocess.run([python, "-I", "-S", "-c", code, program], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{program}/deploy/wire/names.py True\n"), done.stderr
