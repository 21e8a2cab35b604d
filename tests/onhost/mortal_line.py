"""The control side of a mortal host: one question at a time over a socket, and what is left when it is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.wire import framing
from deploy.wire.manifest import Manifest, Target, TreeFile
from deploy.wire.names import sha256

PYTHON = f"3.{sys.version_info[1]}"
Crash = Sequence[Any] | None
"""``(n, how)``, or None: see ``mortal_host``."""


class Died(Exception):
    """The host program is gone: killed where it was asked to be."""


def manifest_of(tag: str) -> tuple[Manifest, bytes]:
    """A manifest of one file for a tag, and that file's content."""
    content = f"print({tag!r})\n".encode()
    digest = sha256(hashlib.sha256(content).hexdigest())
    migrate = {
        "run": "migrate", "once": True, "on": ["deploy"], "timeout_s": 60, "idempotent": False, "user": None,
        "sealed": False,
    }  # fmt: skip
    settings = {
        "requirements": "app", "python": PYTHON, "shared": {"dirs": [], "files": []},
        "env_files": [], "site_packages": "link", "environment": {},
        "hooks": {"app": {"before_activate": [migrate]}},
    }  # fmt: skip
    target = Target(PYTHON, "any", {}, (), ())
    files = (TreeFile("app.py", "100644", digest, len(content)),)
    return Manifest("demo", tag, "1" * 40, "2" * 40, None, "", files, {}, (target,), settings), content


OPERATOR = {
    "restart": {"run": "restart", "timeout_s": 30, "user": None},
    "stop": {"run": "stop", "timeout_s": 30, "user": None},
    "health": {
        "url": None, "socket": None, "path": None, "host_header": None, "expect_status": [200], "successes": 1,
        "command": {"run": "health", "timeout_s": 30, "user": None}, "timeout_s": 0.0, "interval_s": 0.0,
    },
}  # fmt: skip


@dataclass
class World:
    """One host: where it is, which boot this is, how far its clock is off."""

    socket: str
    root: Path
    diary: Path
    boot: int = 1
    clock: float = 0.0


@dataclass
class HostLine:
    """One operator's line to a mortal host. Requests raise Died where the host program was killed."""

    world: World
    run: str
    by: str
    pid: int = 0
    _frames: list[framing.Frame] = field(default_factory=list[framing.Frame])

    def __post_init__(self) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(self.world.socket)
        world = {"root": str(self.world.root), "diary": str(self.world.diary)}
        self._line.sendall(json.dumps({**world, "boot": self.world.boot, "clock": self.world.clock}).encode() + b"\n")
        said = b""
        while not said.endswith(b"\n"):
            said += self._line.recv(1)
        self.pid = int(said)
        self._decoder = framing.Decoder()

    def ask(self, op: str, crash: Crash = None, /, **fields: Any) -> dict[str, Any]:
        """Ask one question and wait for its answer."""
        self._send({"t": "request", "op": op, "crash": crash, **fields})
        return self._answer()

    def hello(self, verb: str) -> dict[str, Any]:
        """Say who asks; learn the host's facts."""
        context = {"stage": "test", "host": "web-1", "groups": [], "verb": verb}
        policy = {"allow_root": True, "build_user": None, "accept_seal": "kernel", "step_s": 60.0}
        answer = self.ask("hello", run=self.run, operator=self.by, context=context, policy=policy)
        facts: dict[str, Any] = answer["facts"]
        return facts

    def stage(self, tag: str, crash: Crash = None) -> dict[str, Any]:
        """Offer, send what is lacking, stage."""
        manifest, content = manifest_of(tag)
        offered = self.ask("offer", manifest=manifest.to_json(), target=0, release=manifest.release_id)
        if not offered["ok"] or offered["present"]:
            return offered
        assert offered["problems"] == []
        for digest in offered["need"]:
            self._send({"t": "blob", "sha256": digest, "size": len(content)})
            self._line.sendall(framing.pack(framing.BLOB, content))
        if offered["need"]:
            self._send({"t": "blobs-end"})
            assert self._answer()["ok"]
        return self.ask("stage", crash)

    def cut(self, crash: Crash = None) -> None:
        """Lose the line: the host settles by itself (or dies in it), and is gone when this returns."""
        if crash:
            self.ask("go", crash)
        self._line.shutdown(socket.SHUT_WR)
        self._rest()

    def kill(self) -> None:
        """End the host program as a reboot does."""
        os.kill(self.pid, signal.SIGKILL)
        self._rest()

    def _rest(self) -> None:
        try:
            while self._line.recv(65536):
                pass
        except ConnectionError:
            pass
        self._line.close()

    def _send(self, value: dict[str, Any]) -> None:
        try:
            self._line.sendall(framing.pack_json(value))
        except ConnectionError as error:
            self._line.close()
            raise Died from error

    def _answer(self) -> dict[str, Any]:
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                value = frame.json() if frame.kind != framing.BEAT else {}
                if value.get("t") == "answer":
                    return value
            try:
                data = self._line.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                self._line.close()
                raise Died
            self._frames += list(self._decoder.feed(data))
