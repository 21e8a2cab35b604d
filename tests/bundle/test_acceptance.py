"""Which tags a stage takes, with real git, ssh-keygen and gpg: only signers that the control machine names count."""

from __future__ import annotations

import calendar
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.acceptance import accept
from deploy.bundle.repository import Repository
from deploy.bundle.signer import Signer
from deploy.errors import ExitCode, Refused
from deploy.settings import Trust
from tests.bundle.conftest import Project
from tests.bundle.keys import LONG_AGO, Gpg, SshKey

Ssh = Callable[[str], SshKey]


def judge(project: Any, tag: str, trust: Trust) -> tuple[Signer, ...]:
    """Resolve a tag and hold it against a stage's settings."""
    repository = Repository(project.folder)
    return accept(repository, repository.resolve(tag), trust)


def refusal(project: Any, tag: str, trust: Trust) -> str:
    """What an operator reads of a tag that is not taken; always exit 2, before any host."""
    with pytest.raises(Refused) as refused:
        judge(project, tag, trust)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert refused.value.what == "No host was contacted; the service is unchanged."
    return str(refused.value)


@pytest.fixture
def allowed(tmp_path: Path, ssh: Ssh) -> Trust:
    """Alice may sign with SSH, nobody else."""
    file = tmp_path / "allowed_signers"
    file.write_text(ssh("alice").line)
    return Trust("signed", allowed_signers=str(file))


def test_unsigned_and_lightweight_tags(project: Any, allowed: Trust) -> None:
    """Line 28: an unsigned tag passes `annotated`, a lightweight one only `any`; a refusal names what mends it."""
    project.tag("plain")
    project.git("tag", "light")
    assert judge(project, "plain", Trust("annotated")) == ()
    assert judge(project, "light", Trust()) == ()
    assert "git tag -a light" in refusal(project, "light", Trust("annotated"))
    assert "git tag -s light" in refusal(project, "light", allowed)
    said = refusal(project, "plain", allowed)
    assert "carries no signature" in said
    assert allowed.allowed_signers is not None
    assert allowed.allowed_signers in said
    assert "git tag -f -s plain" in said


def test_what_was_resolved_is_what_is_verified(project: Any, ssh: Ssh, allowed: Trust) -> None:
    """Line 29: a ref that is moved to a good tag meanwhile lends its signature to nothing, and takes none away."""
    repository = Repository(project.folder)
    project.tag("v1")
    evil = repository.resolve("v1")
    ssh("alice").sign(project, "v1")
    good = repository.resolve("v1")
    with pytest.raises(Refused, match="carries no signature"):
        accept(repository, evil, allowed)
    project.git("tag", "-d", "v1")
    assert accept(repository, good, allowed)


def test_a_sha256_repository(ssh: Ssh, allowed: Trust, tmp_path: Path) -> None:
    """Object ids of 64 digits: signatures and the repository's id work the same."""
    folder = tmp_path / "long"
    subprocess.run(["git", "init", "-q", "--object-format=sha256", folder], check=True)
    project = Project(folder)
    root = project.commit()
    ssh("alice").sign(project, "v1")
    assert len(root) == 64
    assert judge(project, "v1", replace(allowed, repository_id=(root,)))


