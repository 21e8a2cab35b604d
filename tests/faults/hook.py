"""Break one call of the host program by hook.c, preloaded into it: for machines where ptrace(2) is refused.

It stands before libc's functions where strace stands before the kernel; faults, traces and what is struck look alike.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.faults.strace import KILL, Fault


@cache
def built(folder: Path) -> Path:
    """Compile the hook. Raises CannotBuild."""
    compiler, made = shutil.which("cc") or shutil.which("gcc"), folder / "hook.so"
    if compiler is None:
        raise CannotBuild("no C compiler is installed")
    words = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(made)]
    done = subprocess.run([*words, str(Path(__file__).with_suffix(".c")), "-ldl"], capture_output=True, text=True)
    if done.returncode:
        raise CannotBuild(done.stderr.strip())
    return made


class CannotBuild(Exception):
    """There is no compiler, or no headers of libc."""


def traced(line: str, trace: Path, hook: Path, *faults: Fault) -> str:
    """The exec line with these faults in it, and every call that changes something written down."""
    asked = ",".join(f"{fault.name}:{fault.when}{'+' if fault.ever else ''}:{_word(fault.what)}" for fault in faults)
    return f"exec env LD_PRELOAD='{hook}' HOOK_TRACE='{trace}' HOOK_FAULTS='{asked}' {line}"


def _word(what: str) -> str:
    if what == KILL:
        return "kill"
    return f"errno={getattr(errno, what.removeprefix('error='))}"
