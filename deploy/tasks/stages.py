"""Which stages a project's fabric.yaml names, read cheaply for ``fab production deploy``; validates no setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from deploy.errors import Refused
from deploy.settings import yaml_text

FILE_NAMES = ("fabric.yaml", "fabric.yml")
"""In the order Fabric looks for them."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def stage_names(project: Path) -> tuple[str, ...]:
    """Name the stages that can be words on the command line, in the order of the file.

    A stage whose name is no such word (dots) is reached by ``--stage`` only. Settings that parse but make no sense
    give no names here: they are reported, all at once, by ``deploy.settings``. Raises Refused where the file cannot
    be parsed at all, because Fabric would otherwise die of it with a traceback.
    """
    path = next((project / name for name in FILE_NAMES if (project / name).is_file()), None)
    if path is None:
        return ()
    try:
        value: Any = yaml_text.load(path.read_text(encoding="utf-8"))
    except (yaml_text.BadYaml, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(value, dict | None):
        raise _unreadable(path, "the file must hold a mapping with the key `deploy`")
    stages = as_mapping(as_mapping(value).get("deploy")).get("stages")
    names = [str(name) for name in as_mapping(stages)]
    return tuple(name for name in names if _WORD.fullmatch(name))


def as_mapping(value: Any) -> Mapping[object, Any]:
    """Take unvalidated settings as a mapping; what is none is an empty one."""
    return cast("Mapping[object, Any]", value) if isinstance(value, dict) else {}


def _unreadable(path: Path, why: str) -> Refused:
    return Refused(f"nothing was contacted: {path.name} cannot be read", why, f"correct {path} and run again")
