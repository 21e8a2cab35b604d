"""A closure that costs nothing: stand-ins for pip and virtualenv, and one source archive to build.

With ``real`` ones the same takes seconds.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from functools import cache
from typing import Any

from deploy.wire.manifest import Archive, Manifest, TreeFile
from tests.fleet import standins
from tests.fleet.conftest import Bundle
from tests.fleet.standins import digest_of
from tests.hosts import projects

CANARY = "canary-5f1d0c2e-secret"
"""The value of env_files' SECRET, hunted in everything that leaves the host program."""
SAY_SECRET = 'echo "the secret is $SECRET"'


def _sdist() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("greeting-1.0/PKG-INFO"), io.BytesIO(b""))
    return packed.getvalue()


@cache
def _archives(*, real: bool) -> dict[str, bytes]:
    if real:
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        greeting = projects.sdist("greeting", "2.0", files={"greeting.py": "GREETING = 'hello'\n"})
        return dict([(path.name, path.read_bytes()) for path in projects.toolchain_wheels(python)] + [greeting])
    return {**standins.TOOLCHAIN, "greeting-1.0.tar.gz": _sdist()}


def content(tag: str) -> bytes:
    """What ``app.py`` of a tag holds: how a reader tells which release it sees."""
    return f"VERSION = {tag!r}\n".encode()


def bundle(tag: str, *, real: bool = False, **hooks: str) -> Bundle:
    """What is shipped for one tag: a few files, a link, a shared folder, secrets, hooks by point."""
    packed = _archives(real=real)
    target = standins.target(packed)
    trees = {"app.py": content(tag), "package/module.py": b"X = 1\n" * 200, "package/empty.py": b""}
    trees.update({"run": b"#!/bin/sh\n", "link.py": b"app.py"})
    modes = {"run": "100755", "link.py": "120000"}
    files = [TreeFile(n, modes.get(n, "100644"), digest_of(data), len(data)) for n, data in sorted(trees.items())]
    archives = {digest_of(data): Archive(name, len(data)) for name, data in packed.items()}
    filled = {
        point: [{"run": run, "once": point == "before_activate", "on": ["deploy"], "timeout_s": 60, "idempotent": True,
                 "user": None, "sealed": False}]
        for point, run in hooks.items()
    }  # fmt: skip
    settings: dict[str, Any] = {
        "requirements": "app", "python": target.python, "shared": {"dirs": ["media"], "files": []},
        "env_files": ["shared/.env"], "site_packages": "link", "environment": {}, "hooks": {"app": filled},
    }  # fmt: skip
    commit = hashlib.sha1(tag.encode()).hexdigest()
    manifest = Manifest("demo", tag, commit, commit, None, "", tuple(files), archives, (target,), settings)
    blobs = {digest_of(data): data for data in [*trees.values(), *packed.values()]}
    return Bundle(manifest, {str(digest): data for digest, data in blobs.items()})
