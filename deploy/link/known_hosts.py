# pyright: basic, reportAttributeAccessIssue=false
# Paramiko ships no types; here and in ssh.py that is met.
"""Known hosts, loaded line by line (one line that Paramiko cannot read must not lose the rest), and enforced.

Fabric never loads them and adds unknown keys silently; it even takes a changed one. No option turns this off. Patterns
(``*.example.org``) match no host, and certificate authorities vouch for none: Paramiko can use neither.
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
        raise RefusedKey(hostname, key)


class RefusedKey(SSHException):
    """The host's key is not known."""

    def __init__(self, hostname: str, key: paramiko.PKey) -> None:
        self.fingerprint = f"{key.get_name()} {key.fingerprint}"
        super().__init__(f"unknown host key of {hostname}: {self.fingerprint}")
        self.hostname = hostname
        self.key = key


class KnownHosts:
    """What some known_hosts files say. ``@revoked`` keys are known of nobody, even where also listed."""

    def __init__(self, files: Iterable[str], keys: HostKeys | None = None) -> None:
        """Read the files, line by line, into ``keys``; one that is not there says nothing."""
        self._keys = HostKeys() if keys is None else keys
        self._revoked: set[str] = set()
        for path in [Path(name).expanduser() for name in files]:
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for number, text in enumerate(lines, 1):
                self._load_line(text.strip(), number)
        for entry in list(cast("list[HostKeyEntry]", self._keys._entries)):  # noqa: SLF001 - no other way to drop a key
            if entry.key is not None and entry.key.get_base64() in self._revoked:
                self._keys._entries.remove(entry)  # noqa: SLF001

    def is_revoked(self, key: paramiko.PKey) -> bool:
        """Whether some file says so, of any host."""
        return key.get_base64() in self._revoked

    def of(self, name: str) -> dict[str, str]:
        """The keys of one host, in base64 by type. ``name`` is as ssh writes it: ``[host]:port`` beside port 22."""
        found = self._keys.lookup(name)
        return {kind: found[kind].get_base64() for kind in found} if found is not None else {}

    def _load_line(self, text: str, number: int) -> None:
        if not text or text.startswith("#"):
            return
        if text.startswith("@revoked"):
            self._revoked.update(text.split()[3:4])
            return
        try:
            entry = HostKeyEntry.from_line(text, number)
        except Exception:  # noqa: BLE001 - its parsers raise all sorts of things; the rest still counts
            return
        if entry is not None and entry.hostnames and entry.key is not None:
            for name in entry.hostnames:
                self._keys.add(name, entry.key.get_name(), entry.key)


def load_known_hosts(client: paramiko.SSHClient, files: Iterable[str]) -> None:
    """Load host keys into a client, and have it refuse everything else."""
    KnownHosts(files, client.get_host_keys())
    client.set_missing_host_key_policy(UnknownHostKey())


def file_that_knows(name: str, files: Iterable[str]) -> str:
    """The first of the files that holds a key of this host, or nothing."""
    return next((file for file in files if KnownHosts([file]).of(name)), "")
