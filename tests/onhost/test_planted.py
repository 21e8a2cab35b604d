"""What somebody planted where the host program opens, makes, changes or deletes: never followed, never waited for."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.onhost import facts, hooks, inventory, journal, marker, plain, sealed, shared
from deploy.onhost.layout import Layout, read_json, remove_tree
from deploy.onhost.lock import Lock, holder_of
from deploy.onhost.session import Policy, Session, StepFailed
from deploy.onhost.store import Store
from deploy.wire.names import ReleaseId, sha256

Make = Callable[..., ReleaseId]
KINDS = ("fifo", "socket", "link", "dangling link", "folder", "device")


@pytest.fixture(autouse=True)
def promptly() -> Iterator[None]:
    """A planted FIFO that is waited for holds up this test, not the whole suite."""
    with_deadline = threading.Timer(20, lambda: os._exit(99))
    with_deadline.start()
    yield
    with_deadline.cancel()


def plant(path: Path, kind: str, elsewhere: Path) -> None:
    """Put something there that is no plain file."""
    if path.exists():
        path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        fd = os.open(path.parent, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{fd}/{path.name}")  # a name of at most 107 bytes
        os.close(fd)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        if kind == "link":
            elsewhere.write_text('{"format":1,"seq":7}\n')
        path.symlink_to(elsewhere)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_locks_path(tmp_path: Path, layout: Layout, kind: str) -> None:
    """The lock is not taken through it, and asking who holds it does not wait."""
    plant(layout.lock, kind, tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"."):
        Lock(layout.lock).take({"by": "me"})
    assert holder_of(layout.lock) is None
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").read_text().count("by") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_journals_path(tmp_path: Path, layout: Layout, kind: str) -> None:
    """Neither read through nor appended to."""
    plant(layout.journal, kind, tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"."):
        journal.read(layout.journal)
    with pytest.raises(OSError, match=r"."):
        journal.Journal(layout.journal, "run")
    if kind == "link":
        assert (tmp_path / "elsewhere").read_text() == '{"format":1,"seq":7}\n'


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_store_and_in_a_marker(tmp_path: Path, layout: Layout, kind: str) -> None:
    """Content is read from plain files alone."""
    digest = sha256("ab" * 32)
    path = Store(layout).path(digest)
    path.parent.mkdir()
    plant(path, kind, tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"."):
        Store(layout).read(digest)
    with pytest.raises(OSError, match=r"."):
        read_json(path)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_in_a_release(session: Session, release: Make, kind: str) -> None:
    """A hook that leaves a FIFO in ``src/`` is told so; it does not hold up whoever hashes."""
    name = release("v1")
    src = session.layout.release(name) / "src"
    src.chmod(0o755)
    plant(src / "pipe", kind, src)
    (told,) = marker.differences(session.layout, marker.read(session.layout, name))
    assert "neither a file, a folder nor a link" in told
    with pytest.raises(OSError, match="neither"):
        inventory.take(src)


@pytest.mark.parametrize("kind", ["fifo", "link", "device", "folder"])
def test_where_a_build_leaves_its_wheel(tmp_path: Path, kind: str) -> None:
    """What a hostile build leaves in its folder is read as a plain file or not at all."""
    plant(tmp_path / "x.whl", kind, tmp_path / "secret")
    with pytest.raises(OSError, match=r"."):
        plain.read(tmp_path / "x.whl")
    (tmp_path / "sparse.whl").touch()
    os.truncate(tmp_path / "sparse.whl", 1 << 40)
    with pytest.raises(OSError, match="larger than"):
        plain.read(tmp_path / "sparse.whl", 1 << 16)


def test_a_lock_and_a_journal_of_somebody_else_are_refused(layout: Layout) -> None:
    """Whoever owns the lock's file could hold it for ever, whoever owns the journal could rewrite it."""
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user needs root")
    for path in (layout.lock, layout.journal):
        path.touch(0o666)
        os.chown(path, 12345, 12345)
        with pytest.raises(PermissionError, match="belongs to 12345"):
            plain.open_file(path, os.O_RDWR, ours=True)
    with pytest.raises(PermissionError):
        Lock(layout.lock).take({"by": "me"})
    with pytest.raises(PermissionError):
        journal.Journal(layout.journal, "run")


