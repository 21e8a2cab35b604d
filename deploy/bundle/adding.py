"""Adding a signer: their public key to the file that settings name, and what is then to be done by whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle.gpg_signers import GpgKey, keyring
from deploy.bundle.signer import GPG, SSH
from deploy.bundle.ssh_signers import NAMESPACE, allowed_signers, fingerprint, public_key
from deploy.errors import Refused
from deploy.settings import Trust

FOLDER = "signers"
"""In the project, where settings name nothing yet."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._%+-]*(@[A-Za-z0-9][A-Za-z0-9.-]*)?"
_NOTHING = "Nothing was written."


@dataclass(frozen=True)
class Added:
    """What was written, and what remains: lines of fabric.yaml (none where settings say it all) and commands."""

    kind: str
    names: tuple[str, ...]
    fingerprint: str
    file: str
    was_there: bool
    settings: tuple[str, ...]
    commands: tuple[str, ...]


def add(project: Path, key: Path, name: str | None, stages: Sequence[Trust]) -> Added:
    """Take a public key file, SSH or OpenPGP, and write it where the stages' settings say. Raises Refused."""
    try:
        data = key.expanduser().read_bytes()
    except OSError as error:
        raise Refused(_NOTHING, f"{key} cannot be read: {error.strerror}", "--key FILE names a public key") from error
    text = data.decode("utf-8", "replace")
    if "PRIVATE KEY" in text:
        step = f"fab trust.add --key {key}.pub --name NAME@example.org  # or: gpg --armor --export NAME > FILE"
        raise Refused(_NOTHING, f"{key} holds a PRIVATE key: that is nobody's but the signer's", step)
    found = public_key(text)
    try:
        return _ssh(project, found, name, stages) if found else _gpg(project, key.expanduser(), stages)
    except OSError as error:
        raise Refused(_NOTHING, str(error), "look at the paths of signers in fabric.yaml") from error


def _ssh(project: Path, key: str, name: str | None, stages: Sequence[Trust]) -> Added:
    if name is None or not re.fullmatch(_NAME, name):
        step = "fab trust.add --key FILE --name alice@example.org"
        raise Refused(_NOTHING, f"an SSH key does not say whose it is, and the name is {name!a}", step)
    file, configured = _file(project, [trust.allowed_signers for trust in stages], f"{FOLDER}/allowed_signers")
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    mark = fingerprint(key.split()[1])
    mine = next((one for one in allowed_signers(before) if one.fingerprint == mark), None)
    if mine is not None and name not in mine.names:
        why = f"{file} has this key already, as that of {', '.join(mine.names)}: {SSH} {mark}"
        raise Refused(_NOTHING, why, "give each signer a key of their own, or correct that line")
    if mine is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write("\n" if before and not before.endswith("\n") else "")
            out.write(f'{name} namespaces="{NAMESPACE}" {key}\n')
    settings = () if configured else ("tags: signed", f"allowed_signers: {_shown(file, project)}")
    sign = ("git config gpg.format ssh", "git config user.signingKey KEY.pub  # the signer's own, on their machine")
    return Added(SSH, (name,), mark, str(file), mine is not None, settings, (*sign, *_then()))


def _gpg(project: Path, key: Path, stages: Sequence[Trust]) -> Added:
    try:
        with keyring([str(key)]) as ring:
            keys = ring.members()
            exported = ring.export(keys[0].fingerprint) if keys else ""
    except Refused as error:
        why = f"{key} is neither an SSH public key nor an exported OpenPGP one"
        raise Refused(_NOTHING, why, "--key ~/.ssh/id_ed25519.pub, or: gpg --armor --export NAME > FILE") from error
    if len(keys) != 1:
        raise Refused(_NOTHING, f"{key} holds {len(keys)} keys", "gpg --armor --export FINGERPRINT > FILE: one a file")
    (one,) = keys
    if one.validity in ("r", "e"):
        raise Refused(_NOTHING, f"this key counts no more: {_told(one)}", "ask the signer for a key that is good")
    folders = [next(filter(_is_folder, trust.gpg_keys), None) for trust in stages]
    folder, configured = _file(project, folders, f"{FOLDER}/gpg")
    file = folder / f"{one.fingerprint}.asc"
    was_there = file.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(exported, encoding="ascii")
    settings = () if configured else ("tags: signed", f"gpg_keys: {_shown(folder, project)}")
    commands = (f"git config user.signingKey {one.fingerprint}  # on the signer's machine", *_then())
    return Added(GPG, one.names, one.fingerprint, str(file), was_there, settings, commands)


def _file(project: Path, named: Sequence[str | None], default: str) -> tuple[Path, bool]:
    """The one path that settings name, or the default; and whether all of them name it."""
    paths = sorted({path for path in named if path})
    if len(paths) > 1:
        why = f"stages name different files: {', '.join(paths)}"
        raise Refused(_NOTHING, why, "fab trust.add --stage NAME ...  # says whose")
    return (Path(paths[0]), all(named)) if paths else (project / default, False)


def _is_folder(path: str) -> bool:
    return Path(path).is_dir() or not Path(path).suffix  # one that is still to be made


def _shown(path: Path, project: Path) -> str:
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def _told(key: GpgKey) -> str:
    state = {"r": "REVOKED", "e": "EXPIRED"}[key.validity]
    return f"{', '.join(key.names)} ({GPG} {key.fingerprint}), {state}"


def _then() -> tuple[str, ...]:
    return ("git tag -s v1.0 -m 'what is new'  # signs a tag", "fab trust  # shows who signed what")
