"""Disks that are full or too small: told beforehand with need and have, and no bar to a rollback."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.fleet import Fleet, is_whole
from tests.hosts.openssh import Host

pytestmark = pytest.mark.hosts


@pytest.fixture
def small(fleet: Callable[..., Fleet], tmp_path: Path) -> Iterator[Callable[[str, str], Fleet]]:
    """Make a host whose ROOT is a small ext4 of its own: size, and number of inodes."""
    mounted: list[Path] = []

    def make(size: str, inodes: str) -> Fleet:
        if os.geteuid() != 0:
            pytest.skip("mounting a small filesystem needs root")
        image = tmp_path / "disk.img"
        with image.open("wb") as file:
            file.truncate(_bytes(size))
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", inodes, str(image)], check=True)
        made = fleet("web-1")
        (host,) = made.hosts
        kept = host.root / ".deploy"
        subprocess.run(["cp", "-a", str(kept), str(tmp_path / "kept")], check=True)
        done = subprocess.run(["mount", "-o", "loop", str(image), str(host.root)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        mounted.append(host.root)
        (host.root / "lost+found").rmdir()
        subprocess.run(["cp", "-a", str(tmp_path / "kept"), str(kept)], check=True)
        os.chown(host.root, host.account.uid, host.ground.accounts.app.gid)
        host.root.chmod(0o750)
        return made

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _bytes(size: str) -> int:
    return int(size.removesuffix("M")) << 20


def fill(host: Host) -> None:
    """Take every byte and every block that is left."""
    hog = host.root / "hog"
    with contextlib.suppress(OSError), hog.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    about = os.statvfs(host.root)
    assert about.f_bavail == 0


def take_inodes(host: Host, leave: int = 0) -> None:
    """Take every inode but ``leave``."""
    folder = host.root / "hogs"
    folder.mkdir()
    with contextlib.suppress(OSError):
        for number in range(os.statvfs(host.root).f_favail - leave):
            (folder / str(number)).touch()
    assert os.statvfs(host.root).f_favail == leave


def test_line_18_too_small_is_found_before_anything_is_sent(small: Callable[[str, str], Fleet]) -> None:
    """Preflight names how much is needed and how much is there, bytes and inodes; nothing was received."""
    made = small("56M", "3000")
    (host,) = made.hosts
    take_inodes(host, leave=100)
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == 1, ended.text
    assert "MB free below" in ended.problems
    assert "free inodes below" in ended.problems
    assert ended.sent("web-1") == 0
    assert host.current is None


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_line_19_rollback_with_nothing_left(small: Callable[[str, str], Fleet], what: str) -> None:
    """With zero bytes or zero inodes free, probes, rollback and status still work; a deploy is refused in preflight."""
    made = small("200M", "12000")
    (host,) = made.hosts
    made.project.settings(hooks={"probe": "python -c 'import greeting'", "migrations": "echo '[X] a.1'"})
    for tag in ("v1", "v2"):
        made.project.release(tag)
        made.deploy(tag)
    fill(host) if what == "bytes" else take_inodes(host)
    assert made.fab("status").code == 0
    ended = made.fab("rollback:v1")
    assert ended.code == 0, ended.text
    assert made.live() == ["v1"]
    is_whole(host)
    assert made.fab("status").code == 0
    made.project.release("v3")
    refused = made.fab("deploy:v3")
    assert refused.code == 1, refused.text
    assert "free" in refused.problems
    assert made.live() == ["v1"]
    again = made.fab("rollback:v2")
    assert again.code == 0, again.text
    assert "probe" in again.steps("web-1")
    assert made.live() == ["v2"]
    bare = made.fab("rollback")
    assert bare.code == 1, bare.text
    assert "v1-" in bare.problems  # rolled away from, and so marked
    assert made.fab("rollback:v1").code == 0
    assert made.live() == ["v1"]
    assert made.fab("status").code == 0
