"""What rots on a host is found before it is used again, and the next deploy heals it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.fleet import Fleet, is_whole
from tests.hosts.openssh import Host

pytestmark = pytest.mark.hosts


def flip(path: Path) -> None:
    """Change one byte of a read-only file, as a bad disk would."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    path.chmod(mode)


def packages(host: Host) -> Path:
    """A module among the packages that releases of one lock share."""
    envs = host.root / ".deploy" / "store" / "envs"
    return next(path for path in envs.glob("*/site-packages/**/*.py") if path.name != "_virtualenv.py")


def test_altered_packages_are_never_linked_into_a_release_again(fleet: Callable[..., Fleet]) -> None:
    """With the same lock the next release gets packages of its own, verifies, and nothing of the altered tree."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    flip(packages(host))
    assert made.fab("verify").code == 1
    made.project.release("v2", **{"notes.txt": "v2\n"})
    made.deploy("v2")
    assert made.fab("verify").code == 0
    is_whole(host)
    back = made.fab("rollback:v1")  # not live: swept and staged again, from the tag
    assert back.code == 0, back.text
    assert "not as it was staged" in back.text
    assert made.fab("verify").code == 0


def test_a_rotten_toolchain_is_unpacked_again(fleet: Callable[..., Fleet]) -> None:
    """A byte of the unpacked pip is wrong; the next deploy does not run it."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.project.release("v1")
    made.deploy("v1")
    tool = next((host.root / ".deploy/store/envs").glob("tools-*/virtualenv/__init__.py"))
    flip(tool)
    altered = tool.read_bytes()
    made.project.release("v2", **{"notes.txt": "v2\n"})
    made.deploy("v2")
    assert tool.read_bytes() != altered


def test_stored_files_that_a_power_cut_emptied_are_sent_again(fleet: Callable[..., Fleet]) -> None:
    """Every emptied blob is asked for in one go; one altered in place costs one failed run, not one each."""
    made = fleet("web-1", serve=False)
    (host,) = made.hosts
    made.project.release("v1", **{"notes.txt": "the same in v2\n", "other.txt": "this too\n"})
    made.deploy("v1")
    files = [path for path in (host.root / ".deploy/store/files").rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o600)
        path.write_bytes(b"")
    made.project.release("v2", **{"more.txt": "v2\n"})
    made.deploy("v2")
    for path in files:
        if path.exists() and path.stat().st_size:
            flip(path)
    made.project.release("v3", **{"more.txt": "v3\n"})
    first = made.fab("deploy:v3")
    assert first.code == 1, first.text
    assert "dropped" in first.text
    made.deploy("v3")
    is_whole(host)
