"""Tags to object ids: through refs/tags alone, once, hostile names refused before git hears of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.repository import Repository, next_free
from deploy.errors import ExitCode, Refused

HOSTILE = [
    "$(touch${IFS}/x)", "`id`", "a;b", "a'b", 'a"b', "-rf", "--help", "../x", "a/b", "current", "previous", "HEAD",
    "v1..v2", "v\uff11", "\u04301", "v1\n", "v 1", "", "v" * 101, "v1^{tree}", "v1~1", "@", "refs/tags/v1",
]  # fmt: skip


def test_resolves_an_annotated_tag_to_object_ids(project: Any) -> None:
    """Tag object, commit and tree are those that git names; tagger and message are the tag's own."""
    oid = project.tag("v1.0")
    found = Repository(project.folder).resolve("v1.0")
    assert (found.tag_object, found.commit) == (oid, project.git("rev-parse", "HEAD"))
    assert found.tree == project.git("rev-parse", "HEAD^{tree}")
    assert found.tagger is not None
    assert found.tagger.startswith("Committer <committer@example.org> ")
    assert found.message == "release v1.0"


def test_resolves_a_lightweight_tag(project: Any) -> None:
    """A lightweight tag has no tag object; its message is the commit's."""
    project.git("tag", "v1")
    found = Repository(project.folder).resolve("v1")
    assert (found.tag_object, found.tagger, found.message) == (None, None, "work")


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_hostile_names_before_git_sees_them(project: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name outside the one rule is refused, and no git command line ever holds it."""
    repository = Repository(project.folder)
    seen: list[list[str]] = []
    real = subprocess.run

    def spy(command: list[str], **options: Any) -> Any:
        seen.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", spy)
    with pytest.raises(Refused) as refused:
        repository.resolve(name)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert "\n" not in refused.value.why
    assert not [command for command in seen if f"refs/tags/{name}" in command]


def test_a_missing_tag_names_the_nearest_and_how_to_get_it(project: Any) -> None:
    """A missing tag is refused with the nearest known one and the commands that fetch or make it."""
    project.tag("v1.2.0")
    with pytest.raises(Refused) as refused:
        Repository(project.folder).resolve("v1.2.O")
    assert "did you mean 'v1.2.0'?" in refused.value.why
    assert "git fetch" not in refused.value.next_step
    project.git("remote", "add", "upstream", "https://git.example.org/shop.git")
    with pytest.raises(Refused) as refused:
        Repository(project.folder).resolve("v1.2.O")
    assert refused.value.next_step.startswith("git fetch upstream tag v1.2.O, or name another")


def test_line_27_a_branch_of_the_same_name_has_no_say(project: Any) -> None:
    """refs/tags wins over refs/heads, silently and always."""
    project.tag("v1")
    tagged = project.git("rev-parse", "HEAD")
    project.git("checkout", "-q", "-b", "v1")
    project.write("later.py")
    project.commit()
    assert Repository(project.folder).resolve("v1").commit == tagged


@pytest.mark.parametrize("ref", ["refs/heads/v1", "refs/heads/refs/tags/v1", "refs/tags/refs/tags/v1", "refs/v1"])
def test_only_refs_tags_counts(project: Any, ref: str) -> None:
    """A ref that git would guess for the same word is not a tag."""
    project.git("update-ref", ref, "HEAD")
    with pytest.raises(Refused, match="there is no tag v1"):
        Repository(project.folder).resolve("v1")


def test_line_28_a_ref_at_another_tags_object_is_refused(project: Any) -> None:
    """refs/tags/v3 that points at v1's (perhaps signed) tag object is refused, both names told."""
    project.git("update-ref", "refs/tags/v3", project.tag("v1"))
    with pytest.raises(Refused, match="refs/tags/v3 points at the tag object of 'v1'"):
        Repository(project.folder).resolve("v3")


def test_nested_tags_resolve_to_the_commit(project: Any) -> None:
    """A tag of a tag resolves to the commit; the outer object is the one recorded."""
    project.tag("inner")
    outer = project.tag("v1", "inner")
    found = Repository(project.folder).resolve("v1")
    assert (found.tag_object, found.commit) == (outer, project.git("rev-parse", "HEAD"))


@pytest.mark.parametrize(("what", "kind"), [("HEAD^{tree}", "tree"), ("HEAD:app.py", "blob")])
@pytest.mark.parametrize("annotated", [True, False])
def test_a_tag_of_no_commit_is_refused(project: Any, what: str, kind: str, *, annotated: bool) -> None:
    """A tag of a tree or a blob is refused, saying what it names."""
    if annotated:
        project.tag("v1", what)
    else:
        project.git("tag", "v1", what)
    with pytest.raises(Refused, match=f"names a {kind}, not a commit"):
        Repository(project.folder).resolve("v1")


def test_replace_refs_have_no_say(project: Any) -> None:
    """`git replace` changes what git shows, not what a tag resolves to."""
    commit = project.git("rev-parse", "HEAD")
    tree = project.git("rev-parse", "HEAD^{tree}")
    project.tag("v1")
    project.write("evil.py")
    project.git("replace", commit, project.commit())
    assert Repository(project.folder).resolve("v1").tree == tree


def test_line_29_a_tag_moved_after_resolving_changes_nothing(project: Any) -> None:
    """What was resolved stays resolved: object ids travel, not names."""
    project.tag("v1")
    found = Repository(project.folder).resolve("v1")
    project.write("later.py")
    project.commit()
    project.git("tag", "-f", "v1")
    assert project.git("rev-parse", f"{found.commit}^{{tree}}") == found.tree
    assert Repository(project.folder).resolve("v1").commit != found.commit


def test_the_callers_git_environment_has_no_say(project: Any, make: Callable[[str], Any], monkeypatch: Any) -> None:
    """GIT_DIR of a surrounding hook does not redirect to another repository."""
    project.tag("v1")
    other = make("other")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    found = Repository(project.folder)
    assert found.top == project.folder
    assert found.resolve("v1").tag == "v1"


def test_finds_the_top_from_a_folder_below(project: Any) -> None:
    """A project in a subfolder knows its prefix; tags are the repository's."""
    project.write("services/shop/x")
    project.commit()
    project.tag("v1")
    found = Repository(project.folder / "services/shop")
    assert (found.top, found.prefix, found.tags()) == (project.folder, "services/shop", ("v1",))
    assert found.git_folder == project.folder / ".git"


def test_outside_a_repository_is_refused(tmp_path: Path) -> None:
    """No repository: one clear error."""
    with pytest.raises(Refused, match="in no git work tree"):
        Repository(tmp_path)


def test_the_tag_on_head(project: Any) -> None:
    """One deployable tag on HEAD is the default, and a name that cannot be deployed does not disturb it."""
    project.git("tag", "nightly/2026-01-01")
    project.tag("v1")
    assert Repository(project.folder).tag_on_head() == "v1"


def test_no_tag_on_head_says_how_to_tag(project: Any) -> None:
    """HEAD without a tag is refused with the command that makes one."""
    project.tag("v1")
    project.write("later.py")
    project.commit()
    with pytest.raises(Refused) as refused:
        Repository(project.folder).tag_on_head()
    assert refused.value.why == "HEAD has no tag"
    assert "git tag -a v2 " in refused.value.next_step


@pytest.mark.parametrize(
    ("tags", "next_one"),
    [
        ([], "v1.0"),
        (["v1.4.9", "v1.4.8"], "v1.4.10"),
        (["v1.2", "v1.3", "v1.4"], "v1.5"),
        (["2026-11-25"], "2026-11-26"),
        (["v2.0-rc1"], "v2.0-rc2"),
        (["stable"], "vX.Y"),
    ],
)
def test_the_tag_that_is_suggested_is_free(tags: list[str], next_one: str) -> None:
    """The command that is printed can be run as it stands."""
    assert next_free(tags) == next_one


def test_of_several_tags_on_head_the_final_one_is_proposed(project: Any) -> None:
    """Not the candidate that became it."""
    for tag in ("v1.9", "v2.0", "v2.0-rc1"):
        project.tag(tag)
    with pytest.raises(Refused) as refused:
        Repository(project.folder).tag_on_head()
    assert refused.value.next_step == "name the one to deploy: fab deploy:v2.0"


def test_an_unfit_tag_on_head_is_named(project: Any) -> None:
    """A tag on HEAD whose name cannot be deployed is shown, so that nobody wonders."""
    project.git("tag", "release/1")
    with pytest.raises(Refused, match="release/1"):
        Repository(project.folder).tag_on_head()


def test_several_tags_on_head_are_listed(project: Any) -> None:
    """Two tags on HEAD: nobody chooses silently."""
    project.tag("v1")
    project.git("tag", "v2")
    with pytest.raises(Refused, match="HEAD has 2 tags: v1, v2"):
        Repository(project.folder).tag_on_head()


def test_a_repository_without_a_commit(make: Callable[[str], Any]) -> None:
    """An unborn HEAD is an error with a next step, not a traceback."""
    with pytest.raises(Refused) as refused:
        Repository(make("empty").folder).tag_on_head()
    assert "git tag -a" in refused.value.next_step


def test_line_32_notices_tell_of_a_dirty_tree_and_another_head(project: Any) -> None:
    """Uncommitted changes and a HEAD elsewhere are told, never an error; a clean tree at the tag tells nothing."""
    project.tag("v1")
    repository = Repository(project.folder)
    found = repository.resolve("v1")
    assert repository.notices(found) == ()
    project.write("app.py", "changed")
    project.write("new.py")
    assert repository.notices(found) == ("the work tree has uncommitted changes (2); v1 is deployed without them",)
    project.commit()
    assert repository.notices(found) == ("HEAD is not at v1; the tag is deployed, not what is checked out",)


def test_a_work_tree_that_git_cannot_compare_is_a_notice(project: Any) -> None:
    """An unborn HEAD (git checkout --orphan) does not stop the deploy of a tag."""
    project.tag("v1")
    project.git("checkout", "-q", "--orphan", "fresh")
    repository = Repository(project.folder)
    (notice,) = repository.notices(repository.resolve("v1"))
    assert "cannot be compared with v1" in notice


def test_tags_are_listed_newest_first_even_with_one_broken(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags come newest first; where one tag's object is missing, the names are still there."""
    for year, name in (("2024", "v9"), ("2026", "v1"), ("2025", "v10"), ("2027", "nightly/1")):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{year}-01-01T00:00:00Z")
        project.tag(name)
    repository = Repository(project.folder)
    assert repository.tags() == ("v1", "v10", "v9")
    oid = project.git("rev-parse", "refs/tags/v9")
    (project.folder / ".git/objects" / oid[:2] / oid[2:]).unlink()
    assert set(repository.tags()) == {"v1", "v9", "v10"}


def test_missing_objects_are_named_with_a_way_out(project: Any) -> None:
    """A tag whose commit is not in the clone is refused, naming the object and the fetch that gets it."""
    project.tag("v1")
    commit = project.git("rev-parse", "HEAD")
    (project.folder / ".git/objects" / commit[:2] / commit[2:]).unlink()
    with pytest.raises(Refused) as refused:
        Repository(project.folder).resolve("v1")
    assert commit in refused.value.why
    assert "git fetch" in refused.value.next_step
