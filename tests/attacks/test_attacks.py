"""One test per attack on software updates that TUF names and that can be tried here (theupdateframework.io/security).

Not here: *indefinite freeze* and *fast forward*, since nothing ever asks for the newest release: people name
tags; and *slow retrieval*, which is a link that is silent (``tests/link/test_line.py``).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy import pipeline
from deploy.bundle.acceptance import accept
from deploy.bundle.pack import pack
from deploy.bundle.repository import TAG_MAX_BYTES, Repository
from deploy.errors import ExitCode, Refused
from deploy.events import Event
from deploy.link.line import Line
from deploy.link.pipe import LinkLost
from deploy.onhost.layout import remove_tree
from deploy.settings import Trust
from deploy.wire import framing
from deploy.wire.manifest import Manifest
from deploy.wire.names import sha256
from tests.bundle.keys import SshKey

Ssh = Callable[[str], SshKey]
Locked = tuple[Line, Callable[..., dict[str, Any]]]


@pytest.fixture
def deploy(project: Any, root: Path, tmp_path: Path, ssh: Ssh) -> Callable[..., str]:
    """Try to deploy a tag to a host that takes tags signed by Alice, and give what the operator reads of it.

    Refused with exit 2, and nobody touched the host.
    """
    signers = tmp_path / "allowed_signers"
    signers.write_text(ssh("alice").line + ssh("bob").line)

    def attempt(tag: str, folder: Path | None = None, **stage: Any) -> str:
        hosts = {"web-1": {"local": True, "root": str(root)}}
        trusted = {"tags": "signed", "allowed_signers": str(signers)}
        settings = {"app": "demo", "python": "3.11", "stages": {"live": {"hosts": hosts, **trusted, **stage}}}
        request = pipeline.Request(folder or project.folder, settings, "live", None, "operator")
        events: list[Event] = []
        with pytest.raises(Refused) as refused:
            pipeline.deploy(request, tag, events.append)
        assert refused.value.exit_code is ExitCode.REFUSED
        assert list(root.iterdir()) == []
        return str(refused.value)

    return attempt


def test_arbitrary_software(project: Any, deploy: Callable[..., str], ssh: Ssh) -> None:
    """Somebody who can push makes a release of their own: unsigned, or signed by a key that nobody allowed."""
    project.write("app.py", "import evil\n")
    project.commit()
    project.tag("v1")
    assert "carries no signature" in deploy("v1")
    ssh("mallory").sign(project, "v2")
    assert "no key of an allowed signer" in deploy("v2")


def test_arbitrary_software_by_the_tags_own_settings(project: Any, deploy: Callable[..., str], ssh: Ssh) -> None:
    """A tag that brings its own list of signers, and a policy that takes anything, has no say in either."""
    project.write("allowed_signers", ssh("mallory").line)
    project.settings("  tags: any\n  allowed_signers: allowed_signers\n")
    project.commit()
    ssh("mallory").sign(project, "v1")
    assert "no key of an allowed signer" in deploy("v1")


def test_rollback_by_a_ref_at_an_older_signed_tag(project: Any, deploy: Callable[..., str], ssh: Ssh) -> None:
    """``refs/tags/v2`` is made to point at the good, signed object of v1: `git verify-tag v2` would be content."""
    old = ssh("alice").sign(project, "v1")
    project.commit("more")
    ssh("alice").sign(project, "v2")
    project.git("update-ref", "refs/tags/v2", old)
    assert "refs/tags/v2 points at the tag object of 'v1'" in deploy("v2")


def test_rollback_by_a_moved_tag(fleet: Any, bundle: Callable[..., Any]) -> None:
    """A tag that was released is moved to another commit: every host that has it refuses, and names both."""
    good = bundle("v1")
    moved = replace(good, manifest=replace(good.manifest, commit="e" * 40))
    ended = fleet.deploy(moved)
    assert ended.exit_code == ExitCode.FAILED
    told = [line for line in ended.problems if "never move a released tag" in line or "now names" in line]
    assert len(told) == len(fleet.names)
    assert all(good.manifest.commit[:12] in line and "e" * 12 in line for line in told)
    assert set(fleet.current().values()) == {"v1"}


def test_mix_and_match_of_archives_and_locks(project: Any, deploy: Callable[..., str], ssh: Ssh) -> None:
    """The lock of one release beside an archive of another: each was good, together they never were."""
    wheel = next((project.folder / "vendor").glob("tiny-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    project.commit()
    ssh("alice").sign(project, "v1")
    assert f"{wheel.name}: its bytes" in deploy("v1")


def test_mix_and_match_of_manifest_and_release(locked: Locked, bundle: Callable[..., Any], root: Path) -> None:
    """A manifest that was altered on its way is another release's: its digest is in the id that was asked for."""
    _, ask = locked
    manifest = bundle("v1").manifest
    files = (replace(manifest.files[0], sha256=sha256("0" * 64)),)
    answer = ask("offer", manifest=replace(manifest, files=files).to_json(), target=0, release=manifest.release_id)
    assert answer["error"]["kind"] == "refused"
    assert f"not {manifest.release_id}" in answer["error"]["cause"]
    assert list(root.glob("releases/*")) == []


