"""The SSH servers of a project's sandbox hosts, in one daemon: knows the SSH side, must not know what a release is.

Run as ``python -m deploy.sandbox.server SANDBOX``. Each host listens on its own port of 127.0.0.1 with its own key and
lets in one user with one key, to run commands and nothing else: no shell, no terminal, no sftp, no forwarding. A
command runs as it would under sshd(8) without a terminal: by ``/bin/sh -c``, in the host's directory, in a small
environment of its own. When the line drops, its pipes close and it goes on, just as on a real host, where ending is the
program's own affair; what is left of it ends with the daemon.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process, SubprocessStreamProtocol
from contextlib import suppress
from functools import partial
from pathlib import Path

import asyncssh

from . import processes
from .hosts import Host, Sandbox

_PIECE = 256 * 1024
_WINDOW = 8 * 1024 * 1024
"""What a client may send ahead of the command's reading; asyncssh's default of 2 MB costs a fifth of the throughput."""


class _Door(asyncssh.SSHServer):
    """Lets in the sandbox's user with the sandbox's key."""

    def __init__(self, user: str, key: asyncssh.SSHKey) -> None:
        self._user, self._key = user, key

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 -- the library's signature
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._user and key.public_data == self._key.public_data


class _Commands:
    """Runs what one host is asked to run, and knows what still runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.running: set[int] = set()

    async def run(self, channel: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run one command to its end; pass its exit status, or the signal that ended it, to the client."""
        if channel.command is None:
            channel.stderr.write(b"A sandbox host runs commands; it has no login shell.\n")
            channel.exit(1)
            return
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(_PIECE, loop), "/bin/sh", "-c", channel.command,
            cwd=self._host.directory, env=self._host.environment(), start_new_session=True,
        )  # fmt: skip
        child = Process(transport, protocol, loop)
        self.running.add(child.pid)
        try:
            await _carry(channel, child, transport)
            status = await child.wait()
        finally:
            self.running.discard(child.pid)
        if status < 0:
            channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            channel.exit(status)


async def _carry(
    channel: asyncssh.SSHServerProcess[bytes], child: Process, transport: asyncio.SubprocessTransport
) -> None:
    """Carry bytes both ways until the command has closed its outputs and everything is with the client.

    The library's own ``redirect`` is not used: it neither says when the last output is out nor closes the command's
    pipes when the line drops.
    """
    assert child.stdin
    inward = asyncio.create_task(_inward(channel.stdin, child.stdin))
    outward = [(1, child.stdout, channel.stdout), (2, child.stderr, channel.stderr)]
    await asyncio.gather(
        *(_outward(source, target, transport.get_pipe_transport(n)) for n, source, target in outward if source)
    )
    inward.cancel()
    await asyncio.wait([inward])


async def _inward(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncssh.Error):
        while data := await source.read(_PIECE):
            target.write(data)
            await target.drain()
    target.close()


async def _outward(
    source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes], pipe: asyncio.BaseTransport | None
) -> None:
    try:
        while data := await source.read(_PIECE):
            target.write(data)
            await target.drain()
    except (OSError, asyncssh.Error):
        if pipe:
            pipe.close()  # the command meets SIGPIPE, as it would under sshd


async def _serve(sandbox: Sandbox, ready_fd: int) -> None:
    user_key = _key(sandbox.identity)
    known: list[str] = []
    commands: list[_Commands] = []
    for host in sandbox.hosts():
        host_key = _key(host.directory / "ssh_host_key")
        known.append(f"[{host.address}]:{host.port} {host_key.export_public_key().decode('ascii').strip()}\n")
        commands.append(_Commands(host))
        await asyncssh.listen(
            host.address, host.port,
            server_factory=partial(_Door, host.user, user_key), server_host_keys=[host_key],
            process_factory=commands[-1].run, encoding=None, window=_WINDOW,
            allow_pty=False, agent_forwarding=False, x11_forwarding=False, compression_algs=None, config=None,
        )  # fmt: skip
    _write_private(sandbox.known_hosts, "".join(known).encode("ascii"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    processes.ready(ready_fd)
    await stop.wait()
    for pid in {pid for one in commands for pid in one.running}:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _key(path: Path) -> asyncssh.SSHKey:
    """Read the private key at ``path``, or make one there, and its public half beside it."""
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", "sealed-deploy sandbox")  # pyright: ignore[reportUnknownMemberType]
        _write_private(path.with_name(path.name + ".pub"), key.export_public_key())
        _write_private(path, key.export_private_key())
    return asyncssh.read_private_key(path)


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        output.write(data)
    temporary.replace(path)


def main(directory: str) -> None:
    """Serve every host of the sandbox in ``directory`` until SIGTERM."""
    sandbox = Sandbox(Path(directory))
    asyncio.run(_serve(sandbox, processes.detach(sandbox.server_log, sandbox.server_pid)))


if __name__ == "__main__":
    main(*sys.argv[1:])
