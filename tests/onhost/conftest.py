"""A real ROOT in a temporary folder, a session on it with the real host program, and releases made without pip."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.hostprogram import in_memory
from deploy.onhost import marker, switch
from deploy.onhost.channel import Channel
from deploy.onhost.children import become_subreaper
from deploy.onhost.hooks import Context
from deploy.onhost.journal import Journal
from deploy.onhost.layout import Layout, remove_tree
from deploy.onhost.seal import PR_SET_CHILD_SUBREAPER, prctl
from deploy.onhost.session import Policy, Session
from deploy.wire.manifest import Manifest, TreeFile
from deploy.wire.names import ReleaseId, sha256

SETTINGS: dict[str, Any] = {
    "requirements": "app",
    "python": "3.11",
    "shared": {"dirs": [], "files": []},
    "env_files": [],
    "site_packages": "link",
    "environment": {},
    "hooks": {},
}


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A ROOT with its folders made."""
    root = tmp_path / "root"
    root.mkdir()
    made = Layout(root)
    made.make()
    yield made
    remove_tree(root)


@pytest.fixture(scope="module")
def program_fd() -> Iterator[int]:
    """The host program as it is shipped, in memory, as on a host; this process reaps orphans, as onhost does."""
    fd = in_memory()
    become_subreaper()
    yield fd
    prctl(PR_SET_CHILD_SUBREAPER, 0)
    os.close(fd)


@pytest.fixture
def session(layout: Layout, program_fd: int) -> Iterator[Session]:
    """A run on that ROOT which holds its lock; nobody listens at the far end of its line."""
    silent, written = os.pipe(), os.open(os.devnull, os.O_WRONLY)
    channel = Channel(silent[0], written, silence_s=1e9)
    made = Session(layout, channel, program_fd, "run-1", "tester", policy=Policy(allow_root=True))
    made.lock.take({"by": "tester"})
    made.journal = Journal(layout.journal, "run-1")
    made.book.append("lock", by="tester")
    yield made
    made.lock.release()
    for fd in (*silent, written):
        os.close(fd)


@pytest.fixture
def context() -> Context:
    """Host web-1 of stage test."""
    return Context("test", "web-1", (), "deploy")


@pytest.fixture
def release(session: Session) -> Callable[..., ReleaseId]:
    """Make a complete release: one file, an interpreter that runs, its marker, its records in the journal."""

    def make(tag: str = "v1", content: bytes = b"print(1)\n", **settings: Any) -> ReleaseId:
        digest = sha256(hashlib.sha256(content).hexdigest())
        file = TreeFile("app.py", "100644", digest, len(content))
        manifest = Manifest(
            "demo", tag, "1" * 40, "2" * 40, None, "", (file,), {}, (), dict(SETTINGS, **settings)
        )  # fmt: skip
        folder = session.layout.release(manifest.release_id)
        (folder / "src").mkdir(parents=True)
        (folder / "src/app.py").write_bytes(content)
        (folder / "venv/bin").mkdir(parents=True)
        (folder / "venv/bin/python").symlink_to(sys.executable)
        session.book.append("stage", release=manifest.release_id, tag=tag, commit=manifest.commit)
        marker.write(session.layout, manifest, {"env_key": "none", "env_shared": False}, {})
        session.book.append("staged", release=manifest.release_id, sealed="kernel")
        switch.leave_spare(session.layout, manifest.release_id)
        return manifest.release_id

    return make
