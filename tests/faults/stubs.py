"""A closure that costs nothing: stand-ins for pip and virtualenv as real vendored wheels, and one source archive.

The host program does everything for real (receive, unpack, seal, build, install, capture, compile); only what would
run for seconds inside its sealed children is a few lines here. ``real`` ones take those seconds.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from functools import cache
from typing import Any

from deploy.wire.manifest import Archive, Manifest, Package, Target, TreeFile
from deploy.wire.names import Sha256
from tests.fleet.conftest import Bundle
from tests.hosts import projects

CANARY = "canary-5f1d0c2e-secret"
"""The value of env_files' SECRET, hunted in everything that leaves the host program."""
SAY_SECRET = 'echo "the secret is $SECRET"'

_PIP = """
import os, sys, zipfile
from urllib.parse import unquote
verb, words = sys.argv[1], sys.argv[2:]
if verb == "download":
    print("ERROR: No matching distribution found for " + words[-1])
    sys.exit(1)
if verb == "wheel":
    out = words[words.index("-w") + 1]
    with zipfile.ZipFile(os.path.join(out, "greeting-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("greeting/__init__.py", "GREETING = 'hello'\\n")
        wheel.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n")
        wheel.writestr("greeting-1.0.dist-info/RECORD", "greeting/__init__.py,,\\n")
if verb == "install":
    site = os.path.join(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
    house = unquote(os.environ["PIP_FIND_LINKS"][len("file://"):])
    for name in os.listdir(house):
        zipfile.ZipFile(os.path.join(house, name)).extractall(site)
    script = os.path.join(sys.prefix, "bin", "greet")
    with open(script, "w") as file:
        file.write("#!%s/bin/python\\nimport greeting\\n" % sys.prefix)
    os.chmod(script, 0o755)
"""
_VIRTUALENV = """
import os, sys
folder = sys.argv[-1]
python = os.path.realpath(sys.executable)
os.makedirs(os.path.join(folder, "bin"), exist_ok=True)
os.makedirs(os.path.join(folder, "lib", "python%d.%d" % sys.version_info[:2], "site-packages"))
os.symlink(python, os.path.join(folder, "bin", "python"))
with open(os.path.join(folder, "pyvenv.cfg"), "w") as file:
    file.write("home = %s\\ninclude-system-site-packages = false\\n" % os.path.dirname(python))
"""


def _wheel(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


def _sdist() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("greeting-1.0/PKG-INFO"), io.BytesIO(b""))
    return packed.getvalue()


def _digest(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


@cache
def _archives(*, real: bool) -> dict[str, bytes]:
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if real:
        greeting = projects.sdist("greeting", "2.0", files={"greeting.py": "GREETING = 'hello'\n"})
        return dict([(path.name, path.read_bytes()) for path in projects.toolchain_wheels(python)] + [greeting])
    return {
        "pip-1-py3-none-any.whl": _wheel({"pip/__init__.py": "", "pip/__pip-runner__.py": _PIP}),
        "virtualenv-1-py3-none-any.whl": _wheel({"virtualenv/__init__.py": "", "virtualenv/__main__.py": _VIRTUALENV}),
        "greeting-1.0.tar.gz": _sdist(),
    }


def target(*, real: bool = False) -> Target:
    """The closure: one source archive to build, and the stand-ins (or the real ones) as its toolchain."""
    packages = {
        _digest(data): Package(
            _digest(data), name.split("-")[0], name.split("-")[1].removesuffix(".tar.gz"),
            "wheel" if name.endswith(".whl") else "sdist",
        )
        for name, data in _archives(real=real).items()
    }  # fmt: skip
    *tools, greeting = packages
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Target(python, "any", packages, (greeting,), tuple(tools))


def content(tag: str) -> bytes:
    """What ``app.py`` of a tag holds: how a reader tells which release it sees."""
    return f"VERSION = {tag!r}\n".encode()


def bundle(tag: str, *, real: bool = False, **hooks: str) -> Bundle:
    """What is shipped for one tag: a few files, a link, a shared folder, secrets, hooks by point."""
    trees = {"app.py": content(tag), "package/module.py": b"X = 1\n" * 200, "package/empty.py": b""}
    trees.update({"run": b"#!/bin/sh\n", "link.py": b"app.py"})
    modes = {"run": "100755", "link.py": "120000"}
    files = [TreeFile(n, modes.get(n, "100644"), _digest(data), len(data)) for n, data in sorted(trees.items())]
    archives = {_digest(data): Archive(name, len(data)) for name, data in _archives(real=real).items()}
    filled = {
        point: [{"run": run, "once": point == "before_activate", "on": ["deploy"], "timeout_s": 60, "idempotent": True,
                 "user": None, "sealed": False}]
        for point, run in hooks.items()
    }  # fmt: skip
    settings: dict[str, Any] = {
        "requirements": "app", "python": target(real=real).python, "shared": {"dirs": ["media"], "files": []},
        "env_files": ["shared/.env"], "site_packages": "link", "environment": {}, "hooks": {"app": filled},
    }  # fmt: skip
    commit = hashlib.sha1(tag.encode()).hexdigest()
    manifest = Manifest("demo", tag, commit, commit, None, "", tuple(files), archives, (target(real=real),), settings)
    blobs = {_digest(data): data for data in [*trees.values(), *_archives(real=real).values()]}
    return Bundle(manifest, {str(digest): data for digest, data in blobs.items()})
