"""The host program's zip as a black box, on every Python of this machine: greet, stage, activate, roll back, refuse."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, check, plan
from deploy.hostprogram import host_program
from deploy.link.launch import exec_line
from deploy.link.line import Line
from deploy.link.local import LocalPipe
from deploy.link.pipe import LinkLost
from deploy.wire.manifest import Manifest, TreeFile
from deploy.wire.names import Sha256, sha256
from tests.hosts.openssh import remove
from tests.hosts.projects import Project, wheel

MINORS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
SETTINGS: dict[str, Any] = {
    "requirements": "app",
    "shared": {"dirs": ["data"], "files": []},
    "env_files": [],
    "site_packages": "link",
    "environment": {},
    "hooks": {},
}
OPERATOR = {"restart": None, "stop": None, "health": None}
POLICY = {"allow_root": True, "build_user": None, "accept_seal": "pip", "step_s": 300}


class Conversation:
    """One control side's conversation with the zip, started by one interpreter."""

    def __init__(self, python: str, root: Path, verb: str = "deploy") -> None:
        program = host_program()
        self.line = Line(LocalPipe(exec_line(python, program.sha256, str(root))), silence_s=20.0)
        self.line.greet(program.data)
        context = {"stage": "test", "host": "here", "groups": [], "verb": verb}
        self.events: list[Mapping[str, Any]] = []
        self.facts = self("hello", run="r", operator="tests", context=context, policy=POLICY)["facts"]

    def __call__(self, op: str, **fields: Any) -> dict[str, Any]:
        return self.line.ask(op, self.events.append, **fields)

    def stage(self, manifest: Manifest, contents: Mapping[str, bytes]) -> dict[str, Any]:
        """Offer, send what is needed, stage."""
        offered = self("offer", manifest=manifest.to_json(), target=0, release=manifest.release_id)
        assert offered["ok"], offered
        assert offered["problems"] == []
        wanted = [(digest, lambda d=digest: contents[d]) for digest in offered["need"]]
        assert self.line.blobs(wanted, lambda _: None)["ok"]
        return self("stage")


@pytest.fixture(params=MINORS)
def python(request: pytest.FixtureRequest, pythons: dict[str, str]) -> tuple[str, str]:
    """Version and path of one interpreter of this machine."""
    if request.param not in pythons:
        pytest.skip(f"Python {request.param} is not installed here")
    return request.param, pythons[request.param]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """An empty ROOT."""
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    remove(tmp_path / "root")


