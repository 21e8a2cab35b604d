"""Asks sudo(8) beforehand what it would refuse, so that a deploy does not find out after the switch."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import Any, List, Mapping, NamedTuple, Optional

from .children import Command, environment
from .layout import user_name
from .session import Session

_SHELL = frozenset("|&;<>()$`\\\"'*?[]#~=%{}\n")
"""What makes a text more than plain words: then nobody but the shell knows what it runs."""
_ASK_S = 20.0


def refusals(session: Session, operator: Mapping[str, Any]) -> List[str]:
    """Every command of the operator's settings that sudo says it would not run, with what root must do.

    Only plain ``sudo -n [-u USER] [--] PROGRAM ...`` is judged, and only a no counts: a slow sudo says nothing. One
    that wants a password to answer has nothing that this user may run without.
    """
    found: List[str] = []
    health: Mapping[str, Any] = operator.get("health") or {}
    for command in (operator.get("restart"), operator.get("stop"), health.get("command")):
        asked = _asked_of_sudo(command["run"]) if command else None
        if asked is not None and _says_no(session, asked):
            wanted = shlex.join(asked.words)
            program = shutil.which(asked.words[0], path=environment()["PATH"]) or asked.words[0]
            rule = "%s ALL=(%s) NOPASSWD: %s" % (user_name(), asked.user, shlex.join([program, *asked.words[1:]]))
            mend = "as root, in a file of /etc/sudoers.d: %s" % rule
            found.append("sudo does not let %s run `%s` without a password (%s)" % (user_name(), wanted, mend))
    return found


class _Asked(NamedTuple):
    sudo: str
    user: str
    words: List[str]


def _asked_of_sudo(run: Any) -> Optional[_Asked]:
    """What a command wants of sudo; None where it is no plain call of it."""
    if isinstance(run, str):
        if _SHELL & set(run):
            return None
        words = run.split()
    else:
        words = [str(word) for word in run]
    if not words or os.path.basename(words[0]) != "sudo" or shutil.which(words[0], path=environment()["PATH"]) is None:
        return None
    sudo, user, rest = words[0], "root", words[1:]
    while rest and rest[0].startswith("-"):
        if rest[0] == "-u" and len(rest) > 1:
            user, rest = rest[1], rest[2:]
        elif rest[0] in ("-n", "--"):
            rest = rest[1:]
        else:
            return None
    return _Asked(sudo, user, rest) if rest else None


def _says_no(session: Session, asked: _Asked) -> bool:
    words = [asked.sudo, "-n", "-l", "-u", asked.user, "--", *asked.words]
    finished = session.children().run(Command(words, "/", environment(), _ASK_S, "hook", "sudo -l"))
    unclear = finished.timed_out or "usage:" in finished.output
    return finished.code == 1 and not unclear
