# pyright: basic, reportAttributeAccessIssue=false
# Paramiko ships no types; here and in ssh.py that is met.
"""Known hosts, loaded line by line (one line that Paramiko cannot read must not lose the rest), and enforced.

Fabric never loads them and adds unknown keys silently; it even takes a changed one. No option turns this off.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import paramiko
from paramiko.hostkeys import HostKeyEntry, HostKeys
from paramiko.ssh_exception import SSHException


class UnknownHostKey(paramiko.MissingHostKeyPolicy):
    """Refuse a host whose key no known_hosts file has."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client
        raise RefusedKey(hostname, f"{key.get_name()} {key.fingerprint}")


class RefusedKey(SSHException):
    """The host's key is not known."""

    def __init__(self, hostname: str, fingerprint: str) -> None:
        super().__init__(f"unknown host key of {hostname}: {fingerprint}")
        self.hostname = hostname
        self.fingerprint = fingerprint


def load_known_hosts(client: paramiko.SSHClient, files: Iterable[str]) -> None:
    """Load host keys line by line and refuse everything else. ``@revoked`` keys are refused even where also listed."""
    revoked: set[str] = set()
    keys: HostKeys = client.get_host_keys()
    for path in [Path(name).expanduser() for name in files] or _default_files():
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, text in enumerate(lines, 1):
            _load_line(keys, revoked, text.strip(), number)
    for entry in list(cast("list[HostKeyEntry]", keys._entries)):  # noqa: SLF001 - no other way to drop a key
        if entry.key is not None and entry.key.get_base64() in revoked:
            keys._entries.remove(entry)  # noqa: SLF001
    client.set_missing_host_key_policy(UnknownHostKey())


def _load_line(keys: HostKeys, revoked: set[str], text: str, number: int) -> None:
    if not text or text.startswith("#"):
        return
    if text.startswith("@revoked"):
        revoked.update(text.split()[3:4])
        return
    try:
        entry = HostKeyEntry.from_line(text, number)
    except Exception:  # noqa: BLE001 - its parsers raise all sorts of things; the rest still counts
        return
    if entry is not None and entry.hostnames and entry.key is not None:
        for name in entry.hostnames:
            keys.add(name, entry.key.get_name(), entry.key)


def _default_files() -> list[Path]:
    return [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]
