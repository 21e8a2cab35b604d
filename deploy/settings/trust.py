"""Whose tags a stage takes: policy, allowed signers, revocation, identity. Reads no file, verifies nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.settings.section import Section

POLICIES = ("any", "annotated", "signed")
MOST_SIGNATURES = 5


@dataclass(frozen=True)
class Trust:
    """What one stage asks of a tag. Paths are as written until ``anchored``."""

    tags: str = "any"
    signatures: int = 1
    """How many different signers a tag needs where ``tags`` is signed."""
    allowed_signers: str | None = None
    """ssh-keygen(1), ALLOWED SIGNERS."""
    revoked_signers: str | None = None
    """A key revocation list, or public keys one a line (ssh-keygen(1), KEY REVOCATION LISTS)."""
    gpg_keys: tuple[str, ...] = ()
    """Exported OpenPGP public keys: files, or folders of them."""
    repository_id: tuple[str, ...] = ()
    """Root commits; a tag's history begins at one of them."""

    def anchored(self, project: Path) -> Trust:
        """Make every path absolute, counted from ``project``."""

        def at(path: str) -> str:
            return str(project / os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown ~user

        return replace(
            self,
            allowed_signers=self.allowed_signers and at(self.allowed_signers),
            revoked_signers=self.revoked_signers and at(self.revoked_signers),
            gpg_keys=tuple(map(at, self.gpg_keys)),
        )


def trust_part(section: Section) -> Mapping[str, Any]:
    """Read what one level says of it: only the keys that it has."""
    found: dict[str, Any] = {
        "tags": section.choice("tags", POLICIES),
        "signatures": section.integer("signatures", 1, MOST_SIGNATURES),
        "allowed_signers": section.text("allowed_signers", says="a path"),
        "revoked_signers": section.text("revoked_signers", says="a path"),
        "gpg_keys": section.words("gpg_keys", says="a path or a list of paths"),
        "repository_id": section.words(
            "repository_id", r"[0-9a-f]{40}|[0-9a-f]{64}", says="a whole commit id, as `fab trust` prints it"
        ),
    }
    return {key: value for key, value in found.items() if value is not None}


def trust_problems(trust: Trust, path: str) -> list[str]:
    """Say what does not fit together in a stage's settings."""
    problems: list[str] = []
    if trust.tags == "signed" and not trust.allowed_signers and not trust.gpg_keys:
        problems.append(
            f"{path}.allowed_signers: required where tags is signed (or gpg_keys): a file that `fab trust.add` writes"
        )
    if trust.signatures > 1 and trust.tags != "signed":
        problems.append(f"{path}.signatures: counts only where tags is signed")
    return problems