class TestSsh:
    """Signatures by SSH keys (PROTOCOL.sshsig)."""

    def test_an_allowed_signer_is_accepted_and_named(self, project: Any, ssh: Ssh, allowed: Trust) -> None:
        """By principal and fingerprint."""
        ssh("alice").sign(project, "v1")
        assert judge(project, "v1", allowed) == (Signer("SSH", ssh("alice").fingerprint, ("alice@example.org",)),)
        assert judge(project, "v1", Trust("annotated")) == ()

    def test_an_unknown_signer_is_refused_whatever_the_repository_says(
        self, project: Any, ssh: Ssh, allowed: Trust, tmp_path: Path
    ) -> None:
        """Line 28: also where the repository's own config allows that key, or names another program to verify with."""
        (tmp_path / "other").write_text(ssh("mallory").line)
        project.git("config", "gpg.ssh.allowedSignersFile", str(tmp_path / "other"))
        ssh("mallory").sign(project, "v1")
        project.git("config", "gpg.ssh.program", "/bin/true")
        said = refusal(project, "v1", allowed)
        assert f"signed with SSH {ssh('mallory').fingerprint}, which is no key of an allowed signer" in said

    def test_a_revoked_key_is_refused(self, project: Any, ssh: Ssh, allowed: Trust, tmp_path: Path) -> None:
        """Line 28: by a key revocation list, and by a plain list of public keys; another's key is no matter."""
        alice, bob = ssh("alice"), ssh("bob")
        alice.sign(project, "v1")
        listed, krl = tmp_path / "revoked", tmp_path / "krl"
        listed.write_text(bob.public)
        trust = Trust("signed", allowed_signers=allowed.allowed_signers, revoked_signers=str(listed))
        assert judge(project, "v1", trust)
        listed.write_text(bob.public + alice.public)
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", krl, f"{alice.path}.pub"], check=True)
        for file in (listed, krl):
            trust = Trust("signed", allowed_signers=allowed.allowed_signers, revoked_signers=str(file))
            said = refusal(project, "v1", trust)
            assert f"alice@example.org signed it with a REVOKED key: SSH {alice.fingerprint}" in said

    def test_a_list_of_revoked_keys_that_cannot_be_read_refuses_all(
        self, project: Any, ssh: Ssh, allowed: Trust, tmp_path: Path
    ) -> None:
        """Otherwise whoever can delete it revokes the revocation."""
        ssh("alice").sign(project, "v1")
        trust = Trust("signed", allowed_signers=allowed.allowed_signers, revoked_signers=str(tmp_path / "absent"))
        assert "absent" in refusal(project, "v1", trust)

    def test_a_key_counts_only_at_its_own_time(self, project: Any, ssh: Ssh, allowed: Trust) -> None:
        """Line 28: valid-after and valid-before against the time that the tag was made; both are told."""
        alice = ssh("alice")
        assert allowed.allowed_signers is not None
        line = alice.line.replace("namespaces", 'valid-after="20240101",valid-before="20250101",namespaces')
        Path(allowed.allowed_signers).write_text(line)
        for year, good in ((2023, False), (2024, True), (2026, False)):
            alice.sign(project, f"v{year}", when=calendar.timegm((year, 6, 1, 0, 0, 0)))
            if good:
                assert judge(project, f"v{year}", allowed)
            else:
                said = refusal(project, f"v{year}", allowed)
                assert "alice@example.org signed it" in said
                assert f"valid from 20240101 until 20250101; it was made at {year}0601" in said

    def test_a_key_for_other_things_signs_no_tags(self, project: Any, ssh: Ssh, allowed: Trust) -> None:
        """A line with other namespaces does not count, and says so."""
        assert allowed.allowed_signers is not None
        Path(allowed.allowed_signers).write_text(ssh("alice").line.replace('"git"', '"file"'))
        ssh("alice").sign(project, "v1")
        assert "may sign for file, not for git" in refusal(project, "v1", allowed)

    def test_a_signature_moved_to_another_tag_object_is_refused(self, project: Any, ssh: Ssh, allowed: Trust) -> None:
        """A tag object that reuses a signature over other content is refused."""
        ssh("alice").sign(project, "v1")
        forge(project, "v2", project.git("cat-file", "tag", "v1").replace("tag v1", "tag v2") + "\n")
        assert "does not fit what it says" in refusal(project, "v2", allowed)

    def test_lines_that_cannot_be_read_do_not_lose_the_others(self, project: Any, ssh: Ssh, allowed: Trust) -> None:
        """Comments, blank and broken lines stand in real files."""
        assert allowed.allowed_signers is not None
        file = Path(allowed.allowed_signers)
        file.write_text("what is this\n\n# a comment\n" + ssh("bob").line + file.read_text())
        ssh("alice").sign(project, "v1")
        assert judge(project, "v1", allowed)[0].names == ("alice@example.org",)


