"""The seal: no internet socket for a sealed child or anything it starts, by any door; everything else still works."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
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


def test_a_pair_of_datagram_sockets_is_refused(session: Session) -> None:
    """Either of the two could send to the name of any socket outside: a log daemon would carry it on."""
    code = (
        f"{PROBE}for kind in (socket.SOCK_DGRAM, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.SOCK_RAW):\n"
        "    try: socket.socketpair(socket.AF_UNIX, kind); print('opened')\n"
        "    except OSError as error: print(errno.errorcode[error.errno])"
    )
    assert run(session, code).output.split() == ["ENETUNREACH"] * 3


REWRITE = """
import os
for name in os.listdir("/proc/self/fd"):
    try:
        if "memfd:onhost" in os.readlink("/proc/self/fd/" + name):
            os.ftruncate(os.open("/proc/self/fd/" + name, os.O_RDWR), 0)
            print("rewritten")
    except OSError:
        pass
print(sorted(int(name) for name in os.listdir("/proc/self/fd")))
"""


def test_a_child_holds_nothing_of_the_program_that_started_it(session: Session) -> None:
    """Every later child starts from that file before it is sealed: who could write it would be outside, or root."""
    output = run(session, REWRITE).output
    assert "rewritten" not in output
    assert output.splitlines()[-1] == "[0, 1, 2, 3]"  # 3 is the folder being listed


def test_the_program_in_memory_cannot_be_changed_by_anybody(session: Session, program_fd: int) -> None:
    """Not even by who holds it, nor through /proc: it carries the kernel's own seals."""
    path = f"/proc/self/fd/{program_fd}"
    for attempt in (
        lambda: os.write(program_fd, b"x"),
        lambda: os.truncate(path, 0),
        lambda: os.truncate(path, 1 << 30),
    ):
        with pytest.raises(PermissionError):
            attempt()
    assert run(session, "print('still')").output == "still\n"


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


def test_what_a_child_started_and_asked_is_told_though_it_swallowed_the_refusal(session: Session) -> None:
    """By its command line and how often; the command's own asking is not, since pip does so even with --no-index."""
    inner = (
        "import socket\nfor _ in range(2):\n    try: socket.socket(socket.AF_INET6)\n"
        "    except OSError as error: print(error.errno, flush=True)"
    )
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', {inner!r}])"
    finished = run(session, outer)
    assert finished.ok
    assert finished.output.split() == [str(errno.ENETUNREACH)] * 2
    (attempt,) = finished.attempts
    assert attempt.startswith("python")
    assert attempt.endswith("(2 times)")
    assert run(session, inner).attempts == ()


def test_a_child_that_asks_for_no_network_is_not_told_of(session: Session) -> None:
    """Pairs, netlink and local sockets are no attempt to get out."""
    code = (
        "import socket, subprocess, sys\nsocket.socketpair()\nsocket.if_nameindex()\n"
        "if not sys.argv[1:]: subprocess.run([sys.executable, '-I', '-c', 'import socket; socket.socketpair()'])"
    )
    finished = run(session, code)
    assert (finished.code, finished.attempts) == (0, ())


def test_a_daemon_that_outlives_its_watch_is_refused_by_the_kernel(session: Session, tmp_path: Path) -> None:
    """Nobody answers it any more, so the call fails; it never waits for ever and never gets through."""
    late = (
        f"import os, socket, sys, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.02)\n"
        "try: socket.socket(socket.AF_INET)\n"
        f"except OSError as error: open({str(tmp_path / 'late')!r}, 'w').write(str(error.errno))"
    )
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-I', '-c', {late!r}], start_new_session=True)"
    kind = Command([sys.executable, "-I", "-c", code], "/", environment(), 60, "hook", "daemon", sealed=True)
    assert session.children().run(kind).ok
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 20
    while not (tmp_path / "late").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "late").read_text() == str(errno.ENOSYS)


@pytest.mark.skipif(platform.machine() not in seal._MACHINES, reason="no seccomp filter for this machine")
def test_no_listener_of_ones_own_can_answer_instead(session: Session) -> None:
    """A process that outlives its watch could else install one, and let its own calls through."""
    number = seal._MACHINES[platform.machine()].seccomp
    code = (
        f"{PROBE}import struct\n"
        "code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))\n"
        "class P(ctypes.Structure): _fields_ = [('n', ctypes.c_ushort), ('f', ctypes.c_void_p)]\n"
        "p = P(1, ctypes.cast(code, ctypes.c_void_p)); libc = ctypes.CDLL(None, use_errno=True)\n"
        f"for flags in (8, 9, 0): print(libc.syscall({number}, 1, flags, ctypes.byref(p)), ctypes.get_errno())"
    )
    refused = f"-1 {errno.EBUSY}"
    assert run(session, code).output.splitlines()[:2] == [refused, refused]
    assert run(session, code).output.splitlines()[2].startswith("0 ")


def test_where_the_kernel_has_no_listener_to_give_the_filter_refuses_by_itself() -> None:
    """A process has one listener at most, so the second filter of one cannot be watched."""
    code = (
        "import os, socket, sys; sys.path.insert(0, sys.argv[1])\n"
        "from deploy.onhost import seal\n"
        "first, second = seal.deny_network(watched=True), seal.deny_network(watched=True)\n"
        "try: socket.socket(socket.AF_INET)\n"
        "except OSError as error: print(first is not None, second, error.errno)"
    )
    source = str(Path(seal.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"True None {errno.ENETUNREACH}\n", done.stderr


def test_an_unknown_machine_is_refused_not_half_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numbers for its system calls there is no filter; nothing was applied to this process."""
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(seal.SealUnavailable, match="sparc64"):
        seal.deny_network()
    assert "NoNewPrivs:\t0" in Path("/proc/self/status").read_text()
