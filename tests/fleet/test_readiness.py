"""A rollback's targets on three real host programs: staged again where one is lost, else refused with candidates."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import ExitCode
from deploy.events import FleetStep, HostBytes, Notice, RunEnded
from deploy.onhost.layout import remove_tree

Make = Callable[..., Any]
Words = Callable[[Any], dict[str, str]]


@pytest.fixture
def second(fleet: Any, bundle: Make) -> Any:
    """Those hosts with v2 live, and v1, v2 good on all of them; v0 was live before, on the first alone."""
    assert fleet.deploy(bundle("v2")).exit_code == ExitCode.OK
    fleet.events.clear()
    return fleet


def release_of(fleet: Any, host: str, tag: str) -> Path:
    """The folder of a tag's release."""
    (found,) = fleet.root(host).glob(f"releases/{tag}-*")
    return found


def lose(fleet: Any, host: str, tag: str) -> None:
    """Delete a release behind our back."""
    remove_tree(release_of(fleet, host, tag))


def flip(fleet: Any, host: str, tag: str) -> None:
    """Alter one file of a release."""
    path = release_of(fleet, host, tag) / "src/app.py"
    path.chmod(0o644)
    path.write_text("flipped")
    path.chmod(0o444)


def notices(fleet: Any) -> list[str]:
    """Everything that was told besides steps."""
    return [f"{event.host}: {event.text}" for event in fleet.events if isinstance(event, Notice)]


def sent_to(fleet: Any) -> set[str]:
    """Hosts that got blobs."""
    return {event.host for event in fleet.events if isinstance(event, HostBytes)}


def refused(ended: RunEnded, fleet: Any, live: str) -> None:
    """Exit 1; nobody moved, nobody was restarted, nothing was staged."""
    assert ended.exit_code == ExitCode.FAILED, ended.problems
    assert set(fleet.current().values()) == {live}
    assert not any(isinstance(event, FleetStep) and event.step == "activate" for event in fleet.events)


@pytest.mark.parametrize("how", [lose, flip], ids=["missing", "bit-rotted"])
@pytest.mark.parametrize("tag", ["v1", None], ids=["named", "bare"])
def test_staged_again_from_the_tag_on_the_host_that_lost_it(
    second: Any, bundle: Make, words: Words, how: Any, tag: str | None
) -> None:
    """Only there; then all hosts go back together, and the release is the very same one."""
    how(second, "web-2", "v1")
    ended = second.rollback(tag, bundles=[bundle("v1")])
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert words(ended) == dict.fromkeys(second.names, "live")
    assert set(second.current().values()) == {"v1"}
    assert len({release_of(second, name, "v1").name for name in second.names}) == 1
    assert sent_to(second) <= {"web-2"}
    (told,) = [line for line in notices(second) if "staged again" in line]
    assert told.startswith("web-2: v1-")
    assert second.runs("web-2")[-1] == "v1"


def test_one_that_was_pruned_everywhere_is_staged_again_everywhere(second: Any, bundle: Make) -> None:
    """The journal knows that it was live here: what a deploy runs before it did run."""
    assert second.deploy(bundle("v3")).exit_code == ExitCode.OK
    for name in second.names:
        (folder,) = second.root(name).glob("releases/v1-*")
        journal = second.layout(name).journal
        line = '{"format":1,"seq":%d,"run":"x","at":0,"what":"pruned","release":"%s"}\n'
        last = second.history(name)
        seq = max(past.live_seq for past in last.releases.values()) + 1000
        with journal.open("a") as file:
            file.write(line % (seq, folder.name))
        remove_tree(folder)
    ended = second.rollback("v1", bundles=[bundle("v1")])
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert set(second.current().values()) == {"v1"}


def test_without_a_repository_it_is_refused_with_the_tags_that_all_hosts_have(second: Any, bundle: Make) -> None:
    """Every host that cannot is listed, each with its reason; the nearest tag first, as a command to copy."""
    assert second.deploy(bundle("v3")).exit_code == ExitCode.OK
    second.events.clear()
    lose(second, "web-1", "v2")
    flip(second, "web-3", "v2")
    ended = second.rollback("v2")
    refused(ended, second, "v3")
    (first, third) = ended.problems
    assert first.startswith("web-1: verify: v2-")
    assert "is not a complete release" in first
    assert "altered: src/app.py" in third
    assert all("cannot be staged again from its tag: there is no tag v2 here" in line for line in ended.problems)
    assert "fab rollback:v1 --stage test  # was live before and is on every host" in ended.next_step
    assert sent_to(second) == set()
    assert second.rollback("v1").exit_code == ExitCode.OK


def test_a_bare_rollback_does_not_go_further_back_than_said(second: Any, bundle: Make) -> None:
    """The release before the present one vanished on one host: that is told, and the one before it offered."""
    assert second.deploy(bundle("v3")).exit_code == ExitCode.OK
    lose(second, "web-2", "v2")
    ended = second.rollback()
    refused_at = [line for line in ended.problems if line.startswith("web-2")]
    assert "v2-" in refused_at[0]
    assert set(second.current().values()) == {"v3"}
    assert "fab rollback:v1" in ended.next_step


def test_a_tag_that_makes_another_release_now_is_refused_with_both_named(second: Any, bundle: Make) -> None:
    """Moved, or read otherwise by a newer library: one fleet never runs two contents of one tag."""
    lose(second, "web-2", "v1")
    other = bundle("v1", probe="true")
    there = release_of(second, "web-1", "v1").name
    ended = second.rollback("v1", bundles=[other])
    refused(ended, second, "v2")
    (line,) = ended.problems
    assert f"would now make {other.manifest.release_id}: another content than {there}" in line
    assert not list(second.root("web-2").glob("releases/v1-*"))


