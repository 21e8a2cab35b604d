"""Packages and indexes that misbehave while locking and fetching, with real pip, real backends and a trap."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.closure import WorkTree, backends, check, fetch, lock
from deploy.errors import Failed, Refused
from deploy.events import Event, Notice
from tests.closure.conftest import BACKEND, PYTHON, Folder, Packed, as_pages, ask, sdist, silent, wheel
from tests.hosts.trap import Trap, trap

__all__ = ["trap"]
pytestmark = pytest.mark.slow
HOOK = "\ndef get_requires_for_build_wheel(config_settings=None):\n    "
URL = "http://127.0.0.1:PORT"
"""Where the trap waits."""


@dataclass(frozen=True)
class Case:
    """How ``lib`` misbehaves, and how locking it ends. ``hook`` is the body of its get_requires_for_build_wheel."""

    name: str
    kind: type[Failed | Refused]
    says: str
    hook: str = ""
    build: tuple[str, ...] = ()
    others: tuple[Packed, ...] = ()

    def packed(self, port: int) -> tuple[Packed, ...]:
        """The package as source and, so that pip resolves it without running its backend, as a wheel."""
        build = [text.replace("PORT", str(port)) for text in self.build]
        backend = {"minibackend.py": BACKEND + HOOK + self.hook.replace("PORT", str(port)) + "\n"} if self.hook else {}
        return sdist("lib", "1.0", [], build, files=backend), wheel("lib", "1.0"), *self.others


NOT_READ = "lib-1.0.tar.gz asks for a build requirement that cannot be read: '-r more.txt'"
BY_ADDRESS = "lib-1.0.tar.gz asks for a build requirement by its address"
TABLE = [
    Case("backend that crashes", Failed, "no compiler here", "raise SystemExit('no compiler here')"),
    Case("backend that hangs", Failed, "lib 1.0 did not answer within 2 s", "import time; time.sleep(600)"),
    Case("backend that ends without a word", Failed, "lib 1.0 ended without an answer", "import os; os._exit(0)"),
    Case("backend that answers no list", Failed, "backend of lib 1.0 failed", "return 7"),
    Case(
        "backend that opens a socket",
        Failed,
        "Network is unreachable",
        "import socket; socket.create_connection(('127.0.0.1', PORT))",
    ),
    Case(
        "backend that asks for something new each time",
        Refused,
        "the build environment of lib-1.0.tar.gz cannot be solved: part-",
        "import time; return [f'part-{time.time_ns()}']",
    ),
    Case("backend that asks for an option", Refused, NOT_READ, "return ['-r more.txt']"),
    Case("backend that asks for a URL", Refused, BY_ADDRESS, f"return ['tool @ {URL}/tool-1.0.tar.gz']"),
    Case("URL in build requirements", Refused, BY_ADDRESS, build=(f"tool @ {URL}/tool-1.0.tar.gz",)),
    Case("option in build requirements", Refused, NOT_READ, build=("-r more.txt",)),
    Case(
        "build requirement's build requirement that no index has",
        Refused,
        "no-such-seed",
        build=("tool",),
        others=(sdist("tool", "1.0", [], ["no-such-seed"]), wheel("tool", "1.0")),
    ),
]


@pytest.mark.parametrize("one", TABLE, ids=[one.name for one in TABLE])
def test_what_cannot_be_locked(
    index: Folder, root: Path, monkeypatch: pytest.MonkeyPatch, trap: Trap, one: Case
) -> None:
    """It is refused with the name of the package and what it did; nothing is written, and nobody is called."""
    monkeypatch.setattr(backends, "_HOOK_TIMEOUT_S", 2.0)
    index.offer(*one.packed(trap.port))
    ask(root, "lib\n")
    with pytest.raises(one.kind) as raised:
        lock(root, "app", (PYTHON,), silent)
    assert one.says in "\n".join([raised.value.why, *raised.value.problems])
    assert [path.name for path in (root / "requirements").iterdir()] == ["app.in"]
    assert trap.caught == []


def test_backend_that_writes_into_home_and_an_extra_in_its_build_requirements(
    index: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes into a HOME of its own, which is thrown away; what its tool's extra needs is in its environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    body = "pathlib.Path.home().joinpath('mark').write_text('x')\n    return []"
    files = {"minibackend.py": BACKEND + HOOK + body}
    needs, extras = (
        ['speed>=1; extra == "fast"', 'docs; extra == "slow"'],
        "Provides-Extra: fast\nProvides-Extra: slow\n",
    )
    index.offer(sdist("lib", "1.0", [], ["tool[fast]"], files=files), wheel("lib", "1.0"))
    index.offer(sdist("tool", "1.0", needs, files=files, extra=extras), wheel("speed", "1.1"))
    index.offer(wheel("tool", "1.0", needs, files=files, extra=extras))
    ask(root, "lib\n")
    build = lock(root, "app", (PYTHON,), silent).lock.targets[0].builds["lib-1.0.tar.gz"]
    assert build.environment == ("speed-1.1-py3-none-any.whl", "tool-1.0.tar.gz")
    assert not list(tmp_path.rglob("mark"))


def test_environment_that_would_change_what_is_locked(
    index: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would change pip's answer silently has no say; what says where an index is, and limits, is shown."""
    index.offer(wheel("lib", "1.0", ["dep"]), wheel("dep", "1.0"), wheel("dep", "2.0"), wheel("dep", "3.0rc1"))
    index.offer(wheel("evil", "1.0"))
    for file, text in {"more.txt": "evil\n", "limits.txt": "dep<2\n"}.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    silently = {
        "PIP_NO_DEPS": "1",
        "PIP_DRY_RUN": "1",
        "PIP_PRE": "1",
        "PIP_TARGET": str(tmp_path / "target"),
        "PIP_REQUIREMENT": str(tmp_path / "more.txt"),
        "PIP_NO_BINARY": ":all:",
        "PYTHONPATH": str(tmp_path),
    }
    shown = {
        "PIP_CONSTRAINT": str(tmp_path / "limits.txt"),
        "PIP_TRUSTED_HOST": "index.example",
        "PIP_PROXY": "http://me:secret@proxy.example:3128",
    }
    for name, value in {**silently, **shown}.items():
        monkeypatch.setenv(name, value)
    ask(root, "lib\n")
    events: list[Event] = []
    locked = lock(root, "app", (PYTHON,), events.append).lock
    assert [archive.label for archive in locked.run_time()] == ["dep 1.0", "lib 1.0"]
    told = "\n".join(event.text for event in events if isinstance(event, Notice))
    for value in ("limits.txt", "index.example", "proxy.example", index.folder.as_uri()):
        assert value in told
    assert "secret" not in told
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "target").exists()


