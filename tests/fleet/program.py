"""The real host program, byte-compiled: the same code, but each of a point's starts takes a third of the time."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import zipfile
from functools import cache

from deploy.hostprogram import HostProgram, host_program
from deploy.wire.names import Sha256

_UNCHECKED_HASH = 0b01


@cache
def compiled() -> HostProgram:
    """Replace each source of the zip by its byte code (PEP 552, unchecked): for this Python alone."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(host_program().data)) as sources, zipfile.ZipFile(packed, "w") as archive:
        for name in sources.namelist():
            code = compile(sources.read(name), name, "exec", dont_inherit=True)
            head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little") + bytes(8)
            archive.writestr(zipfile.ZipInfo(name + "c"), head + marshal.dumps(code))
    data = packed.getvalue()
    return HostProgram(data, Sha256(hashlib.sha256(data).hexdigest()))
