"""Cut this process and all it starts off from the network, irrevocably, without privilege, before it runs foreign code.

Applied only in the re-executed child (``launcher``), never in onhost: no-new-privs and seccomp are inherited and cannot
be taken back. seccomp(2) filters, prctl(2), unshare(2) by ctypes; x86_64 and aarch64.

socket() answers ENETUNREACH for every family but AF_NETLINK: ERRNO rather than KILL, since pip itself opens an inet
socket even with --no-index. AF_UNIX is denied too: a bus or an agent of the same user would go out for it; pipes and
socketpair() stay, but for datagrams, since one of a pair could send to any other socket's name. io_uring could open
sockets past the filter, ptrace and its like could make another process do it: denied; so is every system call of
another ABI of the same machine (i386, x32), numbered differently; and so is a listener of its own (seccomp(2)), by
which a process whose watch has ended could answer its own calls, and let them through.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import List, NamedTuple, Optional, Tuple

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_SET_MODE_FILTER, _FILTER_FLAG_NEW_LISTENER = 1, 1 << 3
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16

# Classic BPF (linux/filter.h): load word, and, jump if equal / greater or equal / any bit set, return.
_LD, _AND, _JEQ, _JGE, _JSET, _RET = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _USER_NOTIF = 0x7FFF0000, 0x00050000, 0x7FC00000
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_TYPE_MASK, _SOCK_STREAM, _SOCK_SEQPACKET = 0xF, 1, 5


class _Numbers(NamedTuple):
    """What one machine calls things: its AUDIT_ARCH and numbers of system calls."""

    arch: int
    socket: int
    socketpair: int
    seccomp: int
    others: Tuple[int, int]
    """ptrace(2), process_vm_writev(2)."""
    x32: Optional[int]
    """The first number of the x32 ABI."""


_MACHINES = {
    "x86_64": _Numbers(0xC000003E, 41, 53, 317, (101, 311), 0x40000000),
    "aarch64": _Numbers(0xC00000B7, 198, 199, 277, (117, 271), None),
}
_IO_URING_SETUP, _PIDFD_GETFD = 425, 438


class SealUnavailable(Exception):
    """Raised where kernel or machine offer no way to deny sockets to an unprivileged process tree."""


def prctl(option: int, value: int) -> None:
    """Set a property of this process (prctl(2)). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def deny_network(*, watched: bool = False) -> Optional[int]:
    """Deny sockets to this process and all its descendants. Raises SealUnavailable; never half applied.

    ``watched`` asks for a listener (seccomp_unotify(2)) that is told of each internet socket asked for and must refuse
    it: its descriptor is returned, or None where this kernel has none to give and refuses by itself.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise SealUnavailable("no seccomp filter for %s" % machine)
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    except OSError as error:
        raise SealUnavailable("no_new_privs: %s" % error) from error
    listener = _install(machine, watched=True) if watched else -1
    if listener >= 0:
        return listener
    if _install(machine, watched=False) < 0:
        raise SealUnavailable("seccomp: %s" % os.strerror(ctypes.get_errno()))
    return None


def _install(machine: str, *, watched: bool) -> int:
    """Install the filter by seccomp(2): the listener's descriptor, 0 without one, or -1 with errno set."""
    numbers = _MACHINES[machine]
    program = _program(numbers, watched=watched)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    argument = Program(len(program), ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _FILTER_FLAG_NEW_LISTENER if watched else 0
    return int(libc.syscall(numbers.seccomp, _SET_MODE_FILTER, ctypes.c_uint(flags), ctypes.byref(argument)))


def enter_empty_network() -> bool:
    """Move into a network namespace with nothing in it, where that is allowed; tell whether it was.

    A second wall behind seccomp. A user namespace is asked for only by an unprivileged process: root inside one
    could no longer write other users' files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        return libc.unshare(_CLONE_NEWNET) == 0
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    try:
        # Keep our own ids inside, so that files keep their owner's name (user_namespaces(7)).
        _put("/proc/self/setgroups", "deny")
        _put("/proc/self/uid_map", "%d %d 1" % (uid, uid))
        _put("/proc/self/gid_map", "%d %d 1" % (gid, gid))
    except OSError:
        return True  # still inside, as nobody; the caller runs a canary before relying on anything
    return True


def _put(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _program(numbers: _Numbers, *, watched: bool) -> List[Tuple[int, int, int, int]]:
    deny = _ERRNO | errno.ENETUNREACH
    body: List[Tuple[int, int, int, int]] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, numbers.arch),
        (_RET, 0, 0, _ERRNO | errno.ENOSYS),
        (_LD, 0, 0, _NR),
    ]
    if numbers.x32 is not None:
        body += [(_JGE, 0, 1, numbers.x32), (_RET, 0, 0, _ERRNO | errno.ENOSYS)]
    for number in (_IO_URING_SETUP, _PIDFD_GETFD, *numbers.others):
        body += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ERRNO | errno.ENOSYS)]
    body += [
        (_JEQ, 0, 4, numbers.seccomp),
        (_LD, 0, 0, _ARG1),
        (_JSET, 0, 1, _FILTER_FLAG_NEW_LISTENER),
        (_RET, 0, 0, _ERRNO | errno.EBUSY),
        (_RET, 0, 0, _ALLOW),
        (_JEQ, 0, 6, numbers.socketpair),
        (_LD, 0, 0, _ARG1),
        (_AND, 0, 0, _TYPE_MASK),
        (_JEQ, 2, 0, _SOCK_STREAM),
        (_JEQ, 1, 0, _SOCK_SEQPACKET),
        (_RET, 0, 0, deny),
        (_RET, 0, 0, _ALLOW),
        (_JEQ, 1, 0, numbers.socket),
        (_RET, 0, 0, _ALLOW),
        (_LD, 0, 0, _ARG0),
        (_JEQ, 0, 1, _AF_NETLINK),
        (_RET, 0, 0, _ALLOW),
        (_JEQ, 1, 0, _AF_INET),
        (_JEQ, 0, 1, _AF_INET6),
        (_RET, 0, 0, _USER_NOTIF if watched else deny),
        (_RET, 0, 0, deny),
    ]
    return body
