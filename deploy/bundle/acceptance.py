"""Whether a stage takes a tag: its policy, who must have signed, which repository. The tag has no say in any of it."""

from __future__ import annotations

from pathlib import Path

from deploy.bundle.git import NO_HOST
from deploy.bundle.gpg_signers import keyring
from deploy.bundle.listing import listed
from deploy.bundle.repository import COSIGNED, Repository, ResolvedTag
from deploy.bundle.signer import GPG, SSH, NotAccepted, Signed, Signer
from deploy.bundle.ssh_signers import ssh_signer
from deploy.errors import Refused
from deploy.settings import Trust

_SHOW = "fab trust  # shows who may sign"


Verdict = tuple[list[Signer], list[str]]
"""The allowed signers that signed a tag, and why other signatures do not count."""


def accept(
    repository: Repository, resolved: ResolvedTag, trust: Trust, signed: Verdict | None = None
) -> tuple[Signer, ...]:
    """Hold a resolved tag against a stage's settings and say who signed it. Raises Refused: who did, and what is taken.

    ``resolve`` has checked already that the tag object was made for this very name. ``signed`` is what ``signers_of``
    said of it, where that is known.
    """
    _same_repository(repository, resolved, trust)
    if trust.tags == "any":
        return ()
    tag, commit = resolved.tag, resolved.commit[:12]
    if resolved.tag_object is None:
        why = f"tag {tag} is lightweight; this stage takes only {trust.tags} tags"
        switch = "-s" if trust.tags == "signed" else "-a"
        raise Refused(NO_HOST, why, f"git tag -d {tag} && git tag {switch} {tag} {commit}")
    if trust.tags == "annotated":
        return ()
    signers, problems = signed or signers_of(repository, resolved, trust)
    if not signers:
        why = f"tag {tag} is not accepted: {problems[0]}; {_accepted(trust)}"
        step = f"let one of them sign it: git tag -f -s {tag} {commit}  # and: fab trust shows who may"
        raise Refused(NO_HOST, why, step)
    if len(signers) < trust.signatures:
        name = f"{COSIGNED}{tag}/NAME"
        have = ", ".join(map(str, signers))
        why = f"tag {tag} has {len(signers)} of {trust.signatures} signatures, by {have}; {_accepted(trust)}"
        sign = f"git tag -s {name} {commit} -m 'seen' && git push origin {name}"
        step = f"another of them runs: {sign}; then here: git fetch --tags"
        raise Refused(NO_HOST, why, step, problems=problems)
    return tuple(signers)


def signers_of(repository: Repository, resolved: ResolvedTag, trust: Trust) -> Verdict:
    """Say which allowed signers signed an annotated tag, and why other signatures do not count.

    The tag's own signature comes first; where it does not count there is no signer at all. Others sign by a tag
    ``cosign/TAG/NAME`` of their own, each with a key and a name that no one before has. Raises Refused.
    """
    try:
        signers = [_signer(repository, resolved, trust)]
    except NotAccepted as error:
        return [], [str(error)]
    problems: list[str] = []
    for name in repository.cosignatures(resolved.tag):
        try:
            signer = _cosigner(repository, resolved, name, trust)
            if not all(signer.is_other_than(one) for one in signers):
                raise NotAccepted(f"{signer} has signed already")
            signers.append(signer)
        except NotAccepted as error:
            problems.append(f"{name}: {error}")
    return signers, problems


def _signer(repository: Repository, resolved: ResolvedTag, trust: Trust) -> Signer:
    """Say which allowed signer signed a tag object. Raises NotAccepted; Refused where a file of signers is missing."""
    signed = Signed.of(repository.content(resolved))
    try:
        if signed.kind == SSH and trust.allowed_signers:
            revoked = Path(trust.revoked_signers) if trust.revoked_signers else None
            return ssh_signer(signed, Path(trust.allowed_signers), revoked)
        if signed.kind == GPG and trust.gpg_keys:
            with keyring(trust.gpg_keys) as ring:
                return ring.signer(signed)
    except OSError as error:
        step = f"correct the path in fabric.yaml, or write the file: fab trust.add; then: {_SHOW}"
        raise Refused(NO_HOST, f"a file of allowed signers cannot be read: {error}", step) from error
    raise NotAccepted(f"it carries a signature of kind {signed.kind}, and this stage names no signers of that kind")


def _cosigner(repository: Repository, resolved: ResolvedTag, name: str, trust: Trust) -> Signer:
    try:
        other = repository.cosignature(name)
    except Refused as error:
        raise NotAccepted(error.why) from error
    if other.tag_object is None:
        raise NotAccepted("it is lightweight")
    if other.commit != resolved.commit:
        raise NotAccepted(f"it signs commit {other.commit[:12]}, and {resolved.tag} is {resolved.commit[:12]}")
    return _signer(repository, other, trust)


def _same_repository(repository: Repository, resolved: ResolvedTag, trust: Trust) -> None:
    if not trust.repository_id:
        return
    roots = repository.roots(resolved.commit)
    if set(roots) & set(trust.repository_id):
        return
    wanted = ", ".join(trust.repository_id)
    if repository.is_shallow:
        why = f"this is a shallow clone: that {resolved.tag} comes from repository {wanted} cannot be seen"
        raise Refused(NO_HOST, why, "git fetch --unshallow --tags, or clone without --depth (CI: fetch-depth: 0)")
    why = (
        f"tag {resolved.tag} is of another repository: its history begins with {', '.join(roots)}, "
        f"and `repository_id` is {wanted}"
    )
    raise Refused(
        NO_HOST, why, "deploy from the repository that settings name; its id: git rev-list --max-parents=0 HEAD"
    )


def _accepted(trust: Trust) -> str:
    files = ", ".join([*([trust.allowed_signers] if trust.allowed_signers else []), *trust.gpg_keys])
    names = dict.fromkeys(name for one in listed(trust) if one.state == "good" for name in one.names)
    return f"this stage takes signatures by {', '.join(names) or 'nobody'} ({files})"
