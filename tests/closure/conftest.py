"""Small real archives, and projects whose closure is made of them."""

from __future__ import annotations

import hashlib
import io
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from virtualenv.seed.wheels.embed import get_embed_wheel

from deploy.closure import WorkTree, check, lockfile, toolchain
from deploy.closure.lines import read_asked
from deploy.closure.metadata import named
from deploy.closure.model import Archive, Build, Lock, LockTarget
from deploy.errors import Refused
from deploy.events import Event
from deploy.wire.names import Sha256

PYTHON = sysconfig.get_python_version()
BACKEND = '''
"""A real, tiny PEP 517 backend: reads PKG-INFO, packs *.py beside it."""
import pathlib, zipfile
def _info():
    text = pathlib.Path("PKG-INFO").read_text()
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return text, fields["Name"].replace("-", "_"), fields["Version"]
def get_requires_for_build_wheel(config_settings=None):
    extra = pathlib.Path("build-needs.txt")
    return extra.read_text().split() if extra.exists() else []
def build_wheel(folder, config_settings=None, metadata_directory=None):
    text, name, version = _info()
    for needed in get_requires_for_build_wheel():
        __import__(needed.partition("<")[0].partition(">")[0].replace("-", "_"))
    file = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, file), "w") as wheel:
        for path in sorted(pathlib.Path(".").glob("*.py")):
            wheel.write(path, path.name)
        info = f"{name}-{version}.dist-info"
        wheel.writestr(info + "/METADATA", text)
        tags = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "/WHEEL", tags)
        wheel.writestr(info + "/RECORD", "")
    return file
'''


def info(name: str, version: str, requires: Iterable[str] = (), extra: str = "", *, standard: str = "2.2") -> str:
    """Core metadata, as PKG-INFO and METADATA hold it."""
    lines = [f"Metadata-Version: {standard}", f"Name: {name}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {need}" for need in requires)]) + f"\n{extra}"


def pack(file: str, members: Mapping[str, str]) -> bytes:
    """Pack members as the file name says."""
    packed = io.BytesIO()
    if file.endswith((".zip", ".whl")):
        with zipfile.ZipFile(packed, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        return packed.getvalue()
    compression = {"gz": "gz", "bz2": "bz2", "xz": "xz", "tgz": "gz"}[file.rsplit(".", 1)[1]]
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text.encode()), 400_000_000
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def sdist(
    name: str,
    version: str,
    requires: Iterable[str] = (),
    build: Iterable[str] | None = (),
    *,
    suffix: str = ".tar.gz",
    extra: str = "",
    standard: str = "2.2",
    files: Mapping[str, str] | None = None,
    backend: str = "minibackend",
) -> tuple[str, bytes]:
    """A source archive; ``build=None`` leaves pyproject.toml out, an empty one builds itself (backend-path)."""
    top = f"{name.replace('-', '_')}-{version}"
    members = {f"{top}/PKG-INFO": info(name, version, requires, extra, standard=standard)}
    if build is not None:
        needs = list(build)
        own = "" if needs else 'backend-path = ["."]\n'
        members[f"{top}/pyproject.toml"] = (
            f"[build-system]\nrequires = {needs!r}\nbuild-backend = '{backend}'\n{own}".replace('"<', '"<')
        )
        if not needs:
            members[f"{top}/{backend}.py"] = BACKEND
    members.update({f"{top}/{path}": text for path, text in (files or {}).items()})
    return f"{top}{suffix}", pack(f"x{suffix}", members)


