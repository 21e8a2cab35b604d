"""``python -m deploy init``: the one command that is no Fabric task, because it writes the fabfile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy import __version__
from deploy.errors import DeployError
from deploy.scaffold import init

FILL = "fill requirements/app.in, then: fab vendor.lock && fab vendor.fetch"
ADOPT = "read requirements/app.in, then: fab vendor.adopt {source}"
NEXT = """\
next:
  1. {first}
  2. read fabric.yaml; git add . && git commit
  3. git tag -a v1.0 -m "first" && fab sandbox.up && fab deploy
  4. fab status; fab --list"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy", description="Everything else is a Fabric task: fab --list"
    )
    parser.add_argument("--version", action="version", version=f"sealed-deploy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    scaffold = commands.add_parser(
        "init", help="write the first files of a project into this folder; overwrites nothing"
    )
    scaffold.add_argument("--app", help="the application's name; default: the folder's")
    given = parser.parse_args(arguments)
    try:
        done = init(Path.cwd(), app=given.app)
    except DeployError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    for path in done.written:
        print(f"wrote {path}")
    for path in done.kept:
        print(f"kept {path}: it was there")
    for text in done.told:
        print(text)
    print(NEXT.format(first=ADOPT.format(source=done.source) if done.source else FILL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
