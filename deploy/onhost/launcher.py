"""The re-executed child: waits until onhost has written its pid down, then becomes the command it was made for.

Contract. argv: ``child FD``. FD gives one JSON object and end of file: ``argv``, ``cwd``, ``env``, ``sealed`` (bool),
``network_namespace`` (bool), ``watch`` (a socket that gets the seal's listener, or null), ``confine`` (folders:
``hide``, ``read``, ``write``, or null), ``parent`` (pid), ``uid``, ``gid`` (or null). An empty FD means that onhost
died before the journal named this child: it exits without having run anything. Exit 126: the command could not be
started; 125: the seal could not be put on. Both say why on stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, Dict

from . import landlock, seal, watch

CANNOT_SEAL, CANNOT_START = 125, 126


def run(spec_fd: int) -> None:
    """Read the specification and exec(3) the command. Never returns."""
    with open(spec_fd, "rb") as file:
        text = file.read()
    if not text:
        os._exit(CANNOT_START)
    spec: Dict[str, Any] = json.loads(text.decode("utf-8"))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.umask(0o022)
    if spec["gid"] is not None:
        os.setgroups([])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    if spec["sealed"]:
        _seal(spec)
    # After setuid and unshare, which clear it (prctl(2)); then look whether the parent was already gone.
    seal.prctl(seal.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec["parent"]:
        os._exit(CANNOT_START)
    _close_all()
    try:
        os.chdir(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        sys.stderr.write("cannot start %s: %s\n" % (spec["argv"][0], error))
        sys.stderr.flush()
        os._exit(CANNOT_START)


def _close_all() -> None:
    """Leave the command its three standard descriptors and nothing of this program's: not even its own file."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass  # the one that listed


def _seal(spec: Dict[str, Any]) -> None:
    if spec["network_namespace"]:
        seal.enter_empty_network()
    try:
        if spec["confine"]:
            landlock.confine(**spec["confine"])
        listener = seal.deny_network(watched=spec["watch"] is not None)
    except (seal.SealUnavailable, OSError) as error:
        sys.stderr.write("cannot seal: %s\n" % error)
        sys.stderr.flush()
        os._exit(CANNOT_SEAL)
    if listener is not None:
        watch.hand_over(spec["watch"], listener)
    elif spec["watch"] is not None:
        os.close(spec["watch"])
