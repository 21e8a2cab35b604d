"""The program that runs on hosts, as one zip: equal sources give equal bytes. Reads sources, never imports them."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.wire.names import Sha256

LIBRARY = Path(__file__).resolve().parent
PACKAGES = ("wire", "onhost")
MAIN = b"from deploy.onhost.main import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


@dataclass(frozen=True)
class HostProgram:
    """The zip and its digest, which is its name on a host: ROOT/.deploy/bin/SHA256.pyz."""

    data: bytes
    sha256: Sha256


def in_memory() -> int:
    """Put the program into a file that nobody can change any more, and give its descriptor (memfd_create(2), Linux).

    What a child starts from before it seals itself must be out of reach of the children before it.
    """
    fd = os.memfd_create("onhost", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(host_program().data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


@cache
def host_program(library: Path = LIBRARY) -> HostProgram:
    """Pack ``deploy.wire`` and ``deploy.onhost`` with a ``__main__``; times, modes and order are fixed."""
    members = {"__main__.py": MAIN, "deploy/__init__.py": b""}
    for package in PACKAGES:
        for source in (library / package).rglob("*.py"):
            members[f"deploy/{source.relative_to(library).as_posix()}"] = source.read_bytes()
    packed = io.BytesIO()
    # Stored, not deflated: zlib's output differs between its versions.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = _UNIX
            member.external_attr = 0o100644 << 16
            archive.writestr(member, members[name])
    data = packed.getvalue()
    return HostProgram(data, Sha256(hashlib.sha256(data).hexdigest()))
