"""Real repositories with real keys, and the real host program over a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.hostprogram import host_program
from deploy.link.launch import exec_line
from deploy.link.line import Line
from deploy.link.local import LocalPipe
from deploy.onhost.layout import remove_tree
from tests.bundle.conftest import carol, gpg, make, project, ssh
from tests.fleet.conftest import bundle, fleet, hosts

__all__ = ["bundle", "carol", "fleet", "gpg", "hosts", "make", "project", "ssh"]

Said = dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A host's empty ROOT."""
    made = tmp_path / "root"
    made.mkdir()
    yield made
    remove_tree(made)


@pytest.fixture
def locked(root: Path) -> Iterator[tuple[Line, Callable[..., Said]]]:
    """A conversation with the host program there, which holds the lock; and how to ask in it."""
    program = host_program()
    line = Line(LocalPipe(exec_line(sys.executable, program.sha256, str(root))), silence_s=20.0)

    def ask(op: str, **details: Any) -> Said:
        return line.ask(op, lambda _: None, **details)

    line.greet(program.data)
    context = {"stage": "test", "host": "web-1", "groups": [], "verb": "deploy"}
    policy = {"allow_root": True, "accept_seal": "pip", "step_s": 60.0}
    assert ask("hello", run="r", operator="mallory", policy=policy, context=context)["ok"]
    assert ask("lock", holder={"by": "mallory", "run": "r", "verb": "deploy"})["ok"]
    yield line, ask
    line.close()
