"""What every test shares: a clean environment and the Pythons of this machine. No fakes live here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_FOREIGN = ("PIP_", "UV_", "GIT_", "FABRIC_", "INVOKE_", "VIRTUALENV_", "PYTHONPATH", "PYTHONHOME", "SSH_")
_MINORS = range(8, 16)


def pytest_configure(config: pytest.Config) -> None:
    """Take away what the developer's own configuration would add: tests see one environment everywhere.

    Before any fixture, session-wide ones included; xdist's workers come through here as well.
    """
    pythons = _find_pythons()
    for number in (signal.SIGHUP, signal.SIGTERM):
        if (
            signal.getsignal(number) == signal.SIG_IGN
        ):  # under nohup(1); commands that are started here would inherit it
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="sealed-deploy-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ.update(
        HOME=home,
        XDG_CACHE_HOME=f"{home}/.cache",
        XDG_CONFIG_HOME=f"{home}/.config",
        XDG_STATE_HOME=f"{home}/.local/state",
        LC_ALL="C.UTF-8",
        TZ="UTC",
        GIT_CONFIG_NOSYSTEM="1",
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_AUTHOR_NAME="Author",
        GIT_AUTHOR_EMAIL="author@example.org",
        GIT_COMMITTER_NAME="Committer",
        GIT_COMMITTER_EMAIL="committer@example.org",
        SEALED_DEPLOY_PYTHONS=os.pathsep.join(pythons.values()),
    )
    config.stash[_PYTHONS] = pythons


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests counted (``record_property("counted: THING", {name: number})``), summed over all of them."""
    counted: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, numbers in report.user_properties:
            if report.when == "call" and name.startswith("counted: "):
                counted.setdefault(name, Counter()).update(numbers)
    for name, numbers in counted.items():
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{number} {what}" for what, number in numbers.items()))


_PYTHONS = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def pythons(pytestconfig: pytest.Config) -> dict[str, str]:
    """Every Python 3.8 or newer of this machine, one a minor version: ``{"3.8": "/usr/bin/python3.8", ...}``."""
    return pytestconfig.stash[_PYTHONS]


def _find_pythons() -> dict[str, str]:
    """Look in SEALED_DEPLOY_PYTHONS (paths, colon-separated), on PATH and where pyenv and uv put interpreters."""
    named = [Path(path) for path in os.environ.get("SEALED_DEPLOY_PYTHONS", "").split(os.pathsep) if path]
    homes = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python", Path("/opt/python")]
    folders = [Path(path) for path in os.get_exec_path()]
    folders += [folder for home in homes if home.is_dir() for folder in sorted(home.glob("*/bin"))]
    candidates = named + [folder / f"python3.{minor}" for folder in folders for minor in _MINORS]
    found: dict[str, str] = {}
    for candidate in candidates:
        # A version manager's shim is a script that answers for a Python that may not be there.
        if candidate.is_file() and os.access(candidate, os.X_OK) and "shims" not in candidate.parts:
            version = _version(candidate)
            if version:
                found.setdefault(version, str(candidate))
    return dict(sorted(found.items(), key=lambda item: int(item[0].split(".")[1])))


def _version(python: Path) -> str:
    command = [str(python), "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    text = answer.stdout.strip()
    return text if answer.returncode == 0 and text in {f"3.{minor}" for minor in _MINORS} else ""