class TestGpg:
    """Signatures by OpenPGP keys."""

    @pytest.fixture
    def trust(self, gpg: Gpg, carol: str, tmp_path: Path) -> Trust:
        """Carol may sign, nobody else."""
        return Trust("signed", gpg_keys=(str(gpg.export(carol, tmp_path / "carol.asc")),))

    def test_an_allowed_signer_is_accepted_and_named(self, project: Any, gpg: Gpg, carol: str, trust: Trust) -> None:
        """By address and the whole fingerprint of the primary key."""
        gpg.sign(project, carol, "v1")
        assert judge(project, "v1", trust) == (Signer("GPG", carol, ("carol@example.org",)),)

    def test_a_key_of_the_operators_own_keyring_is_refused(
        self, project: Any, gpg: Gpg, trust: Trust, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Line 28: git verify-tag takes any key that the user's keyring holds, and says so with exit status 0."""
        dave = gpg.make("dave")
        gpg.sign(project, dave, "v1")
        monkeypatch.setenv("GNUPGHOME", str(gpg.home))
        project.git("verify-tag", "v1")
        said = refusal(project, "v1", trust)
        assert f"signed with GPG {dave}, which is no key of an allowed signer" in said

    def test_a_revoked_key_is_refused(self, project: Any, gpg: Gpg, tmp_path: Path) -> None:
        """Line 28: gpg itself ends with exit status 0 and VALIDSIG here; a certificate beside the key is enough."""
        erin = gpg.make("erin")
        gpg.sign(project, erin, "v1")
        keys = tmp_path / "keys"
        keys.mkdir()
        gpg.export(erin, keys / "erin.asc")
        trust = Trust("signed", gpg_keys=(str(keys),))
        assert judge(project, "v1", trust)
        for name in ("z-revoked.asc", "0-revoked.asc"):  # before and after the key's own file
            certificate = gpg.revocation(erin, keys / name)
            assert f"was made by a REVOKED key: erin@example.org (GPG {erin})" in refusal(project, "v1", trust)
            certificate.unlink()

    def test_an_expired_key_is_refused(self, project: Any, gpg: Gpg, tmp_path: Path) -> None:
        """Line 28: also where it signed while it was valid; whoever stole it can date a tag back."""
        frank = gpg.make("frank", expires="1y", at=LONG_AGO)
        gpg.sign(project, frank, "v1", options=f"--faked-system-time={LONG_AGO}")
        trust = Trust("signed", gpg_keys=(str(gpg.export(frank, tmp_path / "frank.asc")),))
        assert f"was made by an EXPIRED key: frank@example.org (GPG {frank})" in refusal(project, "v1", trust)

    def test_a_signature_over_sha1_is_refused(self, project: Any, gpg: Gpg, tmp_path: Path) -> None:
        """Two texts of one SHA-1 can be made; gpg itself takes it still."""
        rita = gpg.make("rita", kind="Key-Type: RSA\nKey-Length: 2048")
        gpg.sign(project, rita, "v1", options="--digest-algo SHA1")
        trust = Trust("signed", gpg_keys=(str(gpg.export(rita, tmp_path / "rita.asc")),))
        assert "cannot be verified: gpg: Can't check signature: Invalid digest" in refusal(project, "v1", trust)

    def test_a_subkey_counts_as_its_owner(self, project: Any, gpg: Gpg, tmp_path: Path) -> None:
        """The primary key's fingerprint is compared, whichever of its subkeys signed."""
        grace = gpg.make("grace", more="Subkey-Type: eddsa\nSubkey-Curve: ed25519\nSubkey-Usage: sign")
        listed = gpg.run("--with-colons", "--list-keys", grace)
        subkey = [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")][1]
        gpg.sign(project, subkey, "v1")
        trust = Trust("signed", gpg_keys=(str(gpg.export(grace, tmp_path / "grace.asc")),))
        assert judge(project, "v1", trust)[0].fingerprint == grace

    def test_an_altered_tag_is_refused(self, project: Any, gpg: Gpg, carol: str, trust: Trust) -> None:
        """One letter of the message is enough."""
        gpg.sign(project, carol, "v1")
        forge(project, "v1", project.git("cat-file", "tag", "v1").replace("release v1", "release v0") + "\n")
        assert "does not fit what it says" in refusal(project, "v1", trust)

    def test_a_block_of_nonsense_is_refused(self, project: Any, ssh: Ssh, allowed: Trust, trust: Trust) -> None:
        """An OpenPGP block behind an SSH signature is the one that counts, as for git, and this one says nothing."""
        ssh("alice").sign(project, "v1")
        pgp = "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
        forge(project, "v1", project.git("cat-file", "tag", "v1") + "\n" + pgp)
        assert "cannot be verified" in refusal(project, "v1", trust)
        assert "names no signers of that kind" in refusal(project, "v1", allowed)

    def test_a_message_in_the_place_of_a_signature_is_refused(
        self, project: Any, gpg: Gpg, carol: str, trust: Trust
    ) -> None:
        """Something else that Carol signed, whole, in a block that calls itself a signature of this tag."""
        project.tag("v1")
        message = gpg.run("--local-user", carol, "--armor", "--sign", stdin="lunch at noon\n")
        block = message.replace("PGP MESSAGE", "PGP SIGNATURE")
        forge(project, "v1", project.git("cat-file", "tag", "v1") + "\n" + block)
        assert "cannot be verified" in refusal(project, "v1", trust)

    def test_a_file_that_is_no_key_is_named(self, project: Any, gpg: Gpg, carol: str, tmp_path: Path) -> None:
        """A settings mistake, told as one."""
        gpg.sign(project, carol, "v1")
        (tmp_path / "x.asc").write_text("not a key\n")
        assert "x.asc holds no OpenPGP public key" in refusal(
            project, "v1", Trust("signed", gpg_keys=(str(tmp_path / "x.asc"),))
        )


class TestTwoSignatures:
    """``signatures: 2``: another signer makes a tag of their own, cosign/TAG/NAME, with stock git."""

    @pytest.fixture
    def two(self, gpg: Gpg, carol: str, allowed: Trust, ssh: Ssh, tmp_path: Path) -> Trust:
        """Alice, who has two keys, and Bob sign with SSH, Carol with OpenPGP."""
        assert allowed.allowed_signers is not None
        file = Path(allowed.allowed_signers)
        laptop = ssh("laptop").line.replace("laptop@", "alice@")
        file.write_text(file.read_text() + laptop + ssh("bob").line)
        keys = str(gpg.export(carol, tmp_path / "carol.asc"))
        return Trust("signed", 2, str(file), None, (keys,))

    def test_one_of_two_is_refused_with_the_command_for_the_other(self, project: Any, ssh: Ssh, two: Trust) -> None:
        """It names who signed, and what somebody else types."""
        ssh("alice").sign(project, "v1")
        said = refusal(project, "v1", two)
        assert f"has 1 of 2 signatures, by alice@example.org (SSH {ssh('alice').fingerprint})" in said
        assert f"git tag -s cosign/v1/NAME {project.git('rev-parse', 'HEAD')[:12]}" in said

    def test_two_people_are_enough_in_any_kind(self, project: Any, ssh: Ssh, gpg: Gpg, carol: str, two: Trust) -> None:
        """One by SSH, one by OpenPGP; the second tag is none that could be deployed by mistake."""
        ssh("alice").sign(project, "v1")
        gpg.sign(project, carol, "cosign/v1/carol", "v1^{commit}")
        assert [signer.names for signer in judge(project, "v1", two)] == [
            ("alice@example.org",),
            ("carol@example.org",),
        ]
        repository = Repository(project.folder)
        assert repository.tags() == ("v1",)
        assert repository.tag_on_head() == "v1"

    def test_two_keys_of_one_person_are_one_signer(self, project: Any, ssh: Ssh, two: Trust) -> None:
        """Neither the same key twice nor a second key of the same name."""
        ssh("alice").sign(project, "v1")
        ssh("alice").sign(project, "cosign/v1/again")
        ssh("laptop").sign(project, "cosign/v1/laptop")
        said = refusal(project, "v1", two)
        assert said.count("has signed already") == 2

    def test_what_signs_for_something_else_does_not_count(self, project: Any, ssh: Ssh, two: Trust) -> None:
        """Another commit, another tag, a lightweight tag, an unknown signer: each is named with its reason."""
        before = project.git("rev-parse", "HEAD")
        project.commit("more")
        ssh("alice").sign(project, "v1")
        ssh("bob").sign(project, "cosign/v1/bob", before)
        ssh("mallory").sign(project, "cosign/v1/mallory")
        ssh("bob").sign(project, "cosign/v2/bob")
        project.git("tag", "cosign/v1/light")
        said = refusal(project, "v1", two)
        assert f"cosign/v1/bob: it signs commit {before[:12]}" in said
        assert "cosign/v1/mallory: it was signed with SSH" in said
        assert "cosign/v1/light: it is lightweight" in said
        project.git("update-ref", "refs/tags/cosign/v1/bob", project.git("rev-parse", "refs/tags/cosign/v2/bob"))
        assert "made for another name" in refusal(project, "v1", two)


class TestRepositoryIdentity:
    """``repository_id``: the root commit that a tag's history begins at."""

    def test_its_own_tags_are_taken(self, project: Any) -> None:
        """Under every policy, also where it is one of several."""
        root = project.git("rev-list", "--max-parents=0", "HEAD")
        project.commit("more")
        project.tag("v1")
        assert judge(project, "v1", Trust(repository_id=("0" * 40, root))) == ()

    def test_a_shallow_clone_cannot_tell(self, project: Any, make: Callable[[str], Any], tmp_path: Path) -> None:
        """Line 31: refused with the command that fetches the rest; where nothing was cut off, it is taken."""
        root = project.git("rev-list", "--max-parents=0", "HEAD")
        project.commit("more")
        project.tag("v1")
        trust = Trust(repository_id=(root,))
        for depth, good in (("1", False), ("2", True)):
            clone = tmp_path / f"clone{depth}"
            project.git("clone", "-q", "--depth", depth, f"file://{project.folder}", str(clone))
            shallow = make(clone.name)
            if good:
                assert judge(shallow, "v1", trust) == ()
            else:
                assert "git fetch --unshallow" in refusal(shallow, "v1", trust)


def test_a_missing_file_of_signers_is_refused(project: Any, ssh: Ssh, gpg: Gpg, carol: str, tmp_path: Path) -> None:
    """Without the file nobody is allowed, and the message names it."""
    absent = str(tmp_path / "absent")
    ssh("alice").sign(project, "v1")
    assert "absent" in refusal(project, "v1", Trust("signed", allowed_signers=absent))
    gpg.sign(project, carol, "v2")
    assert "absent" in refusal(project, "v2", Trust("signed", gpg_keys=(absent,)))


def forge(project: Any, tag: str, body: str) -> None:
    """Put a tag object of any content at a ref."""
    oid = project.git("hash-object", "-t", "tag", "-w", "--literally", "--stdin", stdin=body.encode())
    project.git("update-ref", f"refs/tags/{tag}", oid)
