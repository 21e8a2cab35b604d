"""Packages and indexes that misbehave while locking and fetching, with real pip, real backends and a trap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.closure import backends, lock
from deploy.errors import Failed, Refused
from tests.closure.conftest import BACKEND, PYTHON, Folder, Packed, ask, sdist, silent, wheel
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
    requires: tuple[str, ...] = ()
    others: tuple[Packed, ...] = ()

    def packed(self, port: int) -> tuple[Packed, ...]:
        """The package as source and, so that pip resolves it without running its backend, as a wheel."""
        build = [text.replace("PORT", str(port)) for text in self.build]
        backend = {"minibackend.py": BACKEND + HOOK + self.hook.replace("PORT", str(port)) + "\n"} if self.hook else {}
        return (
            sdist("lib", "1.0", self.requires, build, files=backend),
            wheel("lib", "1.0", self.requires),
            *self.others,
        )


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
    Case("backend that asks for what no index has", Refused, "no-such-part", "return ['no-such-part']"),
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
    Case("build requirement that no index has", Refused, "no-such-tool", build=("no-such-tool",)),
    Case(
        "build requirement's build requirement that no index has",
        Refused,
        "no-such-seed",
        build=("tool",),
        others=(sdist("tool", "1.0", [], ["no-such-seed"]), wheel("tool", "1.0")),
    ),
    Case("requirement that no index has", Refused, "no-such-dep", requires=("no-such-dep",)),
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
        lock(root, "app", PYTHON, silent)
    assert one.says in "\n".join([raised.value.why, *raised.value.problems])
    assert [path.name for path in (root / "requirements").iterdir()] == ["app.in"]
    assert trap.caught == []
