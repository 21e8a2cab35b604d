"""OpenPGP signatures by gpg: a keyring of exported keys alone, and whether one of them signed (gpg's doc/DETAILS)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.bundle.git import NO_HOST
from deploy.bundle.program import run
from deploy.bundle.signer import GPG, NotAccepted, Signed, Signer
from deploy.errors import Refused

SUFFIXES = (".asc", ".gpg", ".pgp")
_VERDICTS = {
    "BADSIG": "does not fit what it says",
    "EXPSIG": "is an expired signature",
    "EXPKEYSIG": "was made by an EXPIRED key",
    "REVKEYSIG": "was made by a REVOKED key",
}


@dataclass(frozen=True)
class GpgKey:
    """One primary key of the keyring. ``expires`` is seconds as text, or empty."""

    fingerprint: str
    names: tuple[str, ...]
    validity: str
    """``r`` revoked, ``e`` expired, ``i`` invalid; anything else is as good as being listed here."""
    expires: str


class Keyring:
    """A temporary GNUPGHOME that holds the named keys and no others: gpg takes any key of the user's own."""

    def __init__(self, home: str) -> None:
        # No agent, no key server, no configuration: nothing but the bytes of the key files has a say.
        self._gpg = [
            "gpg", "--homedir", home, "--no-options", "--batch", "--no-tty", "--no-autostart", "--disable-dirmngr",
            "--no-auto-key-retrieve", "--weak-digest", "SHA1",
        ]  # fmt: skip

    def add(self, files: Iterable[Path]) -> None:
        """Import exported keys and revocation certificates. Raises Refused for a file that holds neither, OSError."""
        # A certificate counts only once its key is there, and names of files say nothing about that.
        for file in [file for file in files if self._import(file)]:
            said = self._import(file)
            if said:
                step = f"gpg --armor --export NAME > {file}"
                raise Refused(NO_HOST, f"{file} holds no OpenPGP public key that gpg can read: {said}", step)

    def _import(self, file: Path) -> str:
        """Import one file; tell what gpg said where it found nothing that it could use."""
        done = run([*self._gpg, "--status-fd", "1", "--import"], file.read_bytes())
        found = re.search(r"^\[GNUPG:\] (IMPORT_OK|KEY_CONSIDERED)", done.out, re.MULTILINE)
        return "" if found else done.err or "nothing"

    def members(self) -> tuple[GpgKey, ...]:
        """List what is in it."""
        found: list[GpgKey] = []
        wants_fingerprint = False
        for line in run([*self._gpg, "--with-colons", "--list-keys"]).out.splitlines():
            cells = line.split(":")
            if cells[0] == "pub":
                found.append(GpgKey("", (), cells[1], cells[6]))
                wants_fingerprint = True
            elif cells[0] == "fpr" and wants_fingerprint:
                found[-1] = replace(found[-1], fingerprint=cells[9])
                wants_fingerprint = False
            elif cells[0] == "uid" and found:
                found[-1] = replace(found[-1], names=(*found[-1].names, _address(cells[9])))
        return tuple(found)

    def export(self, key: str) -> str:
        """A public key as it is handed on, and nothing else of the file that it came in."""
        return run([*self._gpg, "--armor", "--export", key]).out

    def signer(self, signed: Signed) -> Signer:
        """Say which key of this ring made the signature. Raises NotAccepted."""
        with tempfile.NamedTemporaryFile(suffix=".sig") as file:
            file.write(signed.block)
            file.flush()
            words = ["--status-fd", "1", "--trust-model", "always", "--verify", file.name, "-"]
            ran = run([*self._gpg, *words], signed.payload)
        status = [line.split()[1:] for line in ran.out.splitlines() if line.startswith("[GNUPG:] ")]
        told = {words[0]: words[1:] for words in status}
        if sum(words[0] == "NEWSIG" for words in status) > 1:
            raise NotAccepted("its OpenPGP block holds more than one signature")
        known = {key.fingerprint: key for key in self.members()}
        for word, what in _VERDICTS.items():
            if word in told:
                primary = told.get("VALIDSIG", told[word])[-1 if "VALIDSIG" in told else 0]
                raise NotAccepted(f"its signature {what}: {_named(known, primary, told[word][1:])}")
        # A revoked key ends with exit status 0 and VALIDSIG: only GOODSIG says that all is well.
        if not ran.ok or "GOODSIG" not in told or "VALIDSIG" not in told:
            raise NotAccepted(_unknown(told, ran.err))
        primary = told["VALIDSIG"][9]
        if primary not in known:
            raise NotAccepted(f"it was signed with {GPG} {primary}, which is no key of an allowed signer")
        return Signer(GPG, primary, known[primary].names)


@contextmanager
def keyring(paths: Sequence[str]) -> Generator[Keyring]:
    """Give a keyring of the keys in these files, and in the folders among them. Raises Refused, OSError."""
    with tempfile.TemporaryDirectory(prefix="sealed-deploy-gpg-") as home:
        ring = Keyring(home)
        ring.add(key_files(paths))
        yield ring


def key_files(paths: Sequence[str]) -> list[Path]:
    """The key files that ``gpg_keys`` names."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(one for one in path.iterdir() if one.suffix in SUFFIXES) if path.is_dir() else [path]
    return found


def _address(uid: str) -> str:
    """``alice@example.org`` of ``Alice <alice@example.org>``: what names a person whatever the key."""
    text = re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), uid)
    found = re.search(r"<([^<>\s]+@[^<>\s]+)>\s*$", text)
    return found[1] if found else text


def _named(known: dict[str, GpgKey], key: str, uid: Sequence[str]) -> str:
    names = known[key].names if key in known else ()
    return f"{', '.join(names) or ' '.join(uid)} ({GPG} {key})"


def _unknown(told: dict[str, list[str]], said: str) -> str:
    if "ERRSIG" in told and "NO_PUBKEY" in told:
        key = told["ERRSIG"][-1] if len(told["ERRSIG"]) > 6 and told["ERRSIG"][-1] != "-" else told["NO_PUBKEY"][0]
        return f"it was signed with {GPG} {key}, which is no key of an allowed signer"
    return f"its OpenPGP signature cannot be verified: {said or 'gpg gave no reason'}"
