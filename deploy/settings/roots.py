"""Which absolute paths may be ROOT on a host. No I/O: the path is the host's, not this machine's."""

from __future__ import annotations

PATH_MAX = 4096
NAME_MAX = 255
LONGEST_BELOW = len("/releases/") + 100 + len("-01234567") + len("/venv/bin/python") + 1

_TOP = "bin boot dev etc home lib lib32 lib64 media mnt opt proc root run sbin srv sys tmp usr var"
_USR = "bin lib local local/bin local/lib sbin share"
_VAR = "cache lib log run spool tmp www"
SYSTEM = frozenset(
    ["/"] + [f"{base}/{name}" for base, names in (("", _TOP), ("/usr", _USR), ("/var", _VAR)) for name in names.split()]
)
FORBIDDEN_TREES = ("/dev/", "/proc/", "/sys/")


def root_problems(root: str) -> list[str]:
    """Say all that keeps ``root`` from being ROOT; nothing where it may be. Spaces and unicode are fine."""
    parts = root.split("/")[1:]
    size = len(root.encode("utf-8", "surrogateescape"))
    found: list[str] = []
    if not root.startswith("/"):
        return [f"expected an absolute path on the host, got {root!a}"]
    if not root.isprintable():
        found.append(f"{root!a} holds characters that cannot be printed")
    if any(part in (".", "..") for part in parts) or "" in parts[:-1]:
        found.append(f"{root!a} has an empty, '.' or '..' part; write the plain path")
    elif root in SYSTEM or root.startswith(FORBIDDEN_TREES):
        found.append(f"{root!a} belongs to the system; name a folder of the service's own, such as /srv/NAME")
    if any(len(part.encode("utf-8", "surrogateescape")) > NAME_MAX for part in parts):
        found.append(f"a part is longer than {NAME_MAX} bytes")
    if size + LONGEST_BELOW > PATH_MAX:
        found.append(f"{size} bytes are too long: ROOT/releases/TAG/venv/bin/python must fit {PATH_MAX}")
    return found
