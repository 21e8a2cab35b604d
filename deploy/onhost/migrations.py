"""Which migrations a release knows and which are applied: by its own command, and as the journal last heard.

The command is the hook point ``migrations`` (deploy.wire.migrations says what it prints). It is asked before a deploy
switches, and before a rollback that would go back across something applied. All that a deploy makes live counts as
applied until a release says otherwise: a rollback can be decided without asking anybody (docs/adr/0012).
"""

from __future__ import annotations

import shlex
from typing import Any, Dict, List, Optional, Sequence

from deploy.wire import commands, migrations
from deploy.wire.commands import Hook
from deploy.wire.manifest import Manifest
from deploy.wire.migrations import Listing
from deploy.wire.names import ReleaseId

from . import hooks, marker
from .children import CUT
from .hooks import Configured, Context
from .marker import NotARelease
from .session import Session, StepFailed

POINT = "migrations"


def answer(session: Session, context: Context, release: ReleaseId, request: Dict[str, Any]) -> Dict[str, Any]:
    """What the control side is told: what a release lists, or why it does not; what is recorded; how to undo."""
    told: Dict[str, Any] = {"known": None, "pending": None, "failed": None, "log": []}
    try:
        listing = None if request["texts"] == [] else ask(session, context, release, request["texts"])
        told.update(listing.to_json() if listing else {})
    except (StepFailed, NotARelease) as failure:
        told.update(failed=str(failure), log=failure.log if isinstance(failure, StepFailed) else [])
    try:
        told["undo"] = undo(session, context, request["undo"], request["target"])
    except NotARelease:  # the live one is damaged: no reason to stay with it
        told["undo"] = []
    return dict(told, recorded=recorded(session, release))


def recorded(session: Session, release: ReleaseId) -> Dict[str, Any]:
    """What the journal knows: of a release, of the live one (None: nothing recorded), and what may be applied."""
    history, current = session.book.history, session.layout.link_target(session.layout.current)
    live = history.known.get(current) if current else None
    return {"known": history.known.get(release), "current": live, "applied": list(history.applied)}


def ask(
    session: Session, context: Context, release: ReleaseId, texts: Optional[Sequence[str]] = None
) -> Optional[Listing]:
    """Run a release's commands (those of ``texts``, None: all) and read what they list; None where it has none.

    Raises StepFailed, NotARelease.
    """
    manifest = marker.read(session.layout, release).manifest
    found = commands.hooks_of(manifest.settings, POINT, context.verb, context.levels)
    listings = [_list(session, context, manifest, hook) for hook in found if texts is None or hook.text in texts]
    return migrations.union(listings) if listings else None


def record(
    session: Session, release: Optional[str], known: Optional[Sequence[str]], unapplied: Sequence[str]
) -> Dict[str, Any]:
    """Write down what was heard, shortly: the names where no release before knew the same, and what changed.

    There is nothing to answer.
    """
    history = session.book.history
    news: Dict[str, Any] = {"unapplied": [name for name in unapplied if name in history.applied]}
    if release and known is not None:
        same = [name for name, names in history.known.items() if names == list(known)]
        news.update({"release": release, **({"as": same[0]} if same else {"known": list(known)})})
    if news["unapplied"] or "release" in news:
        session.book.append("migrations", **news)
    return {}


def undo(session: Session, context: Context, names: Sequence[str], target: Sequence[str]) -> List[str]:
    """The commands that take migrations back on this host, in the live release; none where it is not Django that lists.

    In the order that undoes the app first that was migrated last.
    """
    current = session.layout.link_target(session.layout.current)
    if current is None:
        return []
    manifest = marker.read(session.layout, current).manifest
    lines: List[str] = []
    for hook in commands.hooks_of(manifest.settings, POINT, context.verb, context.levels):
        words = _words(hook)
        if "showmigrations" in words:
            manage = words[: words.index("showmigrations")]
            to = migrations.last_known(list(reversed(names)), target)
            lines += [_line(session, context, manifest, hook, [*manage, "migrate", *pair]) for pair in to.items()]
    return lines


def _words(hook: Hook) -> List[str]:
    """The words of a command that is no more than a program and its arguments, else none."""
    if not isinstance(hook.run, str):
        return list(hook.run)
    try:
        return [] if set(hook.run) & set("&|;<>$`()\n") else shlex.split(hook.run)
    except ValueError:
        return []


def _line(session: Session, context: Context, manifest: Manifest, hook: Hook, words: List[str]) -> str:
    """One line for a shell in the live release: its virtualenv, its variables; secrets are read where they lie."""
    root = str(session.layout.root)
    files = [str(session.layout.root / name) for name in manifest.settings["env_files"]]
    env = commands.environment_of(manifest.settings, context.levels)
    variables = ["%s=%s" % (name, shlex.quote(value)) for name, value in sorted(env.items())]
    parts = ["cd %s/current/src" % shlex.quote(root), "PATH=$PWD/../venv/bin:$PATH"]
    parts += ["set -a", *(". %s" % shlex.quote(file) for file in files), "set +a"] if files else []
    parts.append(" ".join([*variables, *map(shlex.quote, words)]))
    line = " && ".join(parts)
    return "sudo -u %s sh -c %s" % (hook.user, shlex.quote(line)) if hook.user else line


def _list(session: Session, context: Context, manifest: Manifest, hook: Hook) -> Listing:
    with session.step(POINT, hook.text):
        user = hook.user or hooks.unprivileged(session)
        command = Configured(hook.argv, POINT, hook.timeout_s, user, hook.sealed)
        finished, secrets = hooks.unredacted(session, context, manifest, command)
        cause = finished.cause()
        if finished.ok and finished.cut:
            cause = "it prints too much to be read: names alone, a line each"
        elif finished.ok:
            try:
                # Read before it is redacted: a secret such as DB_NAME=shop is part of many a name.
                return migrations.read(finished.output, leave_out={secret.reveal() for secret in secrets.values()})
            except ValueError as error:
                cause = str(error)
        log = hooks.redact(finished.output, secrets, cut=CUT).rstrip().splitlines()[-20:]
        raise StepFailed(POINT, "%s command `%s`: %s" % (POINT, hook.text, cause), "", log)
