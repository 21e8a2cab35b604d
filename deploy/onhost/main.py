"""Entry of the host program: ``serve ROOT FD`` talks to the control side, ``child FD`` becomes a child."""

from __future__ import annotations

import sys


def main() -> None:
    """Dispatch on the first word. The loader and ``children`` are the only callers."""
    word, arguments = sys.argv[1], sys.argv[2:]
    if word == "child":
        from .launcher import run

        run(int(arguments[0]))
    elif word == "serve":
        from .serve import serve

        serve(arguments[0], int(arguments[1]))
    else:
        sys.exit("sealed-deploy host program: unknown word %r" % word)
