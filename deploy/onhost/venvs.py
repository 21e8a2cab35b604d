"""Make empty virtualenvs with the vendored virtualenv: never from ensurepip, never downloading."""

from __future__ import annotations

import sys
from pathlib import Path

from .sealed import Sealer, give_to_build_user, take_back
from .session import Session, StepFailed


def make(session: Session, sealer: Sealer, venv: Path) -> Path:
    """Make an empty virtualenv at the very path it will live at; returns its python. Raises StepFailed."""
    venv.mkdir(mode=0o755)
    give_to_build_user(session, venv)
    known = sealer.work / "app-data"  # what virtualenv learned about the interpreter
    known.mkdir(mode=0o755, exist_ok=True)
    give_to_build_user(session, known)
    arguments = ["--no-seed", "--no-periodic-update", "--app-data", str(known)]
    arguments += ["--no-vcs-ignore", "--python", sys.executable, str(venv)]
    made = sealer.module("virtualenv", arguments, "virtualenv", into=[venv, known])
    take_back(session, venv)
    if not made.ok:
        raise StepFailed("venv", "virtualenv: %s" % made.cause(), "", made.tail())
    return venv / "bin" / "python"
