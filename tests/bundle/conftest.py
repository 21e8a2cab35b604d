"""A real project in a real git repository, with a tiny but closed set of wheels in vendor/."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.closure import lockfile
from deploy.closure.model import Archive, Lock, LockTarget
from deploy.wire.names import Sha256
from tests.bundle.keys import Gpg, SshKey, ssh_key

SETTINGS = 'deploy:\n  app: demo\n  python: "3.11"\n'


class Project:
    """One git repository and the few things that tests do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *args: str | bytes, stdin: bytes = b"") -> str:
        done = subprocess.run(["git", *args], cwd=self.folder, input=stdin, capture_output=True, check=True)
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, path: str | bytes, content: bytes | str = b"x\n") -> None:
        at = self.folder / (path if isinstance(path, str) else path.decode("utf-8", "surrogateescape"))
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, message: str = "work") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, *at: str) -> str:
        self.git("tag", "-a", name, "-m", f"release {name}", *at)
        return self.git("rev-parse", f"refs/tags/{name}")

    def settings(self, more: str = "", folder: str = "") -> None:
        self.write(f"{folder}fabric.yaml", SETTINGS + more)

    def closure(self, folder: str = "") -> None:
        """Write requirements/ and vendor/ that `vendor.check` accepts: one package and a toolchain, all tiny wheels."""
        wheels = {name: _wheel(name) for name in ("tiny", "pip", "virtualenv")}
        archives = {f"{name}-1.0-py3-none-any.whl": _archive(name, data) for name, data in wheels.items()}
        files = {name: f"{name}-1.0-py3-none-any.whl" for name in wheels}
        target = LockTarget(
            "3.11", "3.11.7", "linux_x86_64", "glibc 2.28", (files["tiny"],), (files["pip"], files["virtualenv"])
        )
        lock = Lock("app", ("tiny",), (), archives, (target,))
        self.write(f"{folder}requirements/app.in", "tiny\n")
        self.write(f"{folder}requirements/app.txt", lockfile.write_pins(lock))
        self.write(f"{folder}requirements/pylock.app.toml", lockfile.write_lock(lock))
        for name, data in wheels.items():
            self.write(f"{folder}vendor/{files[name]}", data)


def _wheel(name: str) -> bytes:
    packed = io.BytesIO()
    info = f"{name}-1.0.dist-info"
    members = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(packed, "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member), text)
    return packed.getvalue()


def _archive(name: str, data: bytes) -> Archive:
    digest = Sha256(hashlib.sha256(data).hexdigest())
    return Archive(f"{name}-1.0-py3-none-any.whl", digest, len(data), name, "1.0", reason="a test")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Project]:
    """Make an empty repository in a folder of that name."""
    return lambda name: Project(tmp_path / name)


@pytest.fixture
def project(make: Callable[[str], Project]) -> Project:
    """A project ready to be tagged: settings, closure and one file of its own."""
    made = make("project")
    made.settings()
    made.closure()
    made.write("app.py", "print('hello')\n")
    made.commit()
    return made


@pytest.fixture
def ssh(tmp_path: Path) -> Callable[[str], SshKey]:
    """Give somebody's SSH key, made when it is first asked for."""
    folder = tmp_path / "ssh-keys"
    folder.mkdir()
    made: dict[str, SshKey] = {}
    return lambda name: made.get(name) or made.setdefault(name, ssh_key(folder, name))


@pytest.fixture(scope="session")
def gpg() -> Iterator[Gpg]:
    """A GNUPGHOME to make keys in; its path is short, since gpg's agent makes a socket there."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not here: install gnupg")
    made = Gpg(Path(tempfile.mkdtemp(prefix="gpg-")))
    yield made
    made.close()
    shutil.rmtree(made.home, ignore_errors=True)


@pytest.fixture(scope="session")
def carol(gpg: Gpg) -> str:
    """The fingerprint of Carol's key."""
    return gpg.make("carol")
