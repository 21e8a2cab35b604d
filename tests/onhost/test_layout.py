"""Where everything lies below ROOT, with which modes, and how files there are written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.onhost import layout as layouts
from deploy.onhost.layout import Layout, read_json, remove_tree, write_durably

CONTRACT = {
    "releases": 0o755,
    "shared": 0o750,
    ".deploy": 0o711,
    ".deploy/store": 0o711,
    ".deploy/store/files": 0o700,
    ".deploy/store/wheels": 0o700,
    ".deploy/store/envs": 0o755,
    ".deploy/bin": 0o700,
    ".deploy/links": 0o700,
    ".deploy/tmp": 0o711,
}
"""Design: what lies on a host. A public contract: operators, service units and other users rely on it."""


def modes(root: Path) -> dict[str, int]:
    """Every folder below ROOT and its mode."""
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_folders_get_their_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """A login with umask 000 opens nothing, one with 077 closes nothing that the app must reach."""
    before = os.umask(umask)
    try:
        if umask == 0o777 and os.geteuid() != 0:
            pytest.skip("only root can go on below a folder without any mode")
        Layout(tmp_path).make()
    finally:
        os.umask(before)
    assert modes(tmp_path) == CONTRACT


def test_making_it_again_mends_modes_but_leaves_shared_to_the_operator(layout: Layout) -> None:
    """State opened by hand is closed again; `shared/` may have been opened for the app on purpose."""
    layout.files.chmod(0o777)
    layout.state.chmod(0o777)
    layout.shared.chmod(0o2770)
    layout.make()
    assert modes(layout.root) == {**CONTRACT, "shared": 0o2770}


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_a_link_planted_where_a_folder_belongs_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is made or opened behind a link that somebody put there."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        Layout(root).make()
    assert list(elsewhere.iterdir()) == []
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700


def test_a_sound_root_has_no_problems(layout: Layout) -> None:
    """Also with links that name releases of ours."""
    (layout.releases / "v1-01234567").mkdir()
    layout.current.symlink_to("releases/v1-01234567")
    assert layout.problems() == []


def test_a_current_that_names_what_is_not_there_is_a_problem(layout: Layout) -> None:
    """With the command that mends it."""
    layout.current.symlink_to("releases/v1-01234567")
    said = f"{layout.current} points at v1-01234567, which is not there (rm '{layout.current}')"
    assert layout.problems() == [said]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_state_that_belongs_to_somebody_else_is_a_problem(layout: Layout) -> None:
    """As after a command that was run as root once: the deploy user could not write the journal."""
    os.chown(layout.state, 65534, 65534)
    (said,) = layout.problems()
    assert said == f"{layout.state} belongs to somebody else (as root: chown -R -h root '{layout.state}')"
    os.chown(layout.state, 0, 0)
    os.chown(layout.shared, 65534, 65534)  # the app's, as an operator may have made it
    assert layout.problems() == []


def test_every_problem_of_a_root_is_told(tmp_path: Path) -> None:
    """`current` as a directory, folders that are links: all at once, each with its path."""
    (tmp_path / "current").mkdir()
    (tmp_path / "previous").write_text("x")
    (tmp_path / "releases").symlink_to("/tmp")
    (tmp_path / "shared").write_text("x")
    found = Layout(tmp_path).problems()
    assert len(found) == 4
    assert all(
        any(f"{tmp_path}/{name} " in line for line in found) for name in ("current", "previous", "releases", "shared")
    )


def test_a_root_that_is_missing_or_a_file_is_a_problem(tmp_path: Path) -> None:
    """Said in one line, and nothing else is looked at."""
    assert (
        Layout(tmp_path / "gone").problems()[0].startswith(f"{tmp_path}/gone does not exist (as root: install -d -o ")
    )
    (tmp_path / "file").write_text("x")
    assert len(Layout(tmp_path / "file").problems()) == 1


@pytest.mark.parametrize(
    "target",
    [
        "/srv/other",
        "releases/../../x",
        "releases/",
        "v1-01234567",
        "./releases/v1-01234567",
        "releases/v1",
        "x/releases/v1-01234567",
    ],
)
def test_a_current_that_names_no_release_of_ours_is_a_problem(layout: Layout, target: str) -> None:
    """Only the one spelling that is written is read; anything else was made by somebody else."""
    layout.current.symlink_to(target)
    assert layout.link_target(layout.current) is None
    assert [f"{layout.current} points outside releases/: {target} (rm '{layout.current}')"] == layout.problems()


def test_only_release_ids_below_releases_are_ours(layout: Layout) -> None:
    """A person's own folder there is neither listed nor swept."""
    for name in ("v1-01234567", "v2-89abcdef", "backup", "v1-01234567.old", "..v1-01234567"):
        (layout.releases / name).mkdir()
    assert layout.present() == ["v1-01234567", "v2-89abcdef"]


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    """The new content under the asked mode whatever the umask; no temporary file stays."""
    path = tmp_path / "release.json"
    write_durably(path, b"old")
    before = os.umask(0o077)
    try:
        write_durably(path, b"new", 0o444)
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o444)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """The folder is where the file should be: rename(2) refuses, nothing is lost, nothing stays behind."""
    path = tmp_path / "release.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_durably(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_durable_before_its_name_and_the_name_before_the_return(tmp_path: Path) -> None:
    """Traced system calls of a fresh process: fsync of the file, rename, fsync of the folder, in that order."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from deploy.onhost.layout import write_durably\n"
        "calls = []\n"
        "def record(name):\n"
        "    real = getattr(os, name)\n"
        "    def call(*args):\n"
        "        first = os.readlink('/proc/self/fd/%d' % args[0]) if isinstance(args[0], int) else str(args[0])\n"
        "        calls.append((name, os.path.isdir(first)))\n"
        "        return real(*args)\n"
        "    setattr(os, name, call)\n"
        "for name in ('fsync', 'replace'):\n"
        "    record(name)\n"
        "write_durably(Path(sys.argv[1]) / 'marker', b'x')\n"
        "print(calls)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[('fsync', False), ('replace', False), ('fsync', True)]"


def test_json_is_never_read_through_a_link(tmp_path: Path) -> None:
    """A marker that is a link is no marker."""
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    assert read_json(tmp_path / "real") == {}
    with pytest.raises(OSError, match="link"):
        read_json(tmp_path / "link")
    (tmp_path / "list").write_text("[]")
    with pytest.raises(ValueError, match="JSON object"):
        read_json(tmp_path / "list")


def test_a_read_only_tree_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    """Releases have no write bits; what a link in one points at stays."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_text("x")
    (tree / "a/link").symlink_to(outside)
    (tree / "a/dangling").symlink_to("nowhere")
    for folder in (tree / "a/b", tree / "a", tree):
        folder.chmod(0o555 if folder != tree / "a/b" else 0o000)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").read_text() == "x"


def test_removing_a_link_or_nothing_removes_only_that(tmp_path: Path) -> None:
    """A link to a folder goes; the folder stays; absent is fine."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_scratch_folders_are_private_and_never_shared(layout: Layout) -> None:
    """Two of one name are two folders, closed for everybody else."""
    first, second = layout.scratch("stage"), layout.scratch("stage")
    assert first != second
    assert {stat.S_IMODE(path.stat().st_mode) for path in (first, second)} == {0o700}
    assert layouts.MARKER == "release.json"
