"""The seal: no internet socket for a sealed child or anything it starts, by any door; everything else still works."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import socket
import sys
from pathlib import Path

import pytest

from deploy.onhost import seal
from deploy.onhost.children import Command, Finished, environment
from deploy.onhost.session import Session

PROBE = "import ctypes, errno, socket, sys\n"
IO_URING = "libc = ctypes.CDLL(None, use_errno=True); fd = libc.syscall(425, 1, ctypes.create_string_buffer(200)); "
I386_SOCKET = """
import ctypes, mmap
# push rbx; eax = 359 (socket); ebx = AF_INET; ecx = SOCK_STREAM; edx = 0; int 0x80; pop rbx; ret
code = bytes.fromhex("53 b867010000 bb02000000 b901000000 31d2 cd80 5b c3")
page = mmap.mmap(-1, 4096, prot=7)
page.write(code)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
"""


def run(
    session: Session,
    code: str,
    *,
    sealed: bool = True,
    namespace: bool = False,
    uid: int | None = None,
    python: str = sys.executable,
) -> Finished:
    """Run Python as a child; by default behind seccomp alone, so that the first wall is what is tested."""
    return session.children().run(
        Command(
            [python, "-I", "-S", "-c", code],
            "/",
            environment(),
            60,
            "build",
            "probe",
            sealed=sealed,
            network_namespace=namespace,
            uid=uid,
            gid=uid,
        )
    )


def attempt(family: str, kind: str = "SOCK_STREAM") -> str:
    """Python that opens a socket and prints how that ended."""
    return (
        f"{PROBE}try:\n    socket.socket({family}, socket.{kind})\n    print('opened')\n"
        "except OSError as error:\n    print(errno.errorcode[error.errno])\n"
    )


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"])
@pytest.mark.parametrize("family", ["socket.AF_INET", "socket.AF_INET6"])
def test_internet_sockets_are_refused_as_if_there_were_no_network(session: Session, family: str, kind: str) -> None:
    """ENETUNREACH rather than a signal: pip itself opens one even with --no-index, and must go on."""
    assert run(session, attempt(family, kind)).output == "ENETUNREACH\n"


@pytest.mark.parametrize("family", ["socket.AF_PACKET", "40", "38", "21"])
def test_no_other_family_is_a_way_out(session: Session, family: str) -> None:
    """Packet sockets, vsock, kernel crypto, RDS: all but local ones are refused alike."""
    assert run(session, attempt(family, "SOCK_DGRAM")).output == "ENETUNREACH\n"


def test_the_same_probe_opens_a_socket_without_the_seal(session: Session) -> None:
    """So it is the seal that refuses, not this machine."""
    assert run(session, attempt("socket.AF_INET"), sealed=False).output == "opened\n"


def test_asking_the_kernel_for_interfaces_is_allowed(session: Session) -> None:
    """getifaddrs(3) uses netlink, and an empty network answers it."""
    assert run(session, attempt("socket.AF_NETLINK", "SOCK_DGRAM")).output == "opened\n"


def test_a_local_socket_is_refused(session: Session) -> None:
    """A bus, an agent or a container daemon of the same user would go out to the network on a build's behalf."""
    assert "opened" not in run(session, attempt("socket.AF_UNIX")).output


def test_pairs_and_pipes_still_carry_data(session: Session) -> None:
    """socketpair(2) is another call and names no network."""
    code = f"{PROBE}a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))"
    assert run(session, code).output == "b'x'\n"


def test_grandchildren_are_sealed_too(session: Session) -> None:
    """Also through a shell, another session and a fork: filters are inherited and cannot be taken off."""
    inner = attempt("socket.AF_INET").replace("'", '"')
    code = (
        "import os, subprocess, sys\n"
        f"code = {inner!r}\n"
        "argv = ['/bin/sh', '-c', 'setsid \"$0\" -I -S -c \"$1\"', sys.executable, code]\n"
        "sys.stdout.write(subprocess.run(argv, capture_output=True, text=True).stdout)\n"
    )
    assert run(session, code).output == "ENETUNREACH\n"


def test_io_uring_is_no_way_around(session: Session) -> None:
    """It could open sockets past the filter, so it does not exist in there."""
    assert run(session, f"{PROBE}{IO_URING}print(errno.errorcode[ctypes.get_errno()])").output == "ENOSYS\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the i386 and x32 ABIs are x86_64's")
def test_other_abis_of_the_machine_are_no_way_around(session: Session) -> None:
    """i386's socket has another number, by `int 0x80` from a 64-bit program; x32 marks its numbers with a bit."""
    unsealed = int(run(session, I386_SOCKET, sealed=False).output or "-1")
    if unsealed < 0:
        pytest.skip(f"this kernel runs no i386 calls at all (errno {-unsealed})")
    assert run(session, I386_SOCKET).output == f"{-errno.ENOSYS}\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is x86_64's")
def test_the_filter_answers_x32_numbers_itself(session: Session) -> None:
    """Even getpid under its x32 number is refused: ENOSYS whether or not the kernel knows x32."""
    code = f"{PROBE}libc = ctypes.CDLL(None, use_errno=True); print(libc.syscall(0x40000000 + 39), ctypes.get_errno())"
    assert run(session, code).output == f"-1 {errno.ENOSYS}\n"


def test_nothing_gains_privilege_inside(session: Session) -> None:
    """no_new_privs is set and seccomp filters are on, as the kernel shows them."""
    output = run(session, "print(open('/proc/self/status').read())").output
    assert "NoNewPrivs:\t1" in output
    assert "Seccomp:\t2" in output


def test_onhost_itself_stays_unsealed(session: Session) -> None:
    """It still asks health over TCP and runs `sudo -n` after any number of sealed builds."""
    run(session, "pass", namespace=True)
    with socket.socket(socket.AF_INET) as made:
        assert made.fileno() >= 0
    assert "NoNewPrivs:\t0" in Path("/proc/self/status").read_text()


def test_the_second_wall_is_an_empty_network(session: Session) -> None:
    """Where namespaces are allowed there is no interface but loopback, and files keep their owner's name."""
    here = Path("/proc/self/ns/net").readlink()
    code = "import os, socket; print(os.readlink('/proc/self/ns/net'), os.geteuid(), socket.if_nameindex())"
    output = run(session, code, namespace=True).output
    if str(here) in output:
        pytest.skip("network namespaces are not allowed here")
    assert output.split(None, 1)[1] == f"{os.geteuid()} [(1, 'lo')]\n"


def test_the_seal_needs_no_privilege(session: Session) -> None:
    """As a plain user the sockets are refused just the same."""
    if os.geteuid() != 0:
        pytest.skip("the other tests ran as a plain user already")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if python is None:
        pytest.skip("no Python here that every user may run")
    code = "import os; print(os.geteuid())\n" + attempt("socket.AF_INET")
    assert run(session, code, uid=65534, python=python).output == "65534\nENETUNREACH\n"


def test_an_unknown_machine_is_refused_not_half_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numbers for its system calls there is no filter; nothing was applied to this process."""
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(seal.SealUnavailable, match="sparc64"):
        seal.deny_network()
    assert "NoNewPrivs:\t0" in Path("/proc/self/status").read_text()
