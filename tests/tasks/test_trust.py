"""``fab trust`` and ``fab trust.add``: from nothing to signed tags with the very lines that are printed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.conftest import Project
from tests.bundle.keys import Gpg, SshKey, ssh_key

Fab = Callable[..., Any]


@pytest.fixture
def shop(project: Path) -> Project:
    """A repository with one commit; stages staging, production and pre_prod."""
    made = Project(project)
    made.commit()
    return made


@pytest.fixture
def alice(tmp_path: Path) -> SshKey:
    """Alice's pair."""
    return ssh_key(tmp_path, "alice")


def add(fab: Fab, key: SshKey, name: str = "alice@example.org") -> Any:
    """Add a signer by the public half."""
    return fab("trust.add", "--key", f"{key.path}.pub", "--name", name)


def test_from_nothing_to_a_signed_tag_by_the_printed_lines(
    shop: Project, fab: Fab, alice: SshKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Show says how to start; add prints two lines of settings and the signer's commands; then the tag is taken."""
    assert "start: fab trust.add --key" in fab("trust").out
    ended = add(fab, alice)
    assert ended.code == 0, ended.err
    settings = [line for line in ended.lines if line.startswith(("  tags:", "  allowed_signers:"))]
    assert len(settings) == 2
    file = shop.folder / "fabric.yaml"
    file.write_text(file.read_text() + "\n".join(settings) + "\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    commands = [line.strip().partition("  #")[0] for line in ended.lines if line.startswith("  git ")]
    assert len(commands) == 3
    for command in commands:
        subprocess.run(command.replace("KEY.pub", f"{alice.path}.pub"), shell=True, cwd=shop.folder, check=True)
    shop.tag("plain")
    ended = fab("trust", "--json")
    answer = json.loads(ended.out)
    assert [signer["fingerprint"] for signer in answer["signers"]] == [alice.fingerprint]
    by_tag = {tag["tag"]: tag for tag in answer["tags"]}
    assert by_tag["v1.0"]["accepted"] == ["staging", "production", "pre_prod"]
    assert [signer["names"] for signer in by_tag["v1.0"]["signers"]] == [["alice@example.org"]]
    assert by_tag["plain"]["accepted"] == []
    assert "carries no signature" in by_tag["plain"]["refused"]["production"]
    shown = fab("trust").out
    assert alice.fingerprint in shown
    assert "plain: not taken by staging, production, pre_prod" in shown


def test_gits_configuration_is_never_touched(shop: Project, fab: Fab, alice: SshKey) -> None:
    """What is to be configured is printed; whose machine it is, we cannot know."""
    before = (shop.folder / ".git/config").read_bytes()
    add(fab, alice)
    fab("trust")
    assert (shop.folder / ".git/config").read_bytes() == before


def test_adding_twice_writes_once_and_another_name_is_refused(shop: Project, fab: Fab, alice: SshKey) -> None:
    """One key is one person's: the same key under two names would make two signers of one."""
    add(fab, alice)
    file = shop.folder / "signers/allowed_signers"
    before = file.read_text()
    assert before == f'alice@example.org namespaces="git" {" ".join(alice.public.split()[:2])}\n'
    again = add(fab, alice)
    assert (again.code, file.read_text()) == (0, before)
    assert "was in" in again.out
    other = add(fab, alice, "bob@example.org")
    assert (other.code, file.read_text()) == (2, before)
    assert "as that of alice@example.org" in other.err


def test_the_file_that_settings_name_is_written(shop: Project, fab: Fab, alice: SshKey, tmp_path: Path) -> None:
    """Anywhere on the control machine, after what it holds; stages that name different ones must be told apart."""
    file = tmp_path / "elsewhere"
    file.write_text("# ours")
    settings = shop.folder / "fabric.yaml"
    stages = settings.read_text()
    settings.write_text(f"{stages}  allowed_signers: {file}\n")
    ended = add(fab, alice)
    assert (ended.code, "fabric.yaml" in ended.out) == (0, False)
    assert file.read_text().startswith("# ours\nalice@example.org ")
    named = stages.replace("hosts: [web-1]}", "hosts: [web-1], allowed_signers: staging_signers}", 1)
    settings.write_text(f"{named}  allowed_signers: {file}\n")
    assert "--stage NAME" in add(fab, alice).err
    key = f"{alice.path}.pub"
    assert fab("trust.add", "--key", key, "--name", "alice@example.org", "--stage", "staging").code == 0
    assert (shop.folder / "staging_signers").exists()


def test_keys_that_may_not_be_added(shop: Project, fab: Fab, alice: SshKey, tmp_path: Path) -> None:
    """A private key, a name that is none, a file that is no key or not there: exit 2, and nothing is written."""
    (tmp_path / "text").write_text("hello\n")
    for words, says in (
        (["--key", str(alice.path), "--name", "alice@example.org"], "PRIVATE key"),
        (["--key", f"{alice.path}.pub", "--name", 'alice" cert-authority'], "the name is"),
        (["--key", f"{alice.path}.pub", "--name", "*@example.org"], "the name is"),
        (["--key", f"{alice.path}.pub"], "the name is None"),
        (["--key", str(tmp_path / "text")], "neither an SSH public key nor an exported OpenPGP one"),
        (["--key", str(tmp_path / "absent")], "cannot be read"),
    ):
        ended = fab("trust.add", *words)
        assert ended.code == 2
        assert says in ended.err
    assert not (shop.folder / "signers").exists()


def test_an_openpgp_key_is_added_without_its_private_half(
    shop: Project, fab: Fab, gpg: Gpg, carol: str, tmp_path: Path
) -> None:
    """Under its whole fingerprint, into a folder that one line of settings names; it says itself whose it is."""
    ended = fab("trust.add", "--key", str(gpg.export(carol, tmp_path / "carol.asc")))
    assert ended.code == 0, ended.err
    file = shop.folder / f"signers/gpg/{carol}.asc"
    assert "PUBLIC KEY" in file.read_text()
    assert "  gpg_keys: signers/gpg" in ended.lines
    settings = shop.folder / "fabric.yaml"
    settings.write_text(settings.read_text() + "  tags: signed\n  gpg_keys: signers/gpg\n")
    gpg.sign(shop, carol, "v1")
    (tag,) = json.loads(fab("trust", "--json").out)["tags"]
    assert tag["accepted"] == ["staging", "production", "pre_prod"]
    assert tag["signers"] == [{"kind": "GPG", "fingerprint": carol, "names": ["carol@example.org"]}]


def test_revoked_expired_and_future_keys_are_shown_as_such(shop: Project, fab: Fab, tmp_path: Path) -> None:
    """Whoever reads the list sees which of its lines still count."""
    keys = {name: ssh_key(tmp_path, name) for name in ("good", "old", "new", "lost")}
    lines = {
        "old": keys["old"].line.replace("namespaces", 'valid-before="20200101",namespaces'),
        "new": keys["new"].line.replace("namespaces", 'valid-after="20990101",namespaces'),
    }
    (shop.folder / "signers").mkdir()
    text = "".join(lines.get(name, key.line) for name, key in keys.items())
    (shop.folder / "signers/allowed_signers").write_text(text)
    (shop.folder / "signers/revoked").write_text(keys["lost"].public)
    settings = shop.folder / "fabric.yaml"
    files = "  allowed_signers: signers/allowed_signers\n  revoked_signers: signers/revoked\n"
    settings.write_text(settings.read_text() + files)
    answer = json.loads(fab("trust", "--json").out)
    states = {signer["names"][0].partition("@")[0]: signer["state"] for signer in answer["signers"]}
    assert states == {"good": "good", "old": "EXPIRED", "new": "not yet", "lost": "REVOKED"}


def test_a_file_of_signers_that_is_not_there_is_exit_1(shop: Project, fab: Fab) -> None:
    """Then no tag would be taken, and each stage that it is for is named."""
    settings = shop.folder / "fabric.yaml"
    settings.write_text(settings.read_text() + "  tags: signed\n  allowed_signers: signers/allowed_signers\n")
    ended = fab("trust")
    assert ended.code == 1
    assert "problem: staging, production, pre_prod: a file of allowed signers cannot be read" in ended.out


def test_a_deploy_says_who_signed(shop: Project, fab: Fab, alice: SshKey) -> None:
    """In the run's own lines, so that its log has it; refused tags reach no host."""
    add(fab, alice)
    settings = shop.folder / "fabric.yaml"
    settings.write_text(
        f"""\
deploy:
  app: shop
  python: "3.11"
  allow_root: {str(os.getuid() == 0).lower()}
  tags: signed
  allowed_signers: signers/allowed_signers
  stages:
    staging: {{hosts: {{s1: {{local: true, root: "{shop.folder.parent}/s1"}}}}}}
"""
    )
    shop.commit()
    alice.sign(shop, "v1")
    ended = fab("staging", "deploy:v1")  # goes on to a closure that was never locked
    assert f"v1 is signed by alice@example.org (SSH {alice.fingerprint})" in ended.out
    assert ended.code == 2
    shop.tag("v2")
    ended = fab("staging", "deploy:v2")
    assert ended.code == 2
    assert "this stage takes signatures by alice@example.org" in ended.err
