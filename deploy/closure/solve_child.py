"""A program that runs a given pip for a target that need not be this machine. Started by ``closure.solve``.

``argv``: PIP_FOLDER MARKERS WORD... with MARKERS the target's marker environment (PEP 508) as JSON. pip judges markers
by the interpreter that runs it, and its ``--platform`` and ``--python-version`` change tags alone and insist on wheels;
here both are the target's, and versions without a wheel are still seen. Python 3.8 and newer.
"""

from __future__ import annotations

import json
import sys


def main(folder: str, markers: str, words: list[str]) -> int:
    """Run pip with the target's markers and give its exit code."""
    sys.path.insert(0, folder)
    from pip._internal.cli import cmdoptions
    from pip._internal.cli.main import main as pip
    from pip._vendor.packaging import markers as judged

    environment: dict[str, str] = json.loads(markers)
    judged.default_environment = lambda: dict(environment)  # pyright: ignore[reportAttributeAccessIssue]
    cmdoptions.check_dist_restriction = _anything_goes
    return pip(words)


def _anything_goes(*_: object, **__: object) -> None:
    """Refuse no combination of options: nothing is installed."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
