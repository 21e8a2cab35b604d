"""The host program on every Python of this machine, 3.8 to the newest: from its zip, under -I -S."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from deploy.hostprogram import host_program
from deploy.link import launch
from deploy.onhost.layout import remove_tree

CHECK = Path(__file__).with_name("selfcheck.py")
PARTS = ["files", "lock_and_journal", "switch", "children", "keys", "conversation"]


def test_the_host_program_holds_on_every_python(pythons: dict[str, str], tmp_path: Path) -> None:
    """Files, lock, journal, switch, sealed children and a whole conversation, on real folders and processes."""
    assert pythons, "no Python found on this machine"
    program = tmp_path / "onhost.pyz"
    program.write_bytes(host_program().data)
    running: dict[str, subprocess.Popen[str]] = {}
    for version, python in pythons.items():
        root = tmp_path / version
        (root / ".deploy").mkdir(parents=True)
        argv = [python, "-I", "-S", str(CHECK), str(program), str(root), launch.loader()]
        running[version] = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    answers = {version: process.communicate(timeout=120) for version, process in running.items()}
    for version, (said, errors) in answers.items():
        assert running[version].returncode == 0, f"Python {version}: {errors}"
        assert json.loads(said) == PARTS, f"Python {version}"
        remove_tree(tmp_path / version)