def wheel(
    name: str,
    version: str,
    requires: Iterable[str] = (),
    *,
    tag: str = "py3-none-any",
    extra: str = "",
    files: Mapping[str, str] | None = None,
) -> tuple[str, bytes]:
    """A wheel."""
    top = f"{name.replace('-', '_')}-{version}"
    members = dict(files or {})
    members[f"{top}.dist-info/METADATA"] = info(name, version, requires, extra)
    members[f"{top}.dist-info/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n"
    members[f"{top}.dist-info/RECORD"] = ""
    return f"{top}-{tag}.whl", pack("x.whl", members)


Packed = tuple[str, bytes]


class Project:
    """A project folder; ``lock`` writes a lock by hand, as closed or as broken as a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock_path = folder / "requirements/pylock.app.toml"
        self.pins_path = folder / "requirements/app.txt"
        self.asked_path = folder / "requirements/app.in"
        self.vendor = folder / "vendor"
        self.asked_path.parent.mkdir(parents=True)
        self.vendor.mkdir()

    def lock(
        self,
        asked: str,
        install: Sequence[Packed],
        builds: Mapping[str, Sequence[Packed]] | None = None,
        *,
        dynamic: Mapping[str, tuple[str, ...]] | None = None,
        recorded: Mapping[str, tuple[str, ...]] | None = None,
        toolchain: Sequence[Packed] | None = None,
        python: str = "3.11.7",
        platform: str = "linux_x86_64",
    ) -> Lock:
        """Write requirements/ and vendor/. ``builds`` gives environments; one not given is empty."""
        tools = [wheel("pip", "26.3"), wheel("virtualenv", "21.15.8")] if toolchain is None else toolchain
        environments = dict(builds or {})
        everything = {file: data for packed in (install, tools, *environments.values()) for file, data in packed}
        for file, data in everything.items():
            (self.vendor / file).write_bytes(data)
        archives = {file: _archive(file, data, (recorded or {}).get(file, ())) for file, data in everything.items()}
        target = LockTarget(
            python=python.rpartition(".")[0],
            python_full=python,
            platform=platform,
            libc="glibc 2.28",
            install=tuple(file for file, _ in install),
            toolchain=tuple(sorted(file for file, _ in tools)),
            builds={
                file: Build(
                    file,
                    dynamic=(dynamic or {}).get(file, ()),
                    environment=tuple(name for name, _ in environments.get(file, ())),
                )
                for file in everything
                if not file.endswith(".whl")
            },
        )
        self.asked_path.write_text(asked)
        read = read_asked(asked, "requirements/app.in")
        lock = Lock("app", read.spelled, read.overrides, archives, (target,))
        self.pins_path.write_text(lockfile.write_pins(lock))
        self.lock_path.write_text(lockfile.write_lock(lock))
        return lock

    def problems(self) -> list[str]:
        """Everything that check refuses; empty where it says that the closure is closed."""
        try:
            check(WorkTree(self.folder), "app")
        except Refused as refused:
            return list(refused.problems) or [refused.why]
        return []


def _archive(file: str, data: bytes, requires: tuple[str, ...]) -> Archive:
    name, version = named(file)
    reason = "a test" if file.endswith(".whl") else ""
    digest = Sha256(hashlib.sha256(data).hexdigest())
    return Archive(file, digest, len(data), name, version, requires=requires, reason=reason)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path / "project")


@pytest.fixture
def make_sdist() -> Callable[..., Packed]:
    """Give ``sdist``."""
    return sdist


@pytest.fixture
def make_wheel() -> Callable[..., Packed]:
    """Give ``wheel``."""
    return wheel


@pytest.fixture
def make_pack() -> Callable[[str, Mapping[str, str]], bytes]:
    """Give ``pack``."""
    return pack


def silent(event: Event) -> None:
    """Take events and show none."""


class Folder:
    """A folder of archives that pip is told to take for the whole world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def offer(self, *packed: Packed) -> None:
        for file, data in packed:
            (self.folder / file).write_bytes(data)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The index: the pip that virtualenv carries, a small backend, and what a test adds."""
    folder = Folder(tmp_path / "index of a test")  # a space, because pip splits unquoted find-links at it
    pip = get_embed_wheel("pip", PYTHON)
    assert pip is not None
    (folder.folder / pip.path.name).write_bytes(pip.path.read_bytes())
    folder.offer(wheel("virtualenv", "21.0"), sdist("minibackend", "1.0"))
    monkeypatch.setitem(toolchain.TOOLCHAIN, PYTHON, {"pip": str(pip.version), "virtualenv": "21.0"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.folder.as_uri())
    return folder


def as_pages(folder: Path, monkeypatch: pytest.MonkeyPatch, *entries: tuple[Packed, str]) -> None:
    """Make a folder of pages (PEP 503) pip's index: archives, one a package, each with the attributes of its link."""
    for (file, data), attributes in entries:
        page = folder / named(file)[0]
        page.mkdir(parents=True)
        (page / file).write_bytes(data)
        (page / "index.html").write_text(f'<!DOCTYPE html><a href="{file}" {attributes}>{file}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", folder.as_uri())


Reply = Callable[[str, bytes], tuple[int, bytes]]
"""From the path and the body of a request to the status and the body of its answer."""


@pytest.fixture
def listening() -> Generator[Callable[[Reply], str]]:
    """Start servers on loopback, each answering as a function says, and give each one's host and port."""
    servers: list[ThreadingHTTPServer] = []

    def start(reply: Reply) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = reply(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if body.startswith(b"<") else "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.02,)).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with an empty requirements folder."""
    root = tmp_path / "project"
    (root / "requirements").mkdir(parents=True)
    return root


def ask(root: Path, text: str) -> None:
    """Write requirements/app.in."""
    (root / "requirements/app.in").write_text(text)
