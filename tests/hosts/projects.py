"""Small projects in real git repositories, with a real closure of tiny source archives that build in under a second."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.closure import lockfile
from deploy.closure.lines import read_asked
from deploy.closure.metadata import named
from deploy.closure.model import Archive, Build, Lock, LockTarget
from deploy.closure.toolchain import toolchain
from deploy.wire.names import Sha256

REPOSITORY = Path(__file__).parents[2]
FABFILE = '"""Deploys tiny."""\n\nfrom deploy.tasks import namespace\n\nns = namespace()\n'

BACKEND = '''\
"""A real PEP 517 backend in 30 lines: packs the *.py beside it, runs build-step.py first where there is one."""
import base64, hashlib, os, pathlib, runpy, zipfile


def build_wheel(folder, config_settings=None, metadata_directory=None):
    if os.path.exists("build-step.py"):
        runpy.run_path("build-step.py", run_name="__main__")
    text = pathlib.Path("PKG-INFO").read_text()
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    top = fields["Name"].replace("-", "_") + "-" + fields["Version"]
    sources = [path for path in sorted(pathlib.Path(".").glob("*.py")) if path.name != "build-step.py"]
    members = {path.name: path.read_bytes() for path in sources}
    info = top + ".dist-info/"
    members[info + "METADATA"] = text.encode()
    about = ["Wheel-Version: 1.0", "Generator: tinybuild", "Root-Is-Purelib: true", "Tag: py3-none-any", ""]
    members[info + "WHEEL"] = "\\n".join(about).encode()
    if os.path.exists("entry_points.txt"):
        members[info + "entry_points.txt"] = pathlib.Path("entry_points.txt").read_bytes()
    lines = []
    for name, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append("%s,sha256=%s,%d" % (name, digest, len(data)))
    members[info + "RECORD"] = ("\\n".join(lines) + "\\n" + info + "RECORD,,\\n").encode()
    file = top + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, file), "w") as wheel:
        for name, data in members.items():
            wheel.writestr(zipfile.ZipInfo(name), data)
    return file
'''

SERVICE = '''\
"""A service in one file: answers with its release, version and pid on the sockets that its supervisor holds."""
import http.server, json, os, pathlib, signal, socket, sys, threading
import greeting

HERE = pathlib.Path(__file__).resolve().parent
VERSION = (HERE / "VERSION").read_text().strip()
NEEDS = [name for name in (HERE / "NEEDS").read_text().split()]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        lacks = [name for name in NEEDS if not (HERE / "data" / name).exists()]
        well = not lacks or not self.path.startswith("/healthz")
        answer = {"release": HERE.parent.name, "version": VERSION, "pid": os.getpid(), "lacks": lacks}
        answer["says"] = greeting.TEXT
        body = json.dumps(answer).encode()
        self.send_response(200 if well else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def address_string(self):
        return "-"

    def log_message(self, *words):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, fd):
        one = socket.socket(fileno=fd)
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = one
        self.server_name, self.server_port = "tiny", 0

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("-", 0)


servers = [Server(fd) for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))]
signal.signal(signal.SIGTERM, lambda *_: [threading.Thread(target=one.shutdown).start() for one in servers])
threads = [threading.Thread(target=one.serve_forever, args=(0.05,)) for one in servers]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for one in servers:
    one.server_close()
'''

Packed = tuple[str, bytes]


def sdist(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    *,
    build: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> Packed:
    """A source archive; without ``build`` it brings its own backend (backend-path), else it needs ``tinybuild``."""
    top = f"{name.replace('-', '_')}-{version}"
    metadata = [f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {need}\n" for need in requires]
    own = "" if build else 'backend-path = ["."]\n'
    members = {
        "PKG-INFO": "".join(metadata),
        "pyproject.toml": f'[build-system]\nrequires = {json.dumps(list(build))}\nbuild-backend = "tinybuild"\n{own}',
        **(files or {}),
    }
    if not build:
        members.setdefault("tinybuild.py", BACKEND)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in members.items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{top}.tar.gz", gzip.compress(packed.getvalue(), mtime=0)  # equal sources, equal bytes


def wheel(name: str, version: str, files: Mapping[str, str], requires: Sequence[str] = ()) -> Packed:
    """A pure wheel with a whole RECORD (PEP 427)."""
    info = f"{name}-{version}.dist-info/"
    members = dict(files)
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    members[info + "METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    members[info + "WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in members.items()
    ]
    members[info + "RECORD"] = "\n".join([*lines, info + "RECORD,,\n"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}-{version}-py3-none-any.whl", packed.getvalue()


TINYBUILD = sdist("tinybuild", "1.0", files={"backend_marker.py": ""})
TINYLIB = sdist("tinylib", "1.0", build=["tinybuild"], files={"tinylib.py": "WORD = 'hello'\n"})
GREETING_FILES = {
    "greeting.py": "import tinylib\nTEXT = tinylib.WORD + ', world'\ndef main():\n    print(TEXT)\n",
    "entry_points.txt": "[console_scripts]\ngreet = greeting:main\n",
}


def greeting(version: str = "1.0", files: Mapping[str, str] | None = None) -> Packed:
    """The one package that the tiny service imports; another version of it is another lock."""
    return sdist("greeting", version, ["tinylib"], build=["tinybuild"], files={**GREETING_FILES, **(files or {})})


@functools.cache
def toolchain_wheels(python: str) -> tuple[Path, ...]:
    """The wheels of pip and virtualenv for one Python: vendored, or what ./bootstrap test fetched of older ones."""
    folders = ("vendor", "demo/vendor", f".venv-test/toolchains/{python}")
    found: list[Path] = []
    for name, version in toolchain(python).items():
        file = f"{name.replace('-', '_')}-{version}-*.whl"
        found.append(next(path for folder in folders for path in (REPOSITORY / folder).glob(file)))
    return tuple(found)


class Project:
    """One git repository with a fabfile, settings and a closure."""

    def __init__(self, folder: Path, python: str, version: str) -> None:
        self.folder = folder
        self.python, self.version = python, version
        self.deploy: dict[str, Any] = {
            "app": "tiny",
            "python": version,
            "exclude": ["requirements", "fabfile.py", "fabric.yaml"],
            "shared": {"dirs": ["data"]},
        }
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.write("fabfile.py", FABFILE)
        self.write("app.py", SERVICE)
        self.write("VERSION", "0\n")
        self.write("NEEDS", "")

    def git(self, *args: str) -> str:
        """Run git; its output, stripped."""
        return subprocess.run(
            ["git", *args], cwd=self.folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    def write(self, path: str, content: str | bytes) -> Path:
        """Put a file into the work tree."""
        at = self.folder / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content.encode() if isinstance(content, str) else content)
        return at

    def settings(self, **changes: Any) -> None:
        """Change settings and write fabric.yaml; JSON is YAML as well."""
        self.deploy.update(changes)
        self.write("fabric.yaml", json.dumps({"deploy": self.deploy}, indent=1) + "\n")

    def hosts(self, settings: Mapping[str, Mapping[str, Any]], **stage: Any) -> None:
        """Set the hosts of the one stage."""
        stages = {"test": {"hosts": {name: dict(host) for name, host in settings.items()}, **stage}}
        self.settings(stages=stages, default_stage="test")

    def closure(self, asked: str, install: Sequence[Packed], builds: Mapping[str, Sequence[Packed]]) -> None:
        """Lock and vendor: ``install`` in dependency order; ``builds`` names each sdist's build environment."""
        tools = [(path.name, path.read_bytes()) for path in toolchain_wheels(self.version)]
        everything = dict([*install, *tools, *(packed for group in builds.values() for packed in group)])
        vendor = self.folder / "vendor"
        for old in vendor.glob("*") if vendor.exists() else []:
            if old.name not in everything:
                old.unlink()
        for file, data in everything.items():
            self.write(f"vendor/{file}", data)
        archives = {file: _archive(file, data) for file, data in everything.items()}
        sources = [file for file in everything if not file.endswith(".whl")]
        target = LockTarget(
            python=self.version,
            python_full=f"{self.version}.0",
            platform=f"linux_{_machine()}",
            libc="glibc 2.28",
            install=tuple(file for file, _ in install),
            toolchain=tuple(sorted(file for file, _ in tools)),
            builds={
                file: Build(file, environment=tuple(name for name, _ in builds.get(file.partition("-")[0], ())))
                for file in sources
            },
        )
        read = read_asked(asked, "requirements/app.in")
        lock = Lock("app", read.spelled, read.overrides, archives, (target,))
        self.write("requirements/app.in", asked)
        self.write("requirements/app.txt", lockfile.write_pins(lock))
        self.write("requirements/pylock.app.toml", lockfile.write_lock(lock))

    def tiny_closure(self, package: Packed | None = None) -> None:
        """Three source archives: greeting needs tinylib, and both are built with tinybuild, which builds itself."""
        package = package or greeting()
        self.closure("greeting\n", [TINYLIB, package], {"tinylib": [TINYBUILD], "greeting": [TINYBUILD]})

    def release(self, tag: str, *, needs: str = "", **files: str) -> str:
        """Commit a version that names itself after the tag, and tag it; returns the commit."""
        self.write("VERSION", tag + "\n")
        self.write("NEEDS", needs)
        for path, text in files.items():
            self.write(path, text)
        return self.tag(tag)

    def tag(self, tag: str) -> str:
        """Commit everything and tag it."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", f"work for {tag}")
        self.git("tag", "-a", tag, "-m", f"release {tag}")
        return self.git("rev-parse", "HEAD")


def _archive(file: str, data: bytes) -> Archive:
    name, version = named(file)
    reason = "a test" if file.endswith(".whl") else ""
    return Archive(file, Sha256(hashlib.sha256(data).hexdigest()), len(data), name, version, reason=reason)


def _machine() -> str:
    import platform

    return platform.machine()