def test_facts_are_given_while_somebody_plants(layout: Layout) -> None:
    """A folder of shared/ with a FIFO and a link to / in it changes nothing about what a host says of itself."""
    (layout.shared / "data").mkdir()
    plant(layout.shared / "data/fifo", "fifo", layout.root)
    (layout.shared / "data/link").symlink_to("/")
    assert facts.facts(layout)["problems"] == []


# Folders of shared/


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_listed_folders_get_their_modes_and_the_folders_above_them(layout: Layout) -> None:
    """2770 for what is listed, 0750 above; what is there already stays as it is."""
    (layout.shared / "old").mkdir(mode=0o755)
    for name in ("old", "media", "a/b/c"):
        shared.make_folder(layout, name)
    found = {str(path.relative_to(layout.shared)): mode(path) for path in layout.shared.rglob("*")}
    assert found == {"old": 0o755, "media": 0o2770, "a": 0o750, "a/b": 0o750, "a/b/c": 0o2770}


def test_a_folder_that_a_killed_run_left_is_finished(layout: Layout) -> None:
    """Killed between mkdir(2) and chmod(2): otherwise the app could never write there."""
    (layout.shared / "media").mkdir(mode=0o700)
    layout.shared.chmod(0o700)
    (layout.shared / "media").rename(layout.root / "aside")
    layout.make()
    (layout.root / "aside").rename(layout.shared / "media")
    shared.make_folder(layout, "media")
    assert (mode(layout.shared), mode(layout.shared / "media")) == (0o750, 0o2770)


@pytest.mark.parametrize("planted", ["link", "dangling link", "link above", "fifo", "file"])
def test_a_folder_is_never_made_or_opened_through_what_the_app_planted(
    tmp_path: Path, layout: Layout, planted: str
) -> None:
    """Neither mode nor group of anything outside changes, and nothing is made there."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    theirs = layout.shared / "data"
    theirs.mkdir()
    theirs.chmod(0o2777)  # whoever may write here may have made the link, whoever owns it
    target, wanted = theirs / "sub", "data/sub"
    if planted == "link above":
        wanted = "data/sub/more"
    if planted == "fifo":
        os.mkfifo(target)
    elif planted == "file":
        target.touch()
    else:
        target.symlink_to(outside / "new" if planted == "dangling link" else outside)
    with pytest.raises(OSError, match=r"."):
        shared.make_folder(layout, wanted)
    assert list(outside.iterdir()) == []
    assert mode(outside) == 0o700


def test_an_operators_own_link_to_a_larger_disk_stays(tmp_path: Path, layout: Layout) -> None:
    """Made by the deploy user or root where nobody else may write."""
    (tmp_path / "disk").mkdir()
    (layout.shared / "media").symlink_to(tmp_path / "disk")
    shared.make_folder(layout, "media/thumbs")
    assert mode(tmp_path / "disk/thumbs") == 0o2770


def test_while_the_app_exchanges_the_folder_for_a_link(tmp_path: Path, layout: Layout) -> None:
    """A race of a few hundred rounds never opens what the link names."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    theirs = layout.shared / "data"
    theirs.mkdir()
    theirs.chmod(0o2777)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for step in (
                lambda: (theirs / "sub").rename(theirs / "was"),
                lambda: (theirs / "sub").symlink_to(outside),
                (theirs / "sub").unlink,
                (theirs / "was").rmdir,
            ):
                with contextlib.suppress(OSError):
                    step()

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                shared.make_folder(layout, "data/sub")
    finally:
        stop.set()
        thread.join()
    assert mode(outside) == 0o700
    assert list(outside.iterdir()) == []


# What is deleted or changes owner


