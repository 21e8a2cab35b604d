"""Tag policies, with real keys: only signers that the control machine names count."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.repository import Repository
from deploy.bundle.signature import accept
from deploy.errors import Refused


@pytest.fixture
def signers(project: Any, tmp_path: Path) -> Path:
    """Two keys, `good` and `bad`; the allowed-signers file names the first."""
    for name in ("good", "bad"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    project.git("config", "gpg.format", "ssh")
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"release@example.org {(tmp_path / 'good.pub').read_text()}")
    return allowed


def sign(project: Any, key: Path, tag: str) -> None:
    """Make a signed tag on HEAD."""
    project.git("-c", f"user.signingKey={key}", "tag", "-s", "-m", "signed", tag)


def judge(project: Any, tag: str, policy: str, signers: Path | None) -> None:
    """Resolve a tag and hold it against a policy."""
    repository = Repository(project.folder)
    accept(repository, repository.resolve(tag), policy, None if signers is None else str(signers))


def test_an_allowed_signer_is_accepted(project: Any, signers: Path) -> None:
    """A tag signed by a named key passes every policy."""
    sign(project, signers.parent / "good", "v1")
    for policy in ("any", "annotated", "signed"):
        judge(project, "v1", policy, signers)


def test_an_unknown_signer_is_refused_whatever_the_repository_says(project: Any, signers: Path) -> None:
    """A good signature by another key is refused, also where the repository's own config allows it."""
    other = signers.parent / "other"
    other.write_text(f"x {(signers.parent / 'bad.pub').read_text()}")
    project.git("config", "gpg.ssh.allowedSignersFile", str(other))
    sign(project, signers.parent / "bad", "v1")
    with pytest.raises(Refused, match="not signed by anyone in"):
        judge(project, "v1", "signed", signers)


def test_an_expired_signer_is_refused(project: Any, signers: Path) -> None:
    """A key outside its validity is no signer (ssh-keygen's valid-before)."""
    signers.write_text(signers.read_text().replace("ssh-ed25519", 'valid-before="20200101" ssh-ed25519'))
    sign(project, signers.parent / "good", "v1")
    with pytest.raises(Refused, match="not signed by anyone in"):
        judge(project, "v1", "signed", signers)


def test_a_signature_moved_to_another_tag_object_is_refused(project: Any, signers: Path) -> None:
    """A tag object that reuses a signature over other content is refused."""
    sign(project, signers.parent / "good", "v1")
    body = project.git("cat-file", "tag", "v1").replace("tag v1", "tag v2") + "\n"
    oid = project.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=body.encode())
    project.git("update-ref", "refs/tags/v2", oid)
    with pytest.raises(Refused, match="not signed by anyone in"):
        judge(project, "v2", "signed", signers)


def test_an_openpgp_signature_is_refused(project: Any, signers: Path) -> None:
    """Whatever a keyring thinks of it, an OpenPGP signature does not count, also behind an SSH one."""
    sign(project, signers.parent / "good", "v1")
    pgp = "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
    body = project.git("cat-file", "tag", "v1") + "\n" + pgp
    oid = project.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=body.encode())
    project.git("update-ref", "refs/tags/v1", oid)
    with pytest.raises(Refused, match="no SSH signature"):
        judge(project, "v1", "signed", signers)


def test_unsigned_and_lightweight_tags(project: Any, signers: Path) -> None:
    """An unsigned tag passes `annotated`, a lightweight one only `any`; a refusal names what mends it."""
    project.tag("plain")
    project.git("tag", "light")
    judge(project, "plain", "annotated", signers)
    judge(project, "light", "any", None)
    for tag, policy, says in (
        ("plain", "signed", "no signature"),
        ("light", "annotated", "lightweight"),
        ("light", "signed", "git tag -s light"),
    ):
        with pytest.raises(Refused) as refused:
            judge(project, tag, policy, signers)
        assert says in str(refused.value)


def test_a_missing_signers_file_is_refused(project: Any, signers: Path) -> None:
    """Without the file nobody is allowed."""
    sign(project, signers.parent / "good", "v1")
    with pytest.raises(Refused, match="no allowed-signers file"):
        judge(project, "v1", "signed", signers.parent / "absent")
