"""Stand-ins for pip and virtualenv, as wheels like the real ones.

What would run for seconds in sealed children is a few lines here; the host program does everything else for real.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping

from deploy.wire.manifest import Package, Target
from deploy.wire.names import Sha256

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


TOOLCHAIN = {
    "pip-1-py3-none-any.whl": _wheel({"pip/__init__.py": "", "pip/__pip-runner__.py": _PIP}),
    "virtualenv-1-py3-none-any.whl": _wheel({"virtualenv/__init__.py": "", "virtualenv/__main__.py": _VIRTUALENV}),
}


def digest_of(data: bytes) -> Sha256:
    """The sha256 of content."""
    return Sha256(hashlib.sha256(data).hexdigest())


def target(archives: Mapping[str, bytes]) -> Target:
    """The closure for this Python that archives are, by file name: wheels are its toolchain, what follows is built."""
    packages = {
        digest_of(data): Package(
            digest_of(data), name.split("-")[0], name.split("-")[1].removesuffix(".tar.gz"),
            "wheel" if name.endswith(".whl") else "sdist",
        )
        for name, data in archives.items()
    }  # fmt: skip
    tools = tuple(digest for digest, package in packages.items() if package.kind == "wheel")
    install = tuple(digest for digest, package in packages.items() if package.kind == "sdist")
    return Target(f"{sys.version_info[0]}.{sys.version_info[1]}", "any", packages, install, tools)
