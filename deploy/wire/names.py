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


def canonical_name(name: str) -> str:
    """Spell a package's name one way (PEP 503): runs of ``-``, ``_`` and ``.`` are one, letter case does not count."""
    return re.sub(r"[-_.]+", "-", name).lower()


def canonical_version(text: str) -> str:
    """Spell a version one way (PEP 440): 2024.07.04 is 2024.7.4, 5.2.0 is 5.2, 1.0-alpha is 1.0a0.

    For comparing for equality only; what is no version of PEP 440 is compared as it stands, in lower case.
    """
    public, _, local = text.strip().lower().lstrip("v").partition("+")
    for pattern, word in _MARKS:
        public = re.sub(r"[-_.]?(?:%s)[-_.]?(\d*)" % pattern, lambda m, w=word: w + (m.group(1) or "0"), public)
    public = re.sub(r"-(\d+)$", r".post\1", public)
    release = re.match(r"[\d!.]*", public)
    numbers = release.group() if release else ""
    short = re.sub(r"(?:\.0)+$", "", re.sub(r"\b0+(?=\d)", "", numbers.rstrip(".")))
    rest = public[len(numbers.rstrip(".")) :]
    return short + rest + ("+" + re.sub(r"[-_.]", ".", local) if local else "")


_MARKS = (
    ("alpha|a(?![a-z])", "a"),
    ("beta|b(?![a-z])", "b"),
    ("preview|pre|rc|c(?![a-z])", "rc"),
    ("post|rev|r(?![a-z])", ".post"),
    ("dev", ".dev"),
)