@pytest.mark.parametrize("field", ["commit", "tree"])
def test_mix_and_match_of_two_releases_of_one_id(fleet: Any, bundle: Callable[..., Any], field: str) -> None:
    """Of 100,000 manifests two share the 8 digits that an id has: the one that is there is not taken for the other."""
    good = bundle(f"v6-{field}")
    (one, manifest), (two, other) = same_id(good.manifest, field)
    assert manifest.release_id == other.release_id
    assert manifest.digest != other.digest
    stage = fleet.stage(("web-1",))
    assert fleet.deploy(replace(good, manifest=manifest), stage=stage).exit_code == ExitCode.OK
    ended = fleet.deploy(replace(good, manifest=other), stage=stage)
    assert ended.exit_code == ExitCode.FAILED
    told = "".join(ended.problems)
    assert (one[:12] in told and two[:12] in told) if field == "commit" else "under the same id" in told
    assert fleet.rollback("v1").exit_code == ExitCode.OK
    remove_tree(fleet.root("web-1") / "releases" / manifest.release_id)


def same_id(manifest: Manifest, field: str) -> tuple[tuple[str, Manifest], tuple[str, Manifest]]:
    """Two manifests that differ in one object id and share the first 8 digits of their digests."""
    spelled = f'"{field}":"{getattr(manifest, field)}"'.encode()
    before, after = manifest.to_bytes().split(spelled)
    seen: dict[bytes, str] = {}
    for number in range(1, 1_000_000):
        oid = f"{number:040x}"
        digest = hashlib.sha256(before + f'"{field}":"{oid}"'.encode() + after).digest()[:4]
        if digest in seen:
            first = seen[digest]
            return (first, replace(manifest, **{field: first})), (oid, replace(manifest, **{field: oid}))
        seen[digest] = oid
    raise AssertionError("no two share them")


def test_mix_and_match_of_blobs(locked: Locked, bundle: Callable[..., Any], root: Path) -> None:
    """The bytes of one file under the digest of another: refused where they arrive, and nothing of them stays."""
    line, ask = locked
    manifest = bundle("v1").manifest
    need = ask("offer", manifest=manifest.to_json(), target=0, release=manifest.release_id)["need"]
    answer = line.blobs([(digest, lambda: b"import evil\n") for digest in need], lambda _: None)
    assert "announced was" in answer["error"]["cause"]
    assert ask("stage")["ok"] is False
    assert [path for path in (root / ".deploy/store/files").rglob("*") if path.is_file()] == []
    assert list(root.glob("releases/*")) == []


def test_extraneous_dependencies(project: Any, deploy: Callable[..., str], ssh: Ssh) -> None:
    """One more archive than the lock names, for an installer to find."""
    project.write("vendor/django-99.0-py3-none-any.whl", b"PK")
    project.commit()
    ssh("alice").sign(project, "v1")
    assert "django-99.0-py3-none-any.whl: no lock names it" in deploy("v1")


