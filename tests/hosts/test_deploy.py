"""The main job: deploy to three hosts over OpenSSH as an unprivileged user, again with changed code, and back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.fleet import Fleet, is_whole, readers
from tests.hosts.openssh import Host
from tests.hosts.projects import GREETING_FILES, greeting

pytestmark = pytest.mark.hosts
THREE = ("web-1", "web-2", "web-3")


@pytest.mark.slow
def test_three_hosts_from_nothing_and_back(bare_fleet: Callable[..., Fleet]) -> None:
    """The first deploy builds everything from source on each host, a code-only one sends the change alone; back."""
    fleet = bare_fleet(*THREE)
    fleet.project.release("v1")
    first = fleet.deploy("v1")
    assert fleet.live() == ["v1"] * 3
    for host in fleet.hosts:
        built = [r["detail"] for r in first.records if r.get("host") == host.name and r.get("step") == "build"]
        assert {"tinybuild 1.0", "tinylib 1.0", "greeting 1.0"} <= set(built)
        assert (host.logins, host.execs) == (1, 1)
        assert host.root.joinpath("releases", str(host.current)).stat().st_uid == host.account.uid
        is_whole(host)

    fleet.project.release("v2")
    code_only = fleet.deploy("v2")
    assert fleet.live() == ["v2"] * 3
    assert code_only.end["undo"] == "fab rollback:v1 --stage test"
    for host in fleet.hosts:
        assert code_only.sent(host.name) == len("v2\n")
        assert not {"build", "install", "toolchain"} & set(code_only.steps(host.name))
        assert (host.logins, host.execs) == (2, 2)

    back = fleet.fab("rollback:v1")
    assert back.code == 0, back.text
    assert fleet.live() == ["v1"] * 3
    assert [(host.logins, host.execs) for host in fleet.hosts] == [(3, 3)] * 3
    assert not any(record["event"] == "host_bytes" for record in back.records)


def test_line_55_bare_rollback_walks_back_and_then_names_what_is_there(fleet: Callable[..., Fleet]) -> None:
    """Each bare rollback goes one good release further back; at the end it changes nothing and says what there is."""
    made = fleet("web-1")
    (host,) = made.hosts
    for tag in ("v1", "v2", "v3"):
        made.project.release(tag)
        made.deploy(tag)
    for age, tag in enumerate(("v1", "v3", "v2")):  # no clock of any file says where to go
        (folder,) = host.root.glob(f"releases/{tag}-*")
        os.utime(folder, (age, age))
    with readers(host):
        assert made.fab("rollback").code == 0
        assert made.live() == ["v2"]
        assert made.fab("rollback").code == 0
        assert made.live() == ["v1"]
        ended = made.fab("rollback")
    assert ended.code == 1
    assert "v3-" in ended.problems
    assert "v2-" in ended.problems
    assert made.live() == ["v1"]
    forward = made.fab("rollback:v3")
    assert forward.code == 0
    assert any("bad" in record.get("text", "") for record in forward.records)
    assert made.live() == ["v3"]


def test_status_and_releases_as_documents(fleet: Callable[..., Fleet]) -> None:
    """Status says what is live and how that is proven; releases lists them newest first with state, tag and mark."""
    made = fleet("web-1", "web-2")
    nothing = made.fab("status")
    assert [row["current"] for row in nothing.document["hosts"]] == [None, None]
    for tag in ("v1", "v2"):
        commit = made.project.release(tag)
        made.deploy(tag)
    assert made.fab("rollback:v1").code == 0
    status = made.fab("status")
    assert status.code == 0, status.text
    for row in status.document["hosts"]:
        assert row["reachable"]
        assert row["well"]
        assert row["current"]["tag"] == "v1"
        assert row["live"] == "proven by the answer's release id"
        assert row["lock"] is None
        assert row["pending"] is None
    listed = made.fab("releases")
    assert listed.code == 0
    for row in listed.document["hosts"]:
        assert [(one["tag"], one["state"], one["bad"]) for one in row["releases"]] == [
            ("v1", "ACTIVE", False),
            ("v2", "RETIRED", True),
        ]
        assert row["releases"][1]["commit"] == commit
        assert row["releases"][0]["sealed"] == "kernel"


def test_narrowed_to_two_hosts_it_is_one_run(fleet: Callable[..., Fleet]) -> None:
    """``fab -H a,b`` is one fleet run on two hosts; the third is not contacted, and status says that hosts differ."""
    made = fleet(*THREE)
    made.project.release("v1")
    made.deploy("v1")
    made.project.release("v2")
    logins = made.hosts[2].logins
    ended = made.fab("-H", "web-1,web-2", "deploy:v2")
    assert ended.code == 0, ended.text
    started = [record for record in ended.records if record["event"] == "run_started"]
    assert [record["hosts"] for record in started] == [["web-1", "web-2"]]
    assert made.live() == ["v2", "v2", "v1"]
    assert made.hosts[2].logins == logins
    assert made.fab("status").code == 4
    back = made.fab("rollback", "--hosts", "web-1,web-2")
    assert back.code == 0
    assert made.live() == ["v1"] * 3


def test_the_same_tag_again_leaves_a_healthy_release_alone(fleet: Callable[..., Fleet]) -> None:
    """Deploying what is live already is a success, without a restart and without a byte sent."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    pid = host.answer()["pid"]
    again = made.deploy("v1")
    assert again.outcomes == {"web-1": "live"}
    assert again.sent("web-1") == 0
    assert host.answer()["pid"] == pid


