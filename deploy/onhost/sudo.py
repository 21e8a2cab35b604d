"""Asks sudo(8) beforehand what it would refuse, so that a deploy does not find out after the switch."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import Any, List, Mapping, Optional

from .children import Command, environment
from .layout import user_name
from .session import Session

_SHELL = frozenset("|&;<>()$`\\\"'*?[]#~=%{}\n")
"""What makes a text more than plain words: then nobody but the shell knows what it runs."""
_ASK_S = 20.0


def refusals(session: Session, operator: Mapping[str, Any]) -> List[str]:
    """Every command of the operator's settings that needs sudo and would not get it, with what root must do."""
    found: List[str] = []
    health: Mapping[str, Any] = operator.get("health") or {}
    for command in (operator.get("restart"), operator.get("stop"), health.get("command")):
        words = _asked_of_sudo(command["run"]) if command else None
        if words is None:
            continue
        wanted = shlex.join(word for word in words if word not in ("-n", "--"))
        if shutil.which("sudo", path=environment()["PATH"]) is None:
            found.append("`sudo %s`: sudo is not installed on this host" % wanted)
        elif not _allows(session, words):
            mend = "as root, in a file of /etc/sudoers.d: %s ALL=(%s) NOPASSWD: %s" % _rule(words)
            found.append("sudo does not let %s run `%s` without a password (%s)" % (user_name(), wanted, mend))
    return found


def _asked_of_sudo(run: Any) -> Optional[List[str]]:
    """The words behind ``sudo``, options first, of a plain ``sudo -n [-u USER] COMMAND``; None for anything else."""
    if isinstance(run, str):
        if _SHELL & set(run):
            return None
        words = run.split()
    else:
        words = [str(word) for word in run]
    return words[1:] if len(words) > 1 and os.path.basename(words[0]) == "sudo" else None


def _allows(session: Session, words: List[str]) -> bool:
    asked = ["sudo", "-n", "-l", *(word for word in words if word != "-n")]
    finished = session.children().run(Command(asked, "/", environment(), _ASK_S, "hook", "sudo -l"))
    return finished.ok


def _rule(words: List[str]) -> tuple[str, str, str]:
    user, rest = "root", [word for word in words if word not in ("-n", "--")]
    if rest[:1] == ["-u"]:
        user, rest = rest[1], rest[2:]
    program = shutil.which(rest[0], path=environment()["PATH"]) or rest[0]
    return user_name(), user, shlex.join([program, *rest[1:]])
