"""Running ssh-keygen and gpg: in an environment of their own, with their whole output. Knows nothing of tags."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.bundle.git import NO_HOST
from deploy.errors import Refused

_KEPT = ("HOME", "PATH", "TMPDIR", "TZ")
_PACKAGES = {"ssh-keygen": "openssh-client", "gpg": "gnupg"}
_DEADLINE_S = 60


@dataclass(frozen=True)
class Ran:
    """How it ended. ``err`` is its last line on stderr that says something."""

    ok: bool
    out: str
    err: str


def run(words: Sequence[str], stdin: bytes = b"") -> Ran:
    """Run one of them to its end. Raises Refused where it is not installed or does not end."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        done = subprocess.run(
            words,
            env={**environment, "LC_ALL": "C"},
            input=stdin,
            capture_output=True,
            check=False,
            timeout=_DEADLINE_S,
        )
    except FileNotFoundError:
        step = f"install it on this machine (Debian: apt-get install {_PACKAGES[words[0]]})"
        raise Refused(NO_HOST, f"{words[0]} is not installed: signatures cannot be verified", step) from None
    except subprocess.TimeoutExpired:
        raise Refused(NO_HOST, f"{words[0]} did not end within {_DEADLINE_S} s", "run the command again") from None
    said = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return Ran(done.returncode == 0, done.stdout.decode("utf-8", "replace"), said[-1] if said else "")