def test_a_changed_dependency_builds_only_itself(fleet: Callable[..., Fleet]) -> None:
    """Another version of one package sends and builds that one; the older release keeps its own."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    other = {"greeting.py": GREETING_FILES["greeting.py"].replace("world", "moon")}
    made.project.tiny_closure(greeting("2.0", other))
    made.project.release("v2")
    ended = made.deploy("v2")
    assert [r["detail"] for r in ended.records if r.get("step") == "build" and r["state"] == "done"] == ["greeting 2.0"]
    assert host.answer()["says"] == "hello, moon"
    assert made.fab("rollback:v1").code == 0
    assert host.answer()["says"] == "hello, world"


def test_every_release_says_what_its_packages_were_made_of(fleet: Callable[..., Fleet]) -> None:
    """Archive, build and wheel of each, by digest: also where the packages, or a wheel, were there already."""
    made = fleet("web-1")
    (host,) = made.hosts
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    made.project.tiny_closure(greeting("2.0"))
    made.project.release("v3")
    made.deploy("v3")
    first, code_only, other = (_facts(host, tag) for tag in ("v1", "v2", "v3"))
    vendored = {"greeting": "greeting-2.0.tar.gz", "tinylib": "tinylib-1.0.tar.gz"}
    archives = {name: _sha256(made.project.folder / "vendor" / file) for name, file in vendored.items()}
    assert {name: one["archive"] for name, one in other["provenance"].items()} == archives
    for facts in (first, other):
        for name, one in facts["provenance"].items():
            kept = json.loads((host.root / ".deploy/store/wheels" / one["build"] / "wheel.json").read_text())
            assert (kept["archive"], kept["sha256"]) == (one["archive"], one["wheel"])
            assert facts["wheels"][kept["name"]] == one["wheel"], name
    assert list(first["build_wheels"]) == ["tinybuild-1.0-py3-none-any.whl"]
    assert {key: code_only[key] for key in ("provenance", "build_wheels")} == {
        key: first[key] for key in ("provenance", "build_wheels")
    }
    assert other["provenance"]["tinylib"] == first["provenance"]["tinylib"]


def test_verify_finds_one_flipped_byte_and_rollback_never_goes_there(fleet: Callable[..., Fleet]) -> None:
    """A release that rotted is named by verify, refused by rollback, staged again by it where the tag is at hand."""
    made = fleet("web-1")
    (host,) = made.hosts
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    assert made.fab("verify:v1").code == 0
    (rotten,) = host.root.glob("releases/v1-*/src/VERSION")
    rotten.chmod(0o644)
    rotten.write_text("v9\n")
    rotten.chmod(0o444)
    found = made.fab("verify:v1")
    assert found.code == 1
    assert "altered: src/VERSION" in found.problems
    made.project.git("update-ref", "refs/kept/v1", "refs/tags/v1")
    made.project.git("tag", "-d", "v1")
    refused = made.fab("rollback:v1")
    assert refused.code == 1
    assert "altered: src/VERSION" in refused.problems
    assert made.live() == ["v2"]
    made.project.git("update-ref", "refs/tags/v1", "refs/kept/v1")
    assert made.fab("rollback:v1").code == 0
    assert made.live() == ["v1"]


def _facts(host: Host, tag: str) -> dict[str, Any]:
    """The facts of the release of a tag."""
    (marker,) = host.root.glob(f"releases/{tag}-*/release.json")
    return json.loads(marker.read_text())["facts"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
