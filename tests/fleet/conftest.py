"""A fleet of folders: the real host program over real pipes, with stand-ins for pip and virtualenv."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from deploy import pipeline
from deploy.closure import HostNeed
from deploy.errors import Refused
from deploy.events import Event, RunEnded
from deploy.fleet.run import FleetRun
from deploy.hostprogram import HostProgram
from deploy.link.local import LocalPipe
from deploy.link.pipe import LinkLost, Pipe
from deploy.onhost import history, journal
from deploy.onhost.layout import Layout, remove_tree
from deploy.settings import ALL_AT_ONCE, Command, Deadlines, Health, HostSettings, Stage, Strategy, Trust
from deploy.wire import framing
from deploy.wire.manifest import Archive, Manifest, TreeFile
from tests.fleet import standins
from tests.fleet.program import compiled
from tests.fleet.standins import digest_of

TOP = Path(__file__).parents[2]
RESTART = 'echo "$DEPLOY_TAG" >> "$DEPLOY_ROOT/shared/runs"'
WELL = 'test ! -e "$DEPLOY_ROOT/shared/ill-$(tail -n 1 "$DEPLOY_ROOT/shared/runs")"'
"""A service that is a file: it is well unless another file says that its tag is ill."""


@dataclass
class Bundle:
    """What is shipped for one tag, made by hand: one file, no packages."""

    manifest: Manifest
    blobs: dict[str, bytes]
    host_needs: tuple[HostNeed, ...] = ()

    def read(self, digest: str) -> bytes:
        """Give the bytes behind a digest."""
        return self.blobs[digest]


Cut = tuple[str, str]


@dataclass
class CutPipe:
    """A line that breaks as soon as the host tells a certain thing, by (step, state) or ("answer", op).

    With ("request", op) it breaks before the host is told that.
    """

    inner: Pipe
    at: Cut
    _decoder: framing.Decoder | None = None
    _cut: bool = False

    def open(self) -> None:
        self.inner.open()

    def send(self, data: memoryview) -> int:
        if self.at[0] == "request" and b'"op":"%s"' % self.at[1].encode() in bytes(data[:200]):
            self._cut = True
            self.inner.close()
        if self._cut:
            raise OSError("cut by the test")
        return self.inner.send(data)

    def receive(self, size: int) -> bytes:
        data = b"" if self._cut else self.inner.receive(size)
        rest = data
        if self._decoder is None and framing.MAGIC in data:
            self._decoder, rest = framing.Decoder(), data.partition(b"\n")[2]
        for frame in self._decoder.feed(rest) if self._decoder and rest else ():
            value = frame.json() if frame.kind != framing.BEAT else {}
            if self.at in ((value.get("step"), value.get("state")), (value.get("t"), value.get("op"))):
                self._cut = True
                self.inner.close()
                return b""
        return data

    def ending(self) -> tuple[int | None, str]:
        return None, "cut by the test"

    def close(self) -> None:
        self.inner.close()


class AwayPipe:
    """A host that nobody can reach."""

    def open(self) -> None:
        raise LinkLost("no route to host", "look at the host", reached=False)

    def send(self, data: memoryview) -> int:
        raise OSError

    def receive(self, size: int) -> bytes:
        raise OSError

    def ending(self) -> tuple[int | None, str]:
        return None, ""

    def close(self) -> None:
        """There is nothing to let go of."""


class SlowPipe(LocalPipe):
    """A line that takes only so many bytes a second."""

    def __init__(self, line: str, bytes_a_second: int) -> None:
        super().__init__(line)
        self._piece = bytes_a_second // 10

    def send(self, data: memoryview) -> int:
        time.sleep(0.1)
        return super().send(data[: self._piece])


@dataclass
class Fleet:
    """Hosts that are folders, and the runs made on them."""

    folder: Path
    names: tuple[str, ...]
    events: list[Event] = field(default_factory=list)
    keep: int = 5
    away: set[str] = field(default_factory=set)
    """Hosts that cannot be reached."""
    before_reopening: Callable[[str], None] | None = None
    """Called with the name of a host whose line was cut, before the run reaches it again; may raise LinkLost."""
    bytes_a_second: int = 0
    """How slow lines are; 0 is as fast as they can."""
    program: HostProgram = field(default_factory=compiled)
    pipe: Callable[[str], Pipe] = LocalPipe
    """Starts the exec line of one host."""

    def root(self, name: str) -> Path:
        return self.folder / name

    def layout(self, name: str) -> Layout:
        return Layout(self.root(name))

    def current(self) -> dict[str, str | None]:
        """The tag that is live on each host."""
        found = {name: self.layout(name).link_target(self.layout(name).current) for name in self.names}
        return {name: release and release[:-9] for name, release in found.items()}

    def runs(self, name: str) -> list[str]:
        """What was restarted on a host."""
        path = self.root(name) / "shared/runs"
        return path.read_text().split() if path.exists() else []

    def history(self, name: str) -> history.History:
        return history.fold(journal.read(self.layout(name).journal))

    def ill(self, name: str, tag: str) -> None:
        """Make a tag unhealthy on a host."""
        shared = self.root(name) / "shared"
        if not shared.exists():  # as the host program makes it
            shared.mkdir()
            shared.chmod(0o750)
            os.chown(shared, -1, self.root(name).stat().st_gid)
        (shared / f"ill-{tag}").touch()

    def stage(self, names: tuple[str, ...] = (), waves: Strategy = ALL_AT_ONCE, **other: Any) -> Stage:
        """The operator's settings."""
        hosts = tuple(replace(self._host(name), **other) for name in names or self.names)
        return Stage("test", hosts, Trust(), 0.0, waves=waves)

    def _host(self, name: str) -> HostSettings:
        health = Health(command=Command(WELL, 30.0), successes=1, timeout_s=0.3, interval_s=0.05)
        return HostSettings(
            name=name, stage="test", address=name, port=None, user=None, identity=None, known_hosts=(), groups=(),
            root=str(self.root(name)), python=sys.executable, local=True, restart=Command(RESTART, 30.0), stop=None,
            health=health, service=None, keep=self.keep, deadlines=Deadlines(), allow_root=True, build_user=None,
            accept_seal="kernel",
        )  # fmt: skip

    def run(self, verb: str, stage: Stage, cuts: dict[str, Cut] | None = None, **other: Any) -> FleetRun:
        """One command's run; ``cuts`` says which host's first line breaks at what."""
        program = self.program
        to_cut = dict(cuts or {})

        def open_pipe(host: HostSettings, line: str) -> Pipe:
            if host.name in self.away:
                return AwayPipe()
            if host.name in to_cut:
                return CutPipe(self.pipe(line), to_cut.pop(host.name))
            if self.before_reopening and host.name in (cuts or {}):
                self.before_reopening(host.name)
            return SlowPipe(line, self.bytes_a_second) if self.bytes_a_second else self.pipe(line)

        return FleetRun(
            verb, stage, self.events.append, operator="tester", program=(program.data, program.sha256),
            open_pipe=open_pipe, **other,
        )  # fmt: skip

    def deploy(
        self,
        bundle: Bundle,
        *,
        cuts: dict[str, Cut] | None = None,
        stage: Stage | None = None,
        wait_s: float = 0,
        **other: Any,
    ) -> RunEnded:
        """Deploy as the pipeline does, from the bundle on."""
        run = self.run("deploy", stage or self.stage(), cuts, tag=bundle.manifest.tag, **other)
        return run.guard(lambda phases: pipeline._deploy(run, phases, bundle, restage=False, wait_s=wait_s))  # type: ignore[arg-type]

    def rollback(
        self,
        tag: str | None = None,
        *,
        cuts: dict[str, Cut] | None = None,
        stage: Stage | None = None,
        bundles: Sequence[Bundle] = (),
    ) -> RunEnded:
        """Roll back as the pipeline does; ``bundles`` is what a repository would hold, none: there is no repository."""
        run = self.run("rollback", stage or self.stage(), cuts, tag=tag)

        @contextlib.contextmanager
        def pack_again(lost: str) -> Generator[Bundle]:
            found = [bundle for bundle in bundles if bundle.manifest.tag == lost]
            if not found:
                raise Refused("No host was contacted.", f"there is no tag {lost} here", "fetch it")
            yield found[0]

        return run.guard(lambda phases: pipeline._rollback(run, phases, tag, wait_s=0, pack_again=pack_again))  # type: ignore[arg-type]