def test_a_link_below_is_removed_and_what_it_names_stays(tmp_path: Path) -> None:
    """Also where the write bits are gone."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/link").symlink_to(outside)
    (tmp_path / "tree/deep").chmod(0o000)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert mode(outside) == 0o500


def test_while_somebody_exchanges_folders_for_links(tmp_path: Path) -> None:
    """Removing a tree whose owner is still at work there opens and removes nothing else."""
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    outside.chmod(0o500)
    stop = threading.Event()

    def exchange(tree: Path) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                (tree / "a").rename(tree / "b")
                (tree / "a").symlink_to(outside)
                (tree / "a").unlink()
                (tree / "b").rename(tree / "a")

    for number in range(30):
        tree = tmp_path / f"tree{number}"
        (tree / "a/deep").mkdir(parents=True)
        stop.clear()
        thread = threading.Thread(target=exchange, args=(tree,))
        thread.start()
        with contextlib.suppress(OSError):  # it says so; the next run sweeps it
            remove_tree(tree)
        stop.set()
        thread.join()
    assert mode(outside) == 0o500
    assert (outside / "kept").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to a build user")
def test_giving_a_folder_to_the_build_user_gives_nothing_else(session: Session, tmp_path: Path) -> None:
    """Neither what a link names nor what has another name elsewhere; coming back, all is onhost's."""
    session.policy = Policy(allow_root=True, build_user="nobody")
    secret = tmp_path / "secret"
    secret.write_text("root's")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/file").touch()
    (tree / "deep/link").symlink_to(secret)
    os.link(secret, tree / "deep/other-name")
    sealed.give_to_build_user(session, tree)
    assert secret.stat().st_uid == 0
    assert (tree / "deep/file").stat().st_uid != 0
    sealed.take_back(session, tree)
    assert {path.lstat().st_uid for path in [tree, *tree.rglob("*")]} == {0}


# Who may write what says how commands of the deploy user run


@pytest.mark.parametrize("opened", ["file", "folder", "owner", "folder's owner"])
def test_an_env_file_that_others_may_change_is_refused(session: Session, opened: str) -> None:
    """Whoever writes PATH or LD_PRELOAD there runs code as the deploy user: said with what mends it."""
    folder = session.layout.shared / "conf"
    folder.mkdir()
    path = folder / ".env"
    path.write_text("LD_PRELOAD=/srv/shop/shared/data/evil.so\n")
    path.chmod(0o640)
    if opened in ("file", "folder"):
        (path if opened == "file" else folder).chmod(0o777)
        who = "everybody may write"
    else:
        if os.geteuid() != 0:
            pytest.skip("giving a file to another user needs root")
        os.chown(path if opened == "owner" else folder, 12345, 12345)
        who = "user 12345 may write"
    with pytest.raises(StepFailed, match=who) as refused:
        hooks.env_file_values(session.layout, {"env_files": ["shared/conf/.env"]})
    assert "chown" in refused.value.next_step


def test_an_env_file_named_absolutely(session: Session, tmp_path: Path) -> None:
    """Wherever it lies, by the same rules."""
    tmp_path.chmod(0o755)
    (tmp_path / "demo.env").write_text("KEY=value\n")
    found = hooks.env_file_values(session.layout, {"env_files": [str(tmp_path / "demo.env")]})
    assert found["KEY"].reveal() == "value"
    with pytest.raises(StepFailed, match="regular file"):
        hooks.env_file_values(session.layout, {"env_files": ["/dev/zero"]})


@pytest.mark.parametrize("bits", [0o777, 0o757, 0o1777, 0o755, 0o775])
def test_a_folder_above_root_in_which_others_could_exchange_it(tmp_path: Path, bits: int) -> None:
    """Named with what mends it, unless it is sticky, or a group of the user's own."""
    above = tmp_path / "srv"
    (above / "root").mkdir(parents=True)
    above.chmod(bits)
    if os.geteuid() == 0:
        os.chown(above, -1, 12345)
    exposed = Layout(above / "root").exposed()
    if bits in (0o1777, 0o755) or (bits == 0o775 and os.geteuid() != 0):
        assert exposed == []
    else:
        assert len(exposed) == 1
        assert f"may write in {above}, and so put another folder in ROOT's place" in exposed[0]
        assert f"chmod go-w '{above}'" in exposed[0]
