"""Measure the check of a closure of 150 archives: cold, warm, and as a deploy does it from a tag's own objects.

    .venv/bin/python benchmarks/check.py [--archives N]

Makes a scratch project whose closure is synthetic: every archive is a real sdist or wheel with requirements of its own,
some have thousands of files, and together they hold about 50 MB, locked for three Pythons. Nothing is built. Cold means
that no archive was ever read before; warm, that each is hashed but what it says of itself is remembered.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from deploy import closure
from deploy.bundle.pack import pack
from deploy.bundle.repository import Repository
from deploy.closure import lockfile
from deploy.closure.lines import read_asked
from deploy.closure.metadata import named
from deploy.closure.model import Archive, Build, Lock, LockTarget
from deploy.wire.names import Sha256

TOTAL_BYTES = 50 << 20
LARGE = 6
LARGE_MEMBERS = 5000
TOOLS = 10
WHEEL_EVERY = 10
PYTHONS = ("3.9", "3.11", "3.13")
EXTRAS = 20
TOOLS_ASKED = tuple(f"package-{number}>=1" for number in range(TOOLS))
PIP = ("pip-1.0-py3-none-any.whl", "virtualenv-1.0-py3-none-any.whl")


def main() -> int:
    """Make the project, time each way and print one row for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--archives", type=int, default=150)
    count: int = parser.parse_args().archives
    folder = Path(tempfile.mkdtemp(prefix="check-"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        project = folder / "project"
        make(project, count)
        vendor = list((project / "vendor").iterdir())
        size = sum(path.stat().st_size for path in vendor)
        print(f"{len(vendor)} archives, {size / 1e6:.1f} MB")
        print("| check | s | CPU s |")
        print("|---|---|---|")
        tree = closure.WorkTree(project)
        row("vendor.check, cold", lambda: closure.remarks(closure.examine(tree, "app")))
        row("vendor.check, warm", lambda: closure.remarks(closure.examine(tree, "app")))
        row("deploy's pack of a new tag, warm", lambda: pack_tag(project))
        row("deploy's pack of a known tag, warm", lambda: pack_tag(project))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def row(what: str, run: Callable[[], object]) -> None:
    """Time one way."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    print(f"| {what} | {time.perf_counter() - wall:.2f} | {time.process_time() - cpu:.2f} |")


def pack_tag(project: Path) -> None:
    """Resolve and pack v1, as a deploy does before it contacts a host."""
    repository = Repository(project)
    pack(repository, repository.resolve("v1")).objects.close()


def make(project: Path, count: int) -> None:
    """Write a closed project: packages need two of those before them, and every sdist is built by a few tools."""
    (project / "requirements").mkdir(parents=True)
    (project / "vendor").mkdir()
    chance = random.Random(1)  # noqa: S311 - the same bytes each run
    names = [f"package-{number}" for number in range(count - 2)]
    packed = [wheel(name, [], 0, chance) for name in ("pip", "virtualenv")]
    for number, name in enumerate(names):
        needs = [f'test-{extra}>=1; extra == "test"' for extra in range(EXTRAS)]
        needs += [f"{need}>=1" for need in names[max(0, number - 2) : number]] if number > TOOLS else []
        size = (TOTAL_BYTES // 2 // LARGE) if number % (count // LARGE) == 0 else TOTAL_BYTES // 2 // count
        kind = wheel if number < TOOLS or number % WHEEL_EVERY == 0 else sdist
        packed.append(kind(name, needs, size, chance))
    for file, data in packed:
        (project / "vendor" / file).write_bytes(data)
    archives = [archive(file, data) for file, data in packed]
    tools = tuple(found.file for found in archives[2 : 2 + TOOLS])
    builds = {found.file: Build(found.file, TOOLS_ASKED, (), tools) for found in archives if found.kind == "sdist"}
    install = tuple(found.file for found in archives[2:])
    targets = tuple(
        LockTarget(python, f"{python}.1", "linux_x86_64", "glibc 2.28", install, PIP, builds=builds)
        for python in PYTHONS
    )
    asked = read_asked("\n".join(names), "requirements/app.in")
    lock = Lock("app", asked.spelled, (), {found.file: found for found in archives}, targets)
    (project / lockfile.asked_path("app")).write_text("\n".join(names), encoding="utf-8")
    (project / lockfile.pins_path("app")).write_text(lockfile.write_pins(lock), encoding="utf-8")
    (project / lockfile.lock_path("app")).write_text(lockfile.write_lock(lock), encoding="utf-8")
    (project / "fabric.yaml").write_text("deploy:\n  app: demo\n  python: '3.11'\n", encoding="utf-8")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "all")
    git(project, "tag", "v1")


def archive(file: str, data: bytes) -> Archive:
    """What a lock says of one archive."""
    name, version = named(file)
    return Archive(file, Sha256(hashlib.sha256(data).hexdigest()), len(data), name, version, reason="benchmark")


def members(name: str, needs: list[str], size: int, chance: random.Random) -> dict[str, bytes]:
    """Source files that pack to about ``size`` bytes in all, and metadata."""
    count = LARGE_MEMBERS if size > TOTAL_BYTES // 2 // 100 else 60
    files = {f"src/module_{number // 100}/file_{number}.py": chance.randbytes(size // count) for number in range(count)}
    lines = ["Metadata-Version: 2.2", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {need}" for need in needs)]
    return {**files, "PKG-INFO": "\n".join(lines).encode()}


def sdist(name: str, needs: list[str], size: int, chance: random.Random) -> tuple[str, bytes]:
    """A source archive."""
    top = f"{name.replace('-', '_')}-1.0"
    files = members(name, needs, size, chance)
    files["pyproject.toml"] = f"[build-system]\nrequires = {list(TOOLS_ASKED)!r}\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return f"{top}.tar.gz", packed.getvalue()


def wheel(name: str, needs: list[str], size: int, chance: random.Random) -> tuple[str, bytes]:
    """A wheel."""
    top = f"{name.replace('-', '_')}-1.0"
    files = members(name, needs, size, chance)
    info = {"METADATA": files.pop("PKG-INFO"), "WHEEL": b"Wheel-Version: 1.0\n", "RECORD": b""}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as packed_in:
        for path, data in {**files, **{f"{top}.dist-info/{name}": data for name, data in info.items()}}.items():
            packed_in.writestr(path, data)
    return f"{top}-py3-none-any.whl", packed.getvalue()


def git(project: Path, *words: str) -> None:
    """Run git in the project."""
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    subprocess.run(["git", *identity, *words], cwd=project, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