def test_what_staging_anew_does_not_mend_is_not_staged_anew(second: Any, bundle: Make) -> None:
    """A probe that fails on one host and a lost release on another: both told, nothing sent, nobody moves."""
    probing = bundle("v4", probe='echo no libpq here; test ! -e "$DEPLOY_ROOT/shared/broken"')
    assert second.deploy(probing).exit_code == ExitCode.OK
    assert second.deploy(bundle("v5")).exit_code == ExitCode.OK
    second.events.clear()
    broken = second.root("web-1") / "shared/broken"
    broken.touch()
    lose(second, "web-3", "v4")
    ended = second.rollback("v4", bundles=[probing])
    refused(ended, second, "v5")
    assert any(line.startswith("web-1: verify: v4-") and "probe hook" in line for line in ended.problems)
    assert any("no libpq here" in line for line in ended.problems)
    assert any(line.startswith("web-3: verify: v4-") for line in ended.problems)
    assert "mend on the host what the probe of v4-" in ended.next_step
    assert sent_to(second) == set()
    broken.unlink()
    assert second.rollback("v4", bundles=[probing]).exit_code == ExitCode.OK


def test_one_that_cannot_be_staged_again_there_leaves_the_fleet_as_it_was(second: Any, bundle: Make) -> None:
    """Its own hook fails on that host now: nobody moves, and the other tags are named."""
    picky = bundle("v6", prepare='test ! -e "$DEPLOY_ROOT/shared/picky"')
    assert second.deploy(picky).exit_code == ExitCode.OK
    assert second.deploy(bundle("v7")).exit_code == ExitCode.OK
    (second.root("web-2") / "shared/picky").touch()
    lose(second, "web-2", "v6")
    ended = second.rollback("v6", bundles=[picky])
    (second.root("web-2") / "shared/picky").unlink()
    assert ended.exit_code == ExitCode.FAILED
    assert set(second.current().values()) == {"v7"}
    assert "web-2: prepare:" in ended.problems[0]
    assert "fab rollback:" in ended.next_step
    assert second.rollback("v6", bundles=[picky]).exit_code == ExitCode.OK


def test_a_host_that_never_had_it_gets_it_from_the_tag(bare: Any, bundle: Make, words: Words) -> None:
    """A new host in the fleet: the tag was live on the others, so what goes before it was done."""
    one = bare.stage(("web-1",))
    for tag in ("v1", "v2"):
        assert bare.deploy(bundle(tag), stage=one).exit_code == ExitCode.OK
    two = bare.stage(("web-1", "web-2"))
    assert bare.deploy(bundle("v2"), stage=two).exit_code == ExitCode.OK
    lost = bare.rollback("v1", stage=two)
    assert lost.exit_code == ExitCode.FAILED
    ended = bare.rollback("v1", stage=two, bundles=[bundle("v1")])
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert bare.current() == {"web-1": "v1", "web-2": "v1", "web-3": None}
    remove_tree(bare.folder)


def test_hosts_on_different_releases_each_go_back_to_their_own(fleet: Any, bundle: Make, words: Words) -> None:
    """One from v9 to v8, two from v11 to v10: bare means each host's own, and that they differ is said."""
    others = ("web-2", "web-3")
    for tag, names in (("v8", ("web-1",)), ("v9", ("web-1",)), ("v10", others), ("v11", others)):
        assert fleet.deploy(bundle(tag), stage=fleet.stage(names)).exit_code == ExitCode.OK
    ended = fleet.rollback()
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert fleet.current() == {"web-1": "v8", "web-2": "v10", "web-3": "v10"}
    assert "DIFFER: v10, v8" in ended.verdict


def test_a_there_and_back_by_explicit_tags_clears_the_mark(second: Any, bundle: Make) -> None:
    """v2, v1, v2: told where the mark stands, cleared by going live again, and whatever the clocks of files say."""
    for path in second.root("web-1").glob("releases/*"):
        path.touch()
    assert second.rollback("v1").exit_code == ExitCode.OK
    mark = bundle("v2").manifest.release_id
    assert all(second.history(name).past(mark).bad for name in second.names)
    second.events.clear()
    assert second.rollback("v2").exit_code == ExitCode.OK
    assert sum("is marked bad" in line for line in notices(second)) == 3
    assert not any(second.history(name).past(mark).bad for name in second.names)
    assert set(second.current().values()) == {"v2"}


def test_line_26_a_system_python_that_went_away_under_an_old_release(bare: Any, bundle: Make) -> None:
    """Found before the switch, on a host whose Python moved in an upgrade; staged again for the one that is there."""
    python = bare.folder / "old/bin" / Path(sys.executable).resolve().name
    python.parent.mkdir(parents=True)
    shutil.copy2(Path(sys.executable).resolve(), python)
    before = bare.stage(("web-1",), python=str(python))
    for tag in ("v1", "v2"):
        ended = bare.deploy(bundle(tag), stage=before)
        assert ended.exit_code == ExitCode.OK, ended.problems
    python.unlink()
    now = bare.stage(("web-1",))
    ended = bare.rollback("v1", stage=now)
    assert ended.exit_code == ExitCode.FAILED
    assert "the own interpreter of v1-" in ended.problems[0]
    assert bare.current()["web-1"] == "v2"
    ended = bare.rollback("v1", stage=now, bundles=[bundle("v1")])
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert bare.current()["web-1"] == "v1"
    remove_tree(bare.folder)
