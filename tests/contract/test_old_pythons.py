"""Host code runs on Python 3.8: by its API (vermin) and by being compiled on every interpreter present."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOST_FOLDERS = ("deploy/wire", "deploy/onhost")


def test_host_code_uses_nothing_newer_than_python_3_8() -> None:
    """Vermin, which knows the version of every function of the standard library, asks for 3.8 at most."""
    vermin = Path(sys.executable).with_name("vermin")
    command = [vermin, "--target=3.8-", "--no-tips", "--violations", *HOST_FOLDERS]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


def test_host_code_compiles_on_every_python_present(pythons: dict[str, str]) -> None:
    """Syntax that an old parser refuses would only show on a host."""
    script = "import sys; [compile(open(path, 'rb').read(), path, 'exec') for path in sys.argv[1:]]"
    sources = [str(path) for folder in HOST_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert pythons, "no Python found on this machine"
    for version, python in pythons.items():
        answer = subprocess.run(
            [python, "-I", "-S", "-c", script, *sources], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, f"Python {version}: {answer.stderr}"