def manifest_of(folder: Path, version: str, tag: str) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest of one file and one pure wheel, with the real toolchain of that Python."""
    project = Project(folder / tag, "python", version)
    project.closure("tiny\n", [wheel("tiny", "1.0", {"tiny.py": f"TAG = {tag!r}\n"})], {})
    lock = check(WorkTree(project.folder), "app")
    contents = {sha256(a.sha256): (project.folder / "vendor" / a.file).read_bytes() for a in lock.archives.values()}
    return _manifest(version, tag, contents, targets=plan.targets(lock), archives=plan.archives(lock))


def _manifest(version: str, tag: str, contents: dict[Sha256, bytes], **parts: Any) -> tuple[Manifest, dict[str, bytes]]:
    import hashlib

    data = f"release {tag}\n".encode()
    digest = sha256(hashlib.sha256(data).hexdigest())
    manifest = Manifest(
        app="tiny",
        tag=tag,
        commit="0" * 40,
        tree="0" * 40,
        tag_object=None,
        subdirectory="",
        files=(TreeFile("VERSION", "100644", digest, len(data)),),
        settings={**SETTINGS, "python": version},
        **parts,
    )
    return manifest, {**contents, digest: data}


@pytest.mark.slow
def test_the_whole_conversation(python: tuple[str, str], root: Path, tmp_path: Path) -> None:
    """Hello, lock, offer, blobs, stage, activate, confirm, roll back, prune: the same answers on every Python."""
    version, path = python
    first, contents = manifest_of(tmp_path, version, "v1")
    second, more = manifest_of(tmp_path, version, "v2")
    one = Conversation(path, root)
    assert one.facts["python"].startswith(version + ".")
    granted = one("lock", holder={"by": "tests", "run": "r", "verb": "deploy"})
    assert granted["ok"], granted
    assert granted["seq"] == 1
    for manifest, blobs in ((first, contents), (second, more)):
        staged = one.stage(manifest, blobs)
        assert staged["ok"], staged
        assert staged["facts"]["packages"] == {"tiny": "1.0"}
        live = one("activate", release=manifest.release_id, verb="deploy", operator=OPERATOR)
        assert live["outcome"] == "live", live
        assert one("confirm")["ok"]
    imported = subprocess.run(
        [root / "current/venv/bin/python", "-c", "import tiny; print(tiny.TAG)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout == "v2\n"
    assert list((root / "current/venv/lib").glob("python*/site-packages/__pycache__/tiny.*.pyc"))
    back = one("activate", release=first.release_id, verb="rollback", operator=OPERATOR)
    assert back["outcome"] == "live"
    assert one("confirm")["ok"]
    assert one("verify", releases=[first.release_id])["differences"] == {first.release_id: []}
    assert one("prune", keep=5)["pruned"] == []
    assert one("unlock")["ok"]
    one.line.close()
    assert str((root / "current").readlink()) == f"releases/{first.release_id}"
    two = Conversation(path, root)
    assert two.facts["current"] == first.release_id
    assert two.facts["rollback_candidates"] == []
    two.line.close()


def test_greeting_lock_and_blobs(python: tuple[str, str], root: Path) -> None:
    """Also where no toolchain is vendored: facts, the lock and its holder, blobs by digest, refusals by name."""
    version, path = python
    one = Conversation(path, root)
    assert one.facts["python"].startswith(version + ".")
    assert one.facts["releases"] == []
    assert one("stage")["error"]["kind"] == "refused"
    assert one("lock", holder={"by": "one", "run": "a", "verb": "deploy"})["ok"]
    two = Conversation(path, root)
    refused = two("lock", holder={"by": "two", "run": "b", "verb": "deploy"})
    assert refused["error"]["kind"] == "locked"
    assert refused["error"]["holder"]["by"] == "one"
    assert two.facts["lock"]["by"] == "one"
    one.line.close()
    granted = _eventually_locked(two)
    assert granted["seq"] > 1
    manifest, contents = _manifest(version, "v1", {}, targets=(), archives={})
    assert two("offer", manifest=manifest.to_json(), target=0, release=manifest.release_id)["ok"] is False
    (digest,) = contents
    received = two.line.blobs([(digest, lambda: contents[digest])], lambda _: None)
    assert received["ok"]
    kept = root / ".deploy/store/files" / digest[:2] / digest
    assert kept.read_bytes() == contents[digest]
    two.line.close()


def _eventually_locked(conversation: Conversation) -> dict[str, Any]:
    import time

    answer: dict[str, Any] = {}
    for _ in range(200):
        answer = conversation("lock", holder={"by": "two", "run": "b", "verb": "deploy"})
        if answer["ok"]:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"the lock never came free: {answer}")


def test_altered_blob_and_altered_program(root: Path, pythons: dict[str, str]) -> None:
    """Bytes that are not what they were announced as are refused, programs too, and leave nothing behind."""
    path = pythons[max(pythons, key=lambda version: int(version.split(".")[1]))]
    one = Conversation(path, root)
    assert one("lock", holder={"by": "tests", "run": "r", "verb": "deploy"})["ok"]
    with pytest.raises(LinkLost):
        answer = one.line.blobs([("0" * 64, lambda: b"something else")], lambda _: None)
        if not answer["ok"]:
            raise LinkLost(str(answer))
    assert not [p for p in (root / ".deploy/store/files").rglob("*") if p.is_file()]
    program = host_program()
    line = Line(LocalPipe(exec_line(path, "f" * 64, str(root))), silence_s=20.0)
    with pytest.raises(LinkLost, match="arrived altered"):
        line.greet(program.data)
        line.ask("hello", lambda _: None)
    line.close()
    (kept,) = (root / ".deploy/bin").glob("*.pyz")
    kept.chmod(0o600)
    kept.write_bytes(b"print('evil')")
    again = Conversation(path, root)
    assert again.facts["root"] == str(root)
    again.line.close()


def test_a_newer_format_is_refused_before_any_change(root: Path, pythons: dict[str, str]) -> None:
    """A journal that a newer version wrote is read by none of this version's commands, and not appended to."""
    path = pythons[min(pythons, key=lambda version: int(version.split(".")[1]))]
    (root / ".deploy").mkdir()
    journal = root / ".deploy/journal.jsonl"
    journal.write_text('{"format":99,"seq":1,"run":"r","at":0,"what":"lock"}\n')
    before = journal.read_bytes()
    program = host_program()
    line = Line(LocalPipe(exec_line(path, program.sha256, str(root))), silence_s=20.0)
    line.greet(program.data)
    context = {"stage": "test", "host": "here", "groups": [], "verb": "deploy"}
    answer = line.ask("hello", lambda _: None, run="r", operator="o", context=context, policy=POLICY)
    assert answer["error"]["kind"] == "refused"
    assert "upgrade sealed-deploy" in answer["error"]["cause"]
    line.close()
    assert journal.read_bytes() == before
