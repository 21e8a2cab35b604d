"""The re-executed child: waits until onhost has written its pid down, then becomes the command it was made for.

Contract. argv: ``child FD``. FD gives one JSON object and end of file: ``argv``, ``cwd``, ``env``, ``sealed`` (bool),
``network_namespace`` (bool), ``parent`` (pid), ``uid``, ``gid`` (or null). An empty FD means that onhost died before
the journal named this child: it exits without having run anything. Exit 126: the command could not be started;
125: the seal could not be put on. Both say why on stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, Dict

from . import seal

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
        _seal(network_namespace=bool(spec["network_namespace"]))
    # After setuid and unshare, which clear it (prctl(2)); then look whether the parent was already gone.
    seal.prctl(seal.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec["parent"]:
        os._exit(CANNOT_START)
    try:
        os.chdir(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        sys.stderr.write("cannot start %s: %s\n" % (spec["argv"][0], error))
        sys.stderr.flush()
        os._exit(CANNOT_START)


def _seal(*, network_namespace: bool) -> None:
    if network_namespace:
        seal.enter_empty_network()
    try:
        seal.deny_network()
    except seal.SealUnavailable as error:
        sys.stderr.write("cannot seal: %s\n" % error)
        sys.stderr.flush()
        os._exit(CANNOT_SEAL)
