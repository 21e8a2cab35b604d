"""SSH signatures (PROTOCOL.sshsig): the allowed signers of one file, and whether one of them signed, by ssh-keygen."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle.program import run
from deploy.bundle.signer import SSH, NotAccepted, Signed, Signer

NAMESPACE = "git"
_KEY = r"(?P<type>(?:sk-)?(?:ssh|ecdsa)-[\w.@-]+)\s+(?P<blob>AAAA[A-Za-z0-9+/=]+)"
_LINE = re.compile(rf'\s*(?P<names>"[^"]*"|[^\s"#]\S*)\s+(?:(?P<options>(?:[^\s"]|"[^"]*")+)\s+)?{_KEY}(?:\s|$)')
_BARE_KEY = re.compile(rf"\s*{_KEY}(?:\s|$)")
_KRL_MAGIC = b"SSHKRL\n\0"


@dataclass(frozen=True)
class AllowedSigner:
    """One line of an allowed-signers file. Times are as written there."""

    names: tuple[str, ...]
    fingerprint: str
    key: str
    """Type and base64, as in a public key file."""
    valid_after: str = ""
    valid_before: str = ""
    namespaces: str = ""

    @property
    def validity(self) -> str:
        """``valid from 20260101 until 20270101``, or nothing where it says nothing."""
        words = [f"from {self.valid_after}"] if self.valid_after else []
        words += [f"until {self.valid_before}"] if self.valid_before else []
        return f"valid {' '.join(words)}" if words else ""


def allowed_signers(text: str) -> tuple[AllowedSigner, ...]:
    """Read the lines that name a key (ssh-keygen(1), ALLOWED SIGNERS). Tells people; ssh-keygen itself decides."""
    found: list[AllowedSigner] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        options = dict(re.findall(r'([\w-]+)="([^"]*)"', match["options"] or ""))
        found.append(
            AllowedSigner(
                tuple(match["names"].strip('"').split(",")),
                fingerprint(match["blob"]),
                f"{match['type']} {match['blob']}",
                options.get("valid-after", ""),
                options.get("valid-before", ""),
                options.get("namespaces", ""),
            )
        )
    return tuple(found)


def public_key(text: str) -> str:
    """Give type and base64 of an SSH public key file, or nothing where it is none."""
    match = _BARE_KEY.match(text)
    return f"{match['type']} {match['blob']}" if match else ""


def fingerprint(blob: str) -> str:
    """``SHA256:...`` of a public key in base64, as ssh-keygen -l prints it."""
    try:
        digest = hashlib.sha256(base64.b64decode(blob)).digest()
    except binascii.Error:
        return "unreadable"
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def is_revoked(key: str, revoked: Path) -> bool:
    """Whether a list of revoked keys names this one: a KRL, or public keys, one a line."""
    data = revoked.read_bytes()
    if not data.startswith(_KRL_MAGIC):
        return key.split()[1] in data.decode("utf-8", "replace").split()
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
        file.write(key + "\n")
        file.flush()
        return not run(["ssh-keygen", "-Q", "-f", str(revoked), file.name]).ok


def ssh_signer(signed: Signed, allowed: Path, revoked: Path | None) -> Signer:
    """Say which allowed signer made this signature, at the time that the tag gives. Raises NotAccepted, OSError."""
    known = allowed_signers(allowed.read_text(encoding="utf-8", errors="replace"))
    if revoked is not None:
        revoked.read_bytes()  # a list that cannot be read revokes nobody: that must not pass
    with tempfile.NamedTemporaryFile(suffix=".sig") as file:
        file.write(signed.block)
        file.flush()
        key = _key_of(signed, file.name)
        when = time.strftime("%Y%m%d%H%M%S", time.localtime(signed.made_at))  # as git: the file's times are local too
        verify = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-f", str(allowed), "-s", file.name]
        find = ["ssh-keygen", "-Y", "find-principals", "-s", file.name, "-f", str(allowed), f"-Overify-time={when}"]
        found = run(find)
        names = tuple(found.out.splitlines())
        if not found.ok or not names:
            raise NotAccepted(_why_not(known, key, when, found.err))
        verify += ["-I", names[0], f"-Overify-time={when}"]
        verified = run(verify, signed.payload)
        if not verified.ok:
            raise NotAccepted(_why_not(known, key, when, verified.err))
        if revoked is not None and not run([*verify, "-r", str(revoked)], signed.payload).ok:
            raise NotAccepted(f"{', '.join(names)} signed it with a REVOKED key: {SSH} {key}, see {revoked}")
    return Signer(SSH, key, names)


def _key_of(signed: Signed, signature: str) -> str:
    """The fingerprint of whatever key made the signature, allowed or not."""
    proven = run(["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature], signed.payload)
    named = re.search(r" key (SHA256:\S+)", proven.out)
    if not proven.ok or named is None:
        raise NotAccepted(f"its SSH signature does not fit what it says: {proven.err or proven.out.strip()}")
    return named[1]


def _why_not(known: Iterable[AllowedSigner], key: str, when: str, said: str) -> str:
    mine = next((one for one in known if one.fingerprint == key), None)
    if mine is None:
        return f"it was signed with {SSH} {key}, which is no key of an allowed signer"
    who = ", ".join(mine.names)
    if mine.validity:
        return f"{who} signed it with {SSH} {key}, {mine.validity}; it was made at {when}"
    if mine.namespaces:
        return f"{who} signed it with {SSH} {key}, which may sign for {mine.namespaces}, not for {NAMESPACE}"
    return f"{who} signed it with {SSH} {key}: {said}"
