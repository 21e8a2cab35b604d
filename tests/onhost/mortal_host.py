"""A host whose program can be killed at any call that changes a disk, as by kill -9: no handler of its own runs.

``python -m tests.onhost.mortal_host SOCKET`` forks one process for each connection, as sshd(8) does: the real
``Conversation`` over the real channel, lock, journal, staging and switch. Only what would take seconds is replaced:
virtualenvs are not made, and the service is a file, ``shared/running``, that names the release it runs.
A request may carry ``crash: [n, how]``: the program dies at its n-th call from here that changes something, ``before``
it, ``after`` it, or in the middle of it (``torn``, a write).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.onhost import activate, environment, hooks, recovery, seal, serve, stage, toolchain, usage
from deploy.onhost.channel import Channel
from deploy.onhost.children import Finished
from deploy.onhost.envs import env_key

KILLED = 137
CALLS = (
    "open", "write", "pwrite", "fsync", "fchmod", "chmod", "mkdir", "rmdir", "rename", "replace", "symlink", "unlink",
)  # fmt: skip
TORN = "torn"


class Fuse:
    """Counts this process's calls that change a disk, and ends it at the one that was chosen."""

    def __init__(self, line_fd: int, diary: Path) -> None:
        self._line_fd = line_fd
        self._diary = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self.left: int | None = None
        self.how = "before"
        self.doing = ""
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.left is None or not self._changes(name, args):
                return real(*args, **kwargs)
            self.left -= 1
            if self.left > 0:
                return real(*args, **kwargs)
            if self.how == "after":
                real(*args, **kwargs)
            elif self.how == TORN and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            self.left = None
            os.write(self._diary, f"{self.doing} {name} {self.how}\n".encode())
            os._exit(KILLED)

        return call

    def _changes(self, name: str, args: tuple[Any, ...]) -> bool:
        if name == "open":
            return len(args) > 1 and bool(args[1] & os.O_CREAT)
        return name != "write" or args[0] != self._line_fd


class Mortal(serve.Conversation):
    """The real conversation; a request may say where in it the program dies."""

    fuse: Fuse

    def _answer(self, request: dict[str, Any]) -> None:
        op = str(request.get("op"))
        self.fuse.doing = op
        self.fuse.left, self.fuse.how = request.pop("crash", None) or (None, "before")
        if op == "go":  # the line is about to be cut: what it settles then is cut off where this says
            self.fuse.doing = "settle"
            self._channel.send({"t": "answer", "op": op, "ok": True})
            return
        super()._answer(request)
        self.fuse.left = None


def service(session: Any, context: Any, manifest: Any, command: hooks.Configured) -> Finished:
    """Run one command of the release: a service that is down while it restarts, as most are, and then may be ill."""
    shared: Path = session.layout.shared
    running, tag = shared / "running", manifest.tag
    well = True
    if command.label == "restart":
        running.unlink(missing_ok=True)
        well = not (shared / f"deaf-{tag}").exists()
        if well:
            put(running, str(manifest.release_id))
    elif command.label == "stop":
        running.unlink(missing_ok=True)
    elif command.label == "health":
        runs = running.read_text() if running.exists() else ""
        well = runs == manifest.release_id and not (shared / f"ill-{tag}").exists()
    elif command.label == "before_activate":
        with (shared / "migrated").open("a") as file:
            file.write(f"{manifest.release_id}\n")
    return Finished(0 if well else 1, "", timed_out=False, seconds=0.0)


def put(path: Path, text: str) -> None:
    """Write a small file by temp and rename."""
    temp = path.with_name(f".{path.name}")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, text.encode())
    os.close(fd)
    os.replace(temp, path)  # noqa: PTH105 - one of the calls that are counted


def bare_virtualenv(session: Any, manifest: Any, target: Any, work: Path) -> tuple[None, dict[str, Any]]:
    """Make what stands for a virtualenv."""
    folder = session.layout.release(manifest.release_id) / "venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    return None, {"env_key": env_key(target), "env_shared": False, "sealed": "kernel", "provenance": {}}


def _in_use(layout: Any, _history: Any, _unit: str) -> dict[str, list[str]]:
    """What the service runs from, as it wrote itself."""
    running = layout.shared / "running"
    release = running.read_text() if running.exists() else ""
    return {release: ["in use"]} if release in layout.present() else {}


def replace_what_is_slow(world: dict[str, Any]) -> None:
    """In this process alone: no virtualenvs, the service that is a file, this world's boot and clock."""
    hooks.configured = service
    environment.give = bare_virtualenv  # pyright: ignore[reportAttributeAccessIssue]
    environment.usable = lambda *_: {}
    toolchain.is_here = lambda *_: True
    stage.compile_folder = lambda *_: None
    activate.RETURN_PAUSE_S = 0.0
    usage.in_use = _in_use
    recovery.survivors = lambda *_: {"build": [], "hook": []}  # nothing here starts a process
    platform.libc_ver = lambda *_: ("glibc", "2")  # reads the whole interpreter
    real_time = time.time
    time.time = lambda: real_time() + float(world["clock"])
    for name, module in list(sys.modules.items()):
        if name.startswith("deploy.onhost") and hasattr(module, "boot_id"):
            setattr(module, "boot_id", lambda: str(world["boot"]))  # noqa: B010


def converse(line: socket.socket) -> None:
    """Serve one connection to its end. Its first line says which ROOT, boot and clock this is."""
    greeting = b""
    while not greeting.endswith(b"\n"):
        greeting += line.recv(1)
    world = json.loads(greeting)
    line.sendall(b"%d\n" % os.getpid())
    replace_what_is_slow(world)
    channel = Channel(line.fileno(), line.fileno())
    channel.start()
    conversation = Mortal(Path(world["root"]), channel, -1, "")
    conversation.fuse = Fuse(line.fileno(), Path(world["diary"]))
    conversation.run()


def main() -> None:
    """Fork for each connection, for as long as whoever started this lives."""
    seal.prctl(seal.PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    gc.freeze()  # what is forked shares these pages
    print("ready", flush=True)
    while True:
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who started this waits for the end of it
            os.umask(0o022)
            with contextlib.suppress(ConnectionError):
                converse(line)
            os._exit(0)
        line.close()


if __name__ == "__main__":
    main()
