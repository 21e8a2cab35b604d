"""The pipe over a real sshd: a wire that goes dead in mid-upload, and gateways that never answer."""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import paramiko
import pytest
from fabric import Config
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from deploy.link import ssh
from deploy.link.line import Line
from deploy.link.pipe import LinkLost
from deploy.link.ssh import Address, SshPipe, connect

FAR_END = """
import sys, time
sys.stdout.write(sys.stdin.readline().rstrip() + " have\\n")
sys.stdout.flush()
while sys.stdin.buffer.read(65536):
    sys.stdout.write(".\\0\\0\\0\\0")
    sys.stdout.flush()
"""
"""Answers the greeting and then only beats, for as long as it is sent something."""
ENDS_WITHIN_S = 60.0
ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIICvg2FioERN9wiyxmp1kbKl68TXQDruQXUr+PqRZkhp"
"""Somebody's public key."""


def small(pipe: SshPipe) -> SshPipe:
    """Let little lie in the kernel, as on a slow wire, so that a send blocks in the socket and not in SSH's window."""
    wire_of(pipe).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return pipe


def wire_of(pipe: SshPipe) -> socket.socket:
    """The TCP connection below."""
    transport: Any = pipe.connection.transport
    return transport.sock


def test_a_pipe_whose_wire_is_dead_can_be_closed(server: Any, wire: Any) -> None:
    """Ctrl-C closes it from the main thread while a worker's send is blocked in it: both come back."""
    pipe = small(connect(server.address(wire.port), "cat > /dev/null"))
    began: list[int] = []

    def upload() -> None:
        data = memoryview(bytes(32768))
        with contextlib.suppress(OSError, EOFError):
            while True:
                began.append(1)
                pipe.send(data)

    uploading = threading.Thread(target=upload, daemon=True)
    uploading.start()
    while len(began) < 10:
        time.sleep(0.01)
    wire.cut()
    before = -1
    while before != len(began):  # a send that waits for SSH's window comes back every second
        before = len(began)
        time.sleep(2.5)
    assert uploading.is_alive()
    closing = threading.Thread(target=pipe.close, daemon=True)
    closing.start()
    closing.join(ENDS_WITHIN_S)
    uploading.join(ENDS_WITHIN_S)
    assert not closing.is_alive()
    assert not uploading.is_alive()


def test_an_upload_into_a_black_hole_is_a_loss(server: Any, wire: Any) -> None:
    """Nothing is read any more, nobody hangs up: the line's silence ends an upload that is blocked in the socket."""
    words = f"{shlex.quote(sys.executable)} -c {shlex.quote(FAR_END)}"
    line = Line(small(connect(server.address(wire.port), words)), silence_s=2)
    line.greet(b"")
    ended: list[str] = []

    def upload() -> None:
        try:
            line.blobs([("0" * 64, lambda: b"\x1f\x8b" + bytes(1 << 20))] * 10_000, lambda _: None)
        except LinkLost as lost:
            ended.append(lost.why)

    uploading = threading.Thread(target=upload, daemon=True)
    uploading.start()
    time.sleep(0.5)
    assert uploading.is_alive(), ended
    wire.cut()
    uploading.join(ENDS_WITHIN_S)
    line.close()
    assert len(ended) == 1
    assert "for 2 s" in ended[0]


def test_the_kernel_is_told_how_long_bytes_may_go_unacknowledged(server: Any) -> None:
    """tcp(7), TCP_USER_TIMEOUT: it counts also while the host program cannot beat yet."""
    pipe = connect(server.address(server.port, silence_s=3), "cat > /dev/null")
    assert wire_of(pipe).getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
    pipe.close()


def jumping(*hops: str) -> Config:
    """Fabric's configuration with an ssh_config that jumps."""
    config = paramiko.SSHConfig()
    config.parse(StringIO(f"Host 127.0.0.9\n    ProxyJump {','.join(hops)}\n"))
    return Config(ssh_config=config)


def test_every_hop_has_deadlines() -> None:
    """Not the last one only."""
    connection = ssh.prepared(Address("127.0.0.9", connect_s=3, auth_s=4), jumping("a@127.0.0.1", "b@127.0.0.2"))
    hops = list(ssh.hops(connection))
    assert {hop.host for hop in hops} == {"127.0.0.9", "127.0.0.2", "127.0.0.1"}
    for hop in hops:
        assert hop.connect_timeout == 3
        assert dict(hop.connect_kwargs or {}) == {"banner_timeout": 4, "auth_timeout": 4, "channel_timeout": 3}


