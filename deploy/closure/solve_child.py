"""A program that runs a given pip for a target that need not be this machine. Started by ``closure.solve``.

``argv``: PIP_FOLDER MARKERS SEALED WORD... with MARKERS the target's marker environment (PEP 508), SEALED the words
that seal a command put after them, both as JSON. pip judges markers by the interpreter that runs it, and its
``--platform`` and ``--python-version`` change tags alone and insist on wheels; here both are the target's, and versions
without a wheel are still seen. What such a version needs its build backend tells, and pip runs that behind the seal.
Python 3.8 and newer.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(folder: str, markers: str, sealed: str, words: list[str]) -> int:
    """Run pip with the target's markers and give its exit code."""
    sys.path.insert(0, folder)
    from pip._internal.cli import cmdoptions
    from pip._internal.cli.main import main as pip
    from pip._internal.utils import subprocess as started
    from pip._vendor.packaging import markers as judged

    plain: Any = started.runner_with_spinner_message
    seal: list[str] = json.loads(sealed)

    def runner(message: str) -> Any:
        run = plain(message)

        def hook(words: list[str], *args: Any, **more: Any) -> None:
            run([*seal, *words], *args, **more)

        return hook

    # What starts the hooks of build backends, and nothing else; whoever uses it is imported later, by pip's command.
    started.runner_with_spinner_message = runner
    environment: dict[str, str] = json.loads(markers)
    judged.default_environment = lambda: dict(environment)  # pyright: ignore[reportAttributeAccessIssue]
    cmdoptions.check_dist_restriction = _anything_goes
    return pip(words)


def _anything_goes(*_: object, **__: object) -> None:
    """Refuse no combination of options: nothing is installed."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
