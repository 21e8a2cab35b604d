"""A project, its hosts and ``fab`` together, and the oracle that must hold after every fault."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.wire import manifest as manifests

from .accounts import accounts
from .fab import LIBRARY, Ended, Fab
from .openssh import Ground, Host, keygen, make_host, remove
from .projects import Project


class Fleet:
    """One project and its hosts."""

    def __init__(self, folder: Path, ground: Ground, names: Sequence[str], **host: Any) -> None:
        self.folder = folder
        self.project = Project(folder / "project", ground.python, ground.version)
        self.fab = Fab(self.project.folder, folder / "state")
        self.known_hosts = folder / "known_hosts"
        self.hosts = [make_host(ground, name, folder, **host) for name in names]
        self.know()
        self.configure()
        self.project.tiny_closure()

    def know(self) -> None:
        """Write known_hosts with every host's own key."""
        self.known_hosts.write_text("".join(host.known_hosts_line for host in self.hosts))

    def configure(self, *, per_host: dict[str, dict[str, Any]] | None = None, **stage: Any) -> None:
        """Write fabric.yaml: this stage, with changes for single hosts."""
        settings = {host.name: {**host.settings(), **(per_host or {}).get(host.name, {})} for host in self.hosts}
        self.project.hosts(
            settings, known_hosts=str(self.known_hosts), identity=str(self.hosts[0].ground.identity), **stage
        )

    def deploy(self, tag: str, *words: str) -> Ended:
        """Deploy a tag that must come through."""
        ended = self.fab(f"deploy:{tag}", *words)
        assert ended.code == 0, ended.text
        return ended

    def live(self) -> list[str | None]:
        """The tag that answers over HTTP on each host."""
        return [live and live.rpartition("-")[0] for live in (host.live() for host in self.hosts)]

    def close(self) -> None:
        """End everything that was started, and delete it."""
        for host in self.hosts:
            host.stop()
            host.stop_serving()
            for pid in [*host.onhost(), *host.builds()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        remove(self.folder)


def is_whole(host: Host) -> None:
    """O1: ``current`` is absent or names a release whose marker matches its manifest."""
    link = host.root / "current"
    assert link.is_symlink() or not link.exists()
    if link.is_symlink():
        folder, _, name = str(link.readlink()).rpartition("/")
        assert folder == "releases"
        marker = json.loads((host.root / "releases" / name / "release.json").read_text())
        manifest = manifests.from_bytes(manifests.canonical(marker["manifest"]))
        assert marker["release"] == manifest.release_id == name
        for file in manifest.files:
            path = host.root / "releases" / name / "src" / file.path
            assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256, path


@contextlib.contextmanager
def readers(host: Host, path: str = "") -> Generator[list[str]]:
    """O2: ask without a pause while something happens; whoever leaves the block knows that nobody got no answer."""
    stop, seen, failed = threading.Event(), list[str](), list[str]()

    def read() -> None:
        while not stop.is_set():
            try:
                answer = host.answer(path)
                seen.append(answer["release"])
            except (OSError, ValueError, KeyError) as error:
                failed.append(repr(error))
            time.sleep(0.05)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
    assert not failed, failed[:3]


def eventually(what: Any, within_s: float = 30) -> None:
    """Wait until ``what()`` is true."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


@contextlib.contextmanager
def prepared_ground(pythons: dict[str, str]) -> Generator[Ground]:
    """Make what all hosts of a session share, below a folder that every user can reach."""
    base = Path(tempfile.mkdtemp(prefix="sealed-deploy-hosts-"))
    base.chmod(0o755)
    try:
        with accounts(base) as users:
            shutil.copytree(LIBRARY / "deploy", base / "library/deploy", ignore=shutil.ignore_patterns("__pycache__"))
            ground = Ground(base, users, _python(pythons, users.deploy.as_child), base / "library")
            keygen(ground.identity)
            if os.geteuid() == 0:
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks itself up before a login
            yield ground
    finally:
        remove(base)


def stocked(ground: Ground) -> Ground:
    """Deploy once for real; later hosts start with that store, as a host does that has served for a while."""
    fleet = Fleet(ground.base / "stock", ground, ["stock"])
    try:
        fleet.project.release("v0")
        fleet.deploy("v0")
        store = ground.base / "store"
        subprocess.run(["cp", "-a", str(fleet.hosts[0].root / ".deploy/store"), str(store)], check=True)
    finally:
        fleet.close()
    return dataclasses.replace(ground, store=store)


def _python(pythons: dict[str, str], as_deploy: dict[str, Any]) -> str:
    """A Python that the deploy user can run and that vendor/ holds a toolchain for."""
    named = [f"/usr/bin/python3.{minor}" for minor in (11, 12, 13, 14, 10)]
    named += [path for version, path in pythons.items() if version not in ("3.8", "3.9")]
    for path in named:
        if Path(path).exists() and path.rpartition("python")[2].startswith("3."):
            done = subprocess.run([path, "-I", "-c", "import ssl, venv"], cwd="/", capture_output=True, **as_deploy)
            if done.returncode == 0:
                return path
    raise RuntimeError(f"no Python from 3.10 on that the deploy user can run: {named}")


def fleets(ground: Ground, folder: Path) -> Iterator[Any]:
    """A factory of fleets; all are closed in the end."""
    made: list[Fleet] = []

    def make(*names: str, **host: Any) -> Fleet:
        fleet = Fleet(folder / f"fleet{len(made)}", ground, names or ("web-1",), **host)
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()
