"""Who signed a tag object, by which key, and the signature block itself. Verifies nothing, starts nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

SSH, GPG = "SSH", "GPG"
_BEGIN = re.compile(rb"^-----BEGIN (PGP SIGNATURE|PGP MESSAGE|SIGNED MESSAGE|SSH SIGNATURE)-----", re.MULTILINE)
_TAGGED_AT = re.compile(rb"^tagger .*> (\d{1,12}) [+-]\d{4}$", re.MULTILINE)


class NotAccepted(Exception):
    """A signature does not count. The message says who made it, as far as that is known, and why not."""


@dataclass(frozen=True)
class Signer:
    """One key that signed, and whose it is: SSH principals, or the addresses of an OpenPGP key."""

    kind: str
    fingerprint: str
    """``SHA256:...``, or all 40 digits of the OpenPGP primary key."""
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.names)} ({self.kind} {self.fingerprint})"

    def is_other_than(self, other: Signer) -> bool:
        """Whether this is another person with another key: two keys of one person are one signer."""
        mine, theirs = ({name.lower() for name in one.names} for one in (self, other))
        return self.fingerprint != other.fingerprint and not mine & theirs


@dataclass(frozen=True)
class Signed:
    """A tag object taken apart as git does: what was signed, and the block at its end that signs it."""

    payload: bytes
    block: bytes
    kind: str
    """SSH, GPG, or what the block calls itself."""
    made_at: int
    """Seconds, as the tag says of itself: the signer's word."""

    @classmethod
    def of(cls, content: bytes) -> Signed:
        """Take a tag object's content apart. Raises NotAccepted where nobody signed it."""
        found = list(_BEGIN.finditer(content))
        if not found:
            raise NotAccepted("it carries no signature")
        # The last block is the signature, as for git (gpg-interface.c, parse_signature): what stands before is content.
        begin = found[-1]
        tagged = _TAGGED_AT.search(content.partition(b"\n\n")[0])
        if tagged is None:
            raise NotAccepted("it does not say when it was made")
        kinds = {b"PGP SIGNATURE": GPG, b"SSH SIGNATURE": SSH}
        kind = kinds.get(begin[1], begin[1].decode("ascii"))
        return cls(content[: begin.start()], content[begin.start() :], kind, int(tagged[1]))