def outcomes(ended: RunEnded) -> dict[str, str]:
    """One word per host."""
    return {host.host: host.outcome.rpartition(".")[2].lower() for host in ended.hosts}


@pytest.fixture
def words() -> Callable[[RunEnded], dict[str, str]]:
    """One word per host of a run's end."""
    return outcomes


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, bundle: Callable[..., Bundle]) -> Iterator[Fleet]:
    """Three hosts on which v1 is live; the second and third got what the first had built, to save the time."""
    made = Fleet(tmp_path_factory.mktemp("fleet"), ("web-1", "web-2", "web-3"))
    first = made.root("web-1")
    for name in made.names:
        made.root(name).mkdir()
    assert made.deploy(bundle("v1"), stage=made.stage(("web-1",))).exit_code == 0
    for name in made.names[1:]:
        (made.root(name) / ".deploy").mkdir(mode=0o711)
        subprocess.run(["cp", "-al", first / ".deploy/store", made.root(name) / ".deploy/store"], check=True)
    yield made
    remove_tree(made.folder)


@pytest.fixture
def fleet(hosts: Fleet, bundle: Callable[..., Bundle]) -> Fleet:
    """Those hosts with v1 live and well on all of them, whatever the test before did."""
    hosts.away.clear()
    for path in hosts.folder.glob("*/shared/ill-*"):
        path.unlink()
    if None in hosts.current().values():
        ended = hosts.deploy(bundle("v1"))
        assert ended.exit_code == 0, ended.problems
    if set(hosts.current().values()) != {"v1"}:
        ended = hosts.rollback("v1", bundles=[bundle("v1")])
        assert ended.exit_code == 0, ended.problems
    for name in hosts.names:
        (hosts.root(name) / "shared/runs").write_text("v1\n")
    hosts.events.clear()
    hosts.before_reopening, hosts.bytes_a_second = None, 0
    return hosts


