"""The few rules for names that may reach a host, and the types that prove a name passed them. No I/O."""

from __future__ import annotations

import re
from typing import NewType

Sha256 = NewType("Sha256", str)
"""64 lower-case hex digits."""
ReleaseId = NewType("ReleaseId", str)
"""``TAG-DIGEST8``: a tag and the first 8 hex digits of its manifest's sha256."""

TAG_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
_TAG = re.compile(TAG_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RELEASE = re.compile("(" + TAG_PATTERN + ")-([0-9a-f]{8})")
_RESERVED_TAGS = frozenset({"HEAD", "FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD", "current", "previous"})


def is_tag(text: str) -> bool:
    """A name that may be deployed: one rule, so that no shell, path or log line ever needs to quote it.

    ``..`` and a trailing ``.lock`` cannot be git tags at all (git-check-ref-format(1)); names that mean
    something else to git or to this layout (``HEAD``, ``current``) are refused as well.
    """
    return bool(_TAG.fullmatch(text)) and ".." not in text and text not in _RESERVED_TAGS


def is_sha256(text: str) -> bool:
    """64 lower-case hex digits, nothing else."""
    return bool(_SHA256.fullmatch(text))


def sha256(text: str) -> Sha256:
    """Take ``text`` as a digest. Raises ValueError where it is not one."""
    if not is_sha256(text):
        raise ValueError("not a sha256 digest: %r" % text[:80])
    return Sha256(text)


def release_id(tag: str, manifest_digest: str) -> ReleaseId:
    """Name the release of one tag and one manifest: same content, same id, on every host. Raises ValueError."""
    if not is_tag(tag):
        raise ValueError("not a deployable tag name: %r" % tag[:120])
    return ReleaseId("%s-%s" % (tag, sha256(manifest_digest)[:8]))


def is_release_id(text: str) -> bool:
    """``TAG-DIGEST8`` with a deployable tag. Anything else in ``releases/`` is not ours and is left alone."""
    match = _RELEASE.fullmatch(text)
    return bool(match) and is_tag(match.group(1)) if match else False


def parse_release_id(text: str) -> ReleaseId:
    """Take ``text`` as a release id. Raises ValueError where it is not one."""
    if not is_release_id(text):
        raise ValueError("not a release id: %r" % text[:140])
    return ReleaseId(text)


def tag_of(release: ReleaseId) -> str:
    """The tag that a release id names."""
    return release[:-9]
