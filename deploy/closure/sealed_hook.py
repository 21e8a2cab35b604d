"""A program that runs one build hook of the resolving pip sealed: ``closure.solve_child`` puts it before each.

``argv``: LIBRARY LIMITS WORD..., with LIMITS a JSON object ``{"read": [PATH, ...], "write": [PATH, ...]}`` for the seal
(``closure.sealed``). The hook keeps pip's environment but where an index is. What it prints is passed on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_TIMEOUT_S = 300.0


def main(library: str, limits: str, words: list[str]) -> int:
    """Run the hook and give its exit code."""
    sys.path.append(library)
    from deploy.closure import sealed

    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    try:
        done = sealed.run(
            words, env={**kept, **sealed.OFFLINE}, cwd=Path.cwd(), timeout_s=_TIMEOUT_S, **json.loads(limits)
        )
    except subprocess.TimeoutExpired:
        sys.stdout.write(f"the build backend did not answer within {_TIMEOUT_S:.0f} s\n")
        return 1
    sys.stdout.write(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