def test_configuration_file_is_honoured_and_shown(
    index: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip.conf says where the index is, to lock and to fetch; a check asks neither it nor the index."""
    index.offer(wheel("lib", "1.0"))
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    configuration = tmp_path / "pip/pip.conf"
    configuration.parent.mkdir()
    configuration.write_text(f"[global]\nno-index = true\nfind-links = {index.folder.as_uri()}\n")
    ask(root, "lib\n")
    locking: list[Event] = []
    fetching: list[Event] = []
    lock(root, "app", (PYTHON,), locking.append)
    fetch(root, "app", fetching.append)
    for events in (locking, fetching):
        assert any(index.folder.as_uri() in event.text for event in events if isinstance(event, Notice))
    configuration.write_text("[global]\nno-index = false\nfind-links = http://127.0.0.1:9\n")
    check(WorkTree(root), "app")


def test_configuration_file_that_asks_for_more(
    index: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requirements file that pip.conf adds to every installation is not locked."""
    index.offer(wheel("lib", "1.0"), wheel("evil", "1.0"))
    (tmp_path / "more.txt").write_text("evil\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(f"[install]\nrequirement = {tmp_path / 'more.txt'}\n")
    ask(root, "lib\n")
    assert [archive.label for archive in lock(root, "app", (PYTHON,), silent).lock.run_time()] == ["lib 1.0"]


def test_stale_wheel_in_the_cache_of_pip(
    index: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that was changed under its old name is locked as it is now, not as pip once built it."""
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    index.offer(sdist("lib", "1.0", standard="2.1"))
    argv = [sys.executable, "-I", "-m", "pip", "wheel", "-q", "-w", str(tmp_path / "wheels"), "lib"]
    subprocess.run(argv, check=True, capture_output=True)
    assert list((tmp_path / "cache").rglob("lib-1.0-*.whl"))
    index.offer(sdist("lib", "1.0", ["dep"], standard="2.1"), wheel("dep", "1.0"))
    ask(root, "lib\n")
    assert [archive.name for archive in lock(root, "app", (PYTHON,), silent).lock.run_time()] == ["dep", "lib"]


def test_package_without_a_wheel_whose_tools_are_on_an_index(
    index: Folder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hooks run sealed, but pip fetches what they need as it is configured to."""
    as_pages(
        tmp_path / "simple",
        monkeypatch,
        (sdist("lib", "1.0", ["dep"], ["tool"], standard="2.1", backend="tool"), ""),
        (wheel("dep", "1.0"), ""),
        (sdist("tool", "1.0", backend="tool"), ""),
    )
    ask(root, "lib\n")
    assert [archive.name for archive in lock(root, "app", (PYTHON,), silent).lock.run_time()] == ["dep", "lib"]


def test_backend_that_calls_home_while_pip_resolves(index: Folder, root: Path, trap: Trap) -> None:
    """Nobody is called by a package that comes as source only, and is built to see what it needs."""
    body = f"import socket\n    socket.create_connection(('127.0.0.1', {trap.port}), 5).close()\n    return []"
    index.offer(sdist("lib", "1.0", files={"minibackend.py": BACKEND + HOOK + body}))
    ask(root, "lib\n")
    with contextlib.suppress(Failed, Refused):
        lock(root, "app", (PYTHON,), silent)
    time.sleep(0.5)  # a trap takes a moment to notice
    assert trap.caught == []
