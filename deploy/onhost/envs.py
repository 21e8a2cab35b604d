"""Installed packages by env key, read-only, complete only with a marker; and how one release's venv takes them.

The first release of a lock installs into its own virtualenv. What pip put there then moves into the store, and the
release keeps a link; scripts and data files are kept as templates, since every release has a ``bin/`` of its own.
Packages that bake the prefix into other files stay private to each release: nothing is shared, nothing is patched.
Rejected: hard links (a write through one release's name reaches all of them) and clones fixed up in place
(unfixed, a clone's gunicorn runs the old release's python). docs/adr/0010.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from deploy.wire.manifest import Target, canonical

from . import inventory, plain
from .layout import Layout, read_json, remove_tree, sync_filesystem, write_durably
from .toolchain import key as toolchain_key
from .wheels import interpreter, wheel_keys

FORMAT = 1
MARKER = "env.json"
SHEBANG_BYTES = 127
"""What every kernel takes as an interpreter line (execve(2): 127 before Linux 5.1)."""
_PLACE = b"@@sealed-deploy-venv@@"


def env_key(target: Target) -> str:
    """Which installed environment a target asks for on this host: closure + toolchain + interpreter."""
    keys = wheel_keys(target)
    wheels = [keys[digest] for digest in target.install]
    return hashlib.sha256(canonical([FORMAT, wheels, toolchain_key(target), interpreter()])).hexdigest()


def site_packages(venv: Path) -> Path:
    """Where a virtualenv of this interpreter keeps its packages."""
    return venv / "lib" / ("python%d.%d" % sys.version_info[:2]) / "site-packages"


def marker(layout: Layout, key: str) -> Optional[Dict[str, Any]]:
    """The entry's record, or None where it is absent or incomplete."""
    try:
        about = read_json(layout.envs / key / MARKER)
    except (OSError, ValueError):
        return None
    return about if about.get("format") == FORMAT else None


def known(layout: Layout) -> List[str]:
    """The env keys that are complete here."""
    try:
        return [name for name in sorted(os.listdir(layout.envs)) if (layout.envs / name / MARKER).exists()]
    except OSError:
        return []


def differences(layout: Layout, key: str) -> List[str]:
    """How an entry differs from its marker; empty where it does not."""
    about = marker(layout, key)
    if about is None:
        return ["environment %s is missing" % key[:12]]
    found = inventory.differences(layout.envs / key, about["inventory"], leave_out=(MARKER,))
    return ["environment %s: %s" % (key[:12], line) for line in found]


def capture(layout: Layout, key: str, venv: Path, before: Set[str], facts: Dict[str, Any]) -> bool:
    """Move what was installed into the store and link it back; tell whether it could be shared.

    ``before`` is what the empty virtualenv held. Packages that bake the prefix in leave everything where it is.
    Raises OSError; an entry without a marker is garbage that the next run sweeps.
    """
    if baked(venv, before):
        return False
    entry = layout.envs / key
    remove_tree(entry)
    entry.mkdir(mode=0o755)
    _normalise_records(site_packages(venv))
    os.replace(site_packages(venv), entry / "site-packages")
    prefix = os.fsencode(str(venv))
    for path in _added(venv, before):
        kept = entry / "files" / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o555 if os.stat(venv / path).st_mode & 0o100 else 0o444
        kept.write_bytes(plain.read(venv / path).replace(prefix, _PLACE))
        kept.chmod(mode)
    inventory.take_write_bits(entry)
    os.chmod(entry, 0o755)
    about = dict(facts, format=FORMAT, key=key, inventory=inventory.take(entry))
    sync_filesystem(entry)
    write_durably(entry / MARKER, canonical(about), 0o444)
    os.chmod(entry, 0o555)
    link(layout, key, venv)
    return True


def link(layout: Layout, key: str, venv: Path) -> None:
    """Give a virtualenv the packages of a complete entry: one link, and its own copy of every script and data file."""
    entry = layout.envs / key
    site = site_packages(venv)
    remove_tree(site)
    site.symlink_to(os.path.relpath(entry / "site-packages", site.parent))
    prefix = os.fsencode(str(venv))
    files = entry / "files"
    for folder, _, names in os.walk(files):
        for name in names:
            source = Path(folder) / name
            target = venv / source.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target.unlink()
            target.write_bytes(_script(source.read_bytes(), prefix))
            target.chmod(0o555 if os.stat(source).st_mode & 0o100 else 0o444)


def _script(data: bytes, prefix: bytes) -> bytes:
    """Fill a template in. A first line too long for the kernel, or with a space, becomes pip's own /bin/sh form."""
    data = data.replace(_PLACE, prefix)
    first, _, rest = data.partition(b"\n")
    if not first.startswith(b"#!" + prefix) or (len(first) <= SHEBANG_BYTES and b" " not in prefix):
        return data
    interpreter, _, option = first[2 + len(prefix) :].partition(b" ")
    words = b'"%s%s" %s' % (prefix, interpreter, option + b" " if option else b"")
    return b"#!/bin/sh\n'''exec' " + words + b"\"$0\" \"$@\"\n' '''\n" + rest


def contents(venv: Path) -> Set[str]:
    """Every file of a virtualenv outside its site-packages, by relative path."""
    site = str(site_packages(venv).relative_to(venv))
    found: Set[str] = set()
    for folder, folders, names in os.walk(venv):
        below = os.path.relpath(folder, venv)
        folders[:] = [name for name in folders if os.path.normpath(os.path.join(below, name)) != site]
        found |= {os.path.normpath(os.path.join(below, name)) for name in names}
    return found


def baked(venv: Path, before: Set[str]) -> List[str]:
    """Installed files, scripts apart, that hold this virtualenv's own path: they cannot serve another release."""
    prefix = os.fsencode(str(venv))
    found: List[str] = []
    for folder, _, names in os.walk(site_packages(venv)):
        for name in names:
            path = os.path.join(folder, name)
            if name != "RECORD" and not os.path.islink(path) and _holds(path, prefix):
                found.append(os.path.relpath(path, venv))
    for path in _added(venv, before):
        data = plain.read(venv / path)
        # A script names the prefix in its first line (or pip's two-line form of it); replacing text is safe there only.
        if prefix in data and (b"\0" in data or not path.startswith("bin/")):
            found.append(path)
    return sorted(found)


def _added(venv: Path, before: Set[str]) -> List[str]:
    return sorted(path for path in contents(venv) - before if not os.path.islink(venv / path))


def _holds(path: str, text: bytes) -> bool:
    return text in plain.read(path)


def _normalise_records(site: Path) -> None:
    """Scripts differ between releases, so RECORD keeps their names without hash and size (PEP 376 allows that)."""
    scheme = os.path.relpath(site.parents[2], site)
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text("utf-8").splitlines()
        kept = [line.rsplit(",", 2)[0] + ",," if line.startswith(scheme + "/") else line for line in lines]
        record.write_text("\n".join(kept) + "\n", "utf-8")
