"""Real keys of people who sign: SSH pairs by ssh-keygen, OpenPGP keys in a GNUPGHOME of their own by gpg."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONG_AGO = "20200101T000000"
ED25519 = "Key-Type: eddsa\nKey-Curve: ed25519"
_KEY = """\
%no-protection
{kind}
Name-Real: {name}
Name-Email: {name}@example.org
Expire-Date: {expires}
{more}
%commit
"""


@dataclass(frozen=True)
class SshKey:
    """A pair; its public half lies at ``path``.pub."""

    path: Path
    name: str

    @property
    def line(self) -> str:
        """Its line of an allowed-signers file."""
        return f'{self.name} namespaces="git" {self.public}'

    @property
    def public(self) -> str:
        return self.path.with_suffix(".pub").read_text()

    @property
    def fingerprint(self) -> str:
        said = subprocess.run(["ssh-keygen", "-lf", f"{self.path}.pub"], check=True, capture_output=True, text=True)
        return said.stdout.split()[1]

    def sign(self, project: Any, tag: str, *at: str, when: int | None = None) -> str:
        """Make a tag signed with it, by stock git; gives the tag object's id."""
        config = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.path}"]
        return _tag(project, config, tag, *at, when=when)


@dataclass(frozen=True)
class Gpg:
    """A GNUPGHOME with keys in it."""

    home: Path

    def make(self, name: str, *, expires: str = "0", at: str = "", kind: str = ED25519, more: str = "") -> str:
        """Make a key, ``at`` a faked time where one is given; gives its fingerprint."""
        faked = [f"--faked-system-time={at}"] if at else []
        self.run(*faked, "--gen-key", "-", stdin=_KEY.format(name=name, kind=kind, expires=expires, more=more))
        listed = self.run("--with-colons", "--list-keys", f"{name}@example.org")
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def export(self, key: str, path: Path) -> Path:
        """Write a public key as people hand it on."""
        path.write_text(self.run("--armor", "--export", key))
        return path

    def revocation(self, key: str, path: Path) -> Path:
        """Write the revocation certificate that gpg made together with the key, ready to be imported."""
        path.write_text((self.home / f"openpgp-revocs.d/{key}.rev").read_text().replace("\n:-----", "\n-----"))
        return path

    def sign(self, project: Any, key: str, tag: str, *at: str, options: str = "") -> str:
        """Make a tag signed with a key, by stock git; ``options`` are gpg's. Gives the tag object's id."""
        program = self.home / "gpg"
        program.write_text(f'#!/bin/sh\nexec gpg --homedir {self.home} {options} "$@"\n')
        program.chmod(0o700)
        return _tag(project, ["-c", f"gpg.program={program}", "-c", f"user.signingKey={key}!"], tag, *at)

    def run(self, *words: str, stdin: str = "") -> str:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", *words]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        """End its agent."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)


def ssh_key(folder: Path, name: str) -> SshKey:
    """Make a pair in ``folder`` for ``name@example.org``."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return SshKey(path, f"{name}@example.org")


def _tag(project: Any, config: list[str], tag: str, *at: str, when: int | None = None) -> str:
    environment = {**os.environ, **({"GIT_COMMITTER_DATE": f"{when} +0000"} if when is not None else {})}
    subprocess.run(
        ["git", *config, "tag", "-f", "-s", "-m", f"release {tag}", tag, *at],
        cwd=project.folder, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return project.git("rev-parse", f"refs/tags/{tag}")