def test_endless_data_in_a_tag(project: Any, deploy: Callable[..., str]) -> None:
    """A tag object as large as the attacker likes is not read to its end."""
    head = project.git("cat-file", "tag", project.tag("v1")).partition("\n\n")[0]
    body = head.encode() + b"\n\n" + b"x" * (TAG_MAX_BYTES + 1)
    oid = project.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=body)
    project.git("update-ref", "refs/tags/v1", oid)
    assert f"has {len(body)} bytes" in deploy("v1")


@pytest.mark.parametrize("how", ["longer than announced", "inflates for ever"])
def test_endless_data_in_a_blob(locked: Locked, root: Path, how: str) -> None:
    """The host takes as many bytes as were announced and not one more, before and after inflating; then it hangs up."""
    line, ask = locked
    bomb = zlib.compress(bytes(64 << 20), 9)
    head: dict[str, Any] = {"t": "blob", "sha256": "0" * 64, "size": 10}
    if how != "longer than announced":
        head |= {"size": len(bomb), "zlib": True, "length": 10}
    line._send(framing.pack_json(head))
    line._send(framing.pack(framing.BLOB, bomb))
    with pytest.raises(LinkLost):
        ask("stage")
    assert list((root / ".deploy").rglob("blob.*")) == []
    journal = [json.loads(text) for text in (root / ".deploy/journal.jsonl").read_text().splitlines()]
    assert [record["what"] for record in journal] == ["lock"]


def test_wrong_repository(project: Any, make: Callable[[str], Any], deploy: Callable[..., str], ssh: Ssh) -> None:
    """Alice signs for another project as well: its tags are hers, and still not of this one."""
    root_commit = project.git("rev-list", "--max-parents=0", "HEAD")
    other = make("other")
    other.settings()
    other.closure()
    other.commit("another beginning")
    ssh("alice").sign(other, "v1")
    said = deploy("v1", other.folder, repository_id=root_commit)
    assert "is of another repository" in said
    assert root_commit in said
    assert other.git("rev-parse", "HEAD") in said


def test_key_compromise_and_revocation(project: Any, deploy: Callable[..., str], ssh: Ssh, tmp_path: Path) -> None:
    """A stolen key signs no more once the control machine lists it as revoked, whatever date the tag claims."""
    revoked = tmp_path / "revoked_signers"
    revoked.write_text(ssh("alice").public)
    for number, claimed in enumerate((None, 1_500_000_000)):
        ssh("alice").sign(project, f"v{number}", when=claimed)
        assert "REVOKED key" in deploy(f"v{number}", revoked_signers=str(revoked))


def test_key_compromise_of_one_of_two(project: Any, deploy: Callable[..., str], ssh: Ssh) -> None:
    """With ``signatures: 2`` one stolen key makes no release, however often it signs."""
    ssh("alice").sign(project, "v1")
    ssh("alice").sign(project, "cosign/v1/bob")
    assert "has 1 of 2 signatures" in deploy("v1", signatures=2)


def test_what_the_attacks_are_measured_against(project: Any, ssh: Ssh, tmp_path: Path) -> None:
    """The same project and tag, untouched, is taken: the refusals above are of the attack."""
    signers = tmp_path / "allowed"
    signers.write_text(ssh("alice").line + ssh("bob").line)
    ssh("alice").sign(project, "v1")
    ssh("bob").sign(project, "cosign/v1/bob")
    repository = Repository(project.folder)
    resolved = repository.resolve("v1")
    root_commit = project.git("rev-list", "--max-parents=0", "HEAD")
    trust = Trust("signed", 2, str(signers), repository_id=(root_commit,))
    assert [signer.names for signer in accept(repository, resolved, trust)] == [
        ("alice@example.org",),
        ("bob@example.org",),
    ]
    with pack(repository, resolved) as made:
        assert "app.py" in [file.path for file in made.manifest.files]