@pytest.fixture
def bare(tmp_path: Path) -> Fleet:
    """Three hosts whose ROOTs are empty folders."""
    made = Fleet(tmp_path, ("web-1", "web-2", "web-3"))
    for name in made.names:
        made.root(name).mkdir()
    return made


@pytest.fixture(scope="session")
def bundle() -> Callable[..., Bundle]:
    """Make a bundle of a tag; ``hooks`` are of the app level: ``prepare="test -e x"``, a dict or a list for more."""
    target = standins.target(standins.TOOLCHAIN)
    blobs = {digest_of(data): data for data in standins.TOOLCHAIN.values()}
    archives = {digest_of(data): Archive(name, len(data)) for name, data in standins.TOOLCHAIN.items()}
    default = {
        "once": False, "on": ["deploy", "rollback"], "timeout_s": 60, "idempotent": False, "user": None,
        "sealed": False,
    }  # fmt: skip

    def filled(points: dict[str, Any]) -> dict[str, Any]:
        return {
            point: [
                {**default, **({"run": hook} if isinstance(hook, str) else hook)}
                for hook in (hooks if isinstance(hooks, list) else [hooks])
            ]
            for point, hooks in points.items()
        }

    def make(tag: str, by_level: dict[str, Any] | None = None, **hooks: Any) -> Bundle:
        content = f"VERSION = {tag!r}\n".encode()
        digest = digest_of(content)
        by_level = {level: filled(points) for level, points in (by_level or {"app": hooks}).items()}
        settings = {
            "requirements": "app", "python": target.python, "shared": {"dirs": [], "files": []}, "env_files": [],
            "site_packages": "link", "environment": {}, "hooks": by_level,
        }  # fmt: skip
        commit = hashlib.sha1(tag.encode()).hexdigest()
        files = (TreeFile("app.py", "100644", digest, len(content)),)
        manifest = Manifest("demo", tag, commit, commit, None, "", files, archives, (target,), settings)
        return Bundle(manifest, {**blobs, digest: content})

    return make