def test_a_gateway_that_never_greets_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing: Paramiko alone would wait 15 s, four times."""
    monkeypatch.setattr(ssh, "TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(LinkLost, match="cannot connect to"):
            connect(Address("127.0.0.9", connect_s=1, auth_s=1), "true", jumping(f"x@127.0.0.1:{port}"))
        assert time.monotonic() - began < 12


def test_a_host_that_is_down_is_tried_by_hand_with_the_stages_own_words(tmp_path: Path) -> None:
    """Port, user, key and known hosts stand in the command; a plain `ssh HOST` may well succeed with others."""
    key = tmp_path / "a key"
    paramiko.ECDSAKey.generate().write_private_key_file(str(key))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(LinkLost) as lost:
        connect(Address("127.0.0.1", port, "deploy", str(key), ("known_hosts",), connect_s=2, auth_s=2), "true")
    assert lost.value.next_step.partition("  #")[0] == (
        f"ssh -p {port} -i '{key}' -o IdentitiesOnly=yes -o UserKnownHostsFile=known_hosts deploy@127.0.0.1"
    )


def test_a_connection_that_is_refused_leaves_nothing_open(server: Any, tmp_path: Path) -> None:
    """Unknown key, changed key, nobody let in: each would hold one of sshd's few places until its grace time ends."""
    before = set(threading.enumerate())
    good = server.address(server.port)
    (tmp_path / "changed").write_text(f"[{good.host}]:{server.port} ssh-ed25519 {ED25519}\n")
    for refused, says in (
        (replace(good, known_hosts=(str(tmp_path / "nobody"),)), "is not known"),
        (replace(good, known_hosts=(str(tmp_path / "changed"),)), "has CHANGED"),
        (replace(good, user="nobody-of-this-name"), "was not let in"),
    ):
        with pytest.raises(LinkLost, match=says):
            connect(refused, "true")
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_a_changed_key_is_told_with_the_line_that_holds_the_old_one(server: Any, tmp_path: Path) -> None:
    """By the name of that line, port included, and in the file of several that has it."""
    files = (tmp_path / "absent", tmp_path / "a file")
    files[1].write_text(f"[127.0.0.1]:{server.port} ssh-ed25519 {ED25519}\n")
    with pytest.raises(LinkLost) as lost:
        connect(replace(server.address(server.port), known_hosts=tuple(map(str, files))), "true")
    assert lost.value.next_step.endswith(f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f '{files[1]}'")


class Mute(paramiko.ServerInterface):
    """Lets anybody in, opens a session, and never answers what it is asked to start: an sshd that was stopped."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.asked.set()
        self.over.wait(60)
        return False


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[tuple[Mute, Address]]:
    """Give such a server, and the address of it with a key that it takes and its own key known."""
    key, served = paramiko.ECDSAKey.generate(), Mute()
    key.write_private_key_file(str(tmp_path / "id"))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")

    def serve() -> None:
        with contextlib.suppress(OSError, paramiko.SSHException, EOFError):
            transport = paramiko.Transport(listener.accept()[0])
            transport.add_server_key(key)
            transport.start_server(server=served)
            served.over.wait(60)
            transport.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    known = (str(tmp_path / "known"),)
    yield served, Address("127.0.0.1", port, "deploy", str(tmp_path / "id"), known, connect_s=2, auth_s=5)
    served.over.set()
    listener.close()
    thread.join(ENDS_WITHIN_S)


def test_a_host_that_never_starts_a_command_is_given_up(mute: tuple[Mute, Address]) -> None:
    """Paramiko alone would wait for ever."""
    with pytest.raises(LinkLost, match="did not start a command: no answer in 2 s") as lost:
        connect(mute[1], "true")
    assert lost.value.next_step.startswith("ssh -p ")


def opening(pipe: SshPipe) -> tuple[threading.Thread, list[str]]:
    """Open a pipe as a worker does; give its thread, and why the host was lost once it is."""
    ended: list[str] = []

    def run() -> None:
        try:
            pipe.open()
        except LinkLost as lost:
            ended.append(lost.why)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended


def test_a_pipe_that_is_being_opened_can_be_closed(mute: tuple[Mute, Address]) -> None:
    """Ctrl-C while a host does not answer: the worker that waits for it comes back."""
    served, address = mute
    pipe = SshPipe(replace(address, connect_s=60), "true")
    thread, ended = opening(pipe)
    assert served.asked.wait(30)
    pipe.close()
    thread.join(ENDS_WITHIN_S)
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("host", "identity"),
    [("web..example", None), ("a" * 64, None), ("127.0.0.1", "binary"), ("127.0.0.1", "absent"), ("127.0.0.1", "text")],
)
def test_what_cannot_even_be_tried_is_an_error_of_that_host(tmp_path: Path, host: str, identity: str | None) -> None:
    """No traceback, no other try: a name that is none, a key file that holds none or is not there."""
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "text").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n-----END OPENSSH PRIVATE KEY-----\n")
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(LinkLost) as lost:
        port = silent.getsockname()[1]
        key = str(tmp_path / identity) if identity else None
        connect(Address(host, port, "deploy", key, connect_s=1, auth_s=1), "true")
    assert time.monotonic() - began < 10
    assert lost.value.reached is False
    assert lost.value.next_step


def test_closing_between_two_tries_is_the_end_of_them() -> None:
    """Ctrl-C has said that hosts are let go: none may be started after it."""
    came = list[int]()
    with socket.create_server(("127.0.0.1", 0)) as dropping:

        def drop() -> None:
            with contextlib.suppress(OSError):
                while True:
                    dropping.accept()[0].close()
                    came.append(1)

        threading.Thread(target=drop, daemon=True).start()
        pipe = SshPipe(Address("127.0.0.1", dropping.getsockname()[1], "deploy", connect_s=5, auth_s=5), "true")
        thread, ended = opening(pipe)
        deadline = time.monotonic() + 30
        while not came and time.monotonic() < deadline:
            time.sleep(0.01)
        pipe.close()
        thread.join(ENDS_WITHIN_S)
        tries = len(came)
        time.sleep(2.5)
    assert ended == ["closed"]
    assert len(came) == tries < 3
