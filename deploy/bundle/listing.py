"""Everybody who may sign for a stage, with fingerprint and validity, for people to read. Verifies no tag."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle.git import NO_HOST
from deploy.bundle.gpg_signers import GpgKey, keyring
from deploy.bundle.signer import GPG, SSH
from deploy.bundle.ssh_signers import AllowedSigner, allowed_signers, is_revoked
from deploy.errors import Refused
from deploy.settings import Trust


@dataclass(frozen=True)
class Listed:
    """One key that settings allow. ``state`` is ``good``, ``REVOKED``, ``EXPIRED`` or ``not yet``."""

    kind: str
    names: tuple[str, ...]
    fingerprint: str
    validity: str
    state: str


def listed(trust: Trust) -> tuple[Listed, ...]:
    """List the SSH and OpenPGP keys that a stage's settings name. Raises Refused where a file cannot be read."""
    try:
        return (*_ssh(trust), *_gpg(trust))
    except OSError as error:
        step = "correct the path in fabric.yaml, or write the file: fab trust.add"
        raise Refused(NO_HOST, f"a file of allowed signers cannot be read: {error}", step) from error


def _ssh(trust: Trust) -> list[Listed]:
    if not trust.allowed_signers:
        return []
    text = Path(trust.allowed_signers).read_text(encoding="utf-8", errors="replace")
    return [
        Listed(SSH, one.names, one.fingerprint, one.validity, _ssh_state(one, trust.revoked_signers))
        for one in allowed_signers(text)
    ]


def _ssh_state(signer: AllowedSigner, revoked: str | None) -> str:
    if revoked and is_revoked(signer.key, Path(revoked)):
        return "REVOKED"
    now = time.strftime("%Y%m%d%H%M%S")
    if signer.valid_before and signer.valid_before.rstrip("Z").ljust(14, "0") < now:
        return "EXPIRED"
    if signer.valid_after and signer.valid_after.rstrip("Z").ljust(14, "0") > now:
        return "not yet"
    return "good"


def _gpg(trust: Trust) -> list[Listed]:
    if not trust.gpg_keys:
        return []
    with keyring(trust.gpg_keys) as ring:
        return [Listed(GPG, one.names, one.fingerprint, _gpg_validity(one), _gpg_state(one)) for one in ring.members()]


def _gpg_validity(key: GpgKey) -> str:
    if not key.expires.isdecimal():
        return ""
    return f"valid until {time.strftime('%Y%m%d', time.localtime(int(key.expires)))}"


def _gpg_state(key: GpgKey) -> str:
    return {"r": "REVOKED", "e": "EXPIRED", "i": "INVALID"}.get(key.validity, "good")
