"""Ask a sandbox host's supervisor for one thing: ``python -I -S ask.py HOST_DIRECTORY restart|stop|status``.

Also a file to be run by path, so it imports nothing but the standard library: it is what ``bin/restart`` executes on
the host. Exits 0 with the answer on stdout, or 1 with the reason and the end of the service's log on stderr.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any


def ask(directory: str, verb: str) -> dict[str, Any]:
    """Send one request and wait for its answer, however long that takes. Raises OSError where nobody supervises.

    The socket is reached through a descriptor of its folder: a socket's name is limited to 107 bytes, unix(7).
    """
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{folder}/supervisor.sock")
            client.sendall(verb.encode("ascii") + b"\n")
            with client.makefile(encoding="ascii") as answers:
                return json.loads(answers.readline() or '{"ok": false, "why": "the supervisor ended"}')
    finally:
        os.close(folder)


def main(directory: str, verb: str) -> int:
    """Ask, print, and say by the exit status whether it is done."""
    try:
        answer = ask(directory, verb)
    except OSError as error:
        answer = {"ok": False, "why": f"no supervisor here ({error.strerror}); run: fab sandbox.up"}
    if answer.pop("ok"):
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    sys.stderr.write(f"{answer['why']}\n{answer.get('log', '')}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
