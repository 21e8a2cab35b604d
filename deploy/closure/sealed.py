"""Starts a child of ``vendor.lock`` behind the same kernel seal as a host's builds. Knows no package and no answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.hostprogram import in_memory

OFFLINE = {
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_NO_INDEX": "1",
    "PIP_INDEX_URL": "file:///not-in-vendor",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "GIT_ALLOW_PROTOCOL": "file",
    "CARGO_NET_OFFLINE": "true",
    "UV_OFFLINE": "1",
}
"""What tells tools in a sealed child that there is no index: an error of theirs says more than a refused socket."""
CANNOT_SEAL = 125
"""What the host program's ``child`` ends with where the kernel offers no seal."""


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    timeout_s: float,
    read: Sequence[str] = (),
    write: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` to its end, cut off from the network by the kernel. Raises subprocess.TimeoutExpired, OSError.

    Where the kernel has Landlock, nothing below the operator's HOME may be read but ``read``, ``write`` and ``cwd``,
    and nothing written but the last two. Where the kernel offers no seal (another system than Linux, or a container
    that denies it) only ``env`` holds.
    """
    if sys.platform != "linux":
        return _start(argv, env, cwd, timeout_s, ())
    confine = {"hide": [str(Path.home())], "read": [*read, str(cwd)], "write": [*write, str(cwd)]}
    done = _sealed(argv, env, cwd, timeout_s, confine)
    if done.returncode == CANNOT_SEAL and done.stdout.startswith("cannot seal"):
        return _start(argv, env, cwd, timeout_s, ())
    return done


def _sealed(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, timeout_s: float, confine: Mapping[str, Sequence[str]]
) -> subprocess.CompletedProcess[str]:
    program = in_memory()
    read, write = os.pipe()
    try:
        with os.fdopen(write, "wb") as file:  # far less than a pipe holds, so that nobody has to read yet
            file.write(json.dumps(_specification(argv, env, cwd, confine)).encode("ascii"))
        words = [sys.executable, "-I", "-S", f"/proc/self/fd/{program}", "child", str(read)]
        return _start(words, {}, cwd, timeout_s, (read, program))
    finally:
        os.close(read)
        os.close(program)


def _specification(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, confine: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """What the launcher asks for: the contract is in its docstring (deploy/onhost/launcher.py)."""
    return {
        "argv": list(argv),
        "cwd": str(cwd),
        "env": dict(env),
        "sealed": True,
        "network_namespace": True,
        "watch": None,
        "confine": dict(confine),
        "parent": os.getpid(),
        "uid": None,
        "gid": None,
    }


def _start(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, timeout_s: float, fds: tuple[int, ...]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(argv),
        env=dict(env),
        cwd=cwd,
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
