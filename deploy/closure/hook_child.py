"""A program run by the target's Python in a sealed child: asks one sdist's build backend what else it needs.

``argv``: SOURCE_FOLDER ENVIRONMENT_FOLDER ANSWER_FILE BACKEND [BACKEND_PATH...]. Calls PEP 517's
``get_requires_for_build_wheel`` and writes its answer to ANSWER_FILE as a JSON list; a backend without the hook
needs nothing more. Standard library only, Python 3.8 and newer; output of the backend is not the answer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main(argv: list[str]) -> None:
    """Ask and write down the answer; whatever the backend raises ends the child."""
    source, environment, answer, backend, *backend_path = argv
    os.chdir(source)
    sys.path[:0] = [str(Path(source, part)) for part in backend_path] + [environment]
    module, _, attribute = backend.partition(":")
    found: object = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    hook = getattr(found, "get_requires_for_build_wheel", None)
    # setup.py scripts read sys.argv; the backend sets its own.
    sys.argv[:] = ["setup.py"]
    needs = [] if hook is None else list(hook(None))
    Path(answer).write_text(json.dumps([str(need) for need in needs]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
