"""Whether a tag is signed by someone the control machine allows. The tag has no say in who may sign."""

from __future__ import annotations

import re
from pathlib import Path

from deploy.bundle.git import NO_HOST, GitFailed
from deploy.bundle.repository import Repository, ResolvedTag
from deploy.errors import Refused

_BEGIN = re.compile(rb"^-----BEGIN ((?:SSH|PGP) SIGNATURE|PGP MESSAGE|SIGNED MESSAGE)-----", re.MULTILINE)


def accept(repository: Repository, resolved: ResolvedTag, policy: str, allowed_signers: str | None) -> None:
    """Hold a resolved tag against a stage's ``tags`` policy: any, annotated or signed. Raises Refused.

    ``signed`` asks git-verify-tag(1) with ``allowed_signers`` (ssh-keygen(1), ALLOWED SIGNERS). An OpenPGP signature is
    refused: git would take any key of the keyring for it. That the tag was made for this name, ``resolve`` has checked.
    """
    if policy == "any":
        return
    tag = resolved.tag
    if resolved.tag_object is None:
        why = f"tag {tag} is lightweight; this stage takes only {policy} tags"
        raise Refused(
            NO_HOST,
            why,
            f"git tag -d {tag} && git tag {'-s' if policy == 'signed' else '-a'} {tag} {resolved.commit[:12]}",
        )
    if policy == "annotated":
        return
    if allowed_signers is None or not Path(allowed_signers).is_file():
        raise Refused(
            NO_HOST, f"there is no allowed-signers file {allowed_signers!a}", "correct `allowed_signers` in fabric.yaml"
        )
    kinds = _BEGIN.findall(repository.git.run("cat-file", "tag", resolved.tag_object))
    if kinds[-1:] != [b"SSH SIGNATURE"]:
        found = "no SSH signature" if kinds else "no signature"
        why = f"tag {tag} carries {found}; this stage takes only signed tags"
        raise Refused(
            NO_HOST, why, f"git config gpg.format ssh, then sign it: git tag -f -s {tag} {resolved.commit[:12]}"
        )
    try:
        repository.git.run("-c", f"gpg.ssh.allowedSignersFile={allowed_signers}", "verify-tag", resolved.tag_object)
    except GitFailed as error:
        why = f"tag {tag} is not signed by anyone in {allowed_signers}: {error}"
        raise Refused(NO_HOST, why, "let an allowed signer sign the tag") from error
