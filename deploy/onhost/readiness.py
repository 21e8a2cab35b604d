"""Whether a release could be switched to: every byte, its interpreter, what it shares, its probes. Changes nothing.

All that is wrong is found, not the first of it, and of each finding it is known whether staging anew would mend it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from deploy.wire.names import ReleaseId

from . import hooks, marker, migrations
from .hooks import Configured, Context
from .marker import NotARelease, Release
from .session import Session, StepFailed, capped

AGAIN = "deploy its tag: what is not intact is staged anew"
INTERPRETER_S = 60
_RUNS = "import encodings, zlib, sys; now = '%d.%d' % sys.version_info[:2]; sys.exit(now != sys.argv[1] and now)"
"""Exit status 0 where it runs and still is the Python that the release was built for."""


class Problem(NamedTuple):
    """One thing that keeps a release from being switched to. ``mends``: staging it anew does away with it."""

    cause: str
    next_step: str
    mends: bool
    log: List[str]

    def to_json(self) -> Dict[str, Any]:
        return dict(capped(self.cause, self.next_step, self.log), mends=self.mends)


def answer(session: Session, context: Context, release: ReleaseId) -> Dict[str, Any]:
    """What the control side is told: every problem, the settings that the marker holds, what is known of migrations."""
    found, problems = look(session, context, release)
    settings: Dict[str, Any] = dict(found.manifest.settings) if found else {}
    told = {"problems": [problem.to_json() for problem in problems], "settings": settings}
    return dict(told, migrations=migrations.recorded(session, release))


def look(session: Session, context: Context, release: ReleaseId) -> Tuple[Optional[Release], List[Problem]]:
    """Everything that keeps a release from being switched to. Its own code runs only where every byte is right.

    The probes of one that is live are left out: health is asked of it, and nothing is switched.
    """
    try:
        found, wrong = intact(session, release)
    except StepFailed as failure:
        return None, [Problem(failure.cause, failure.next_step, mends=False, log=failure.log)]
    problems = [Problem(text, AGAIN, mends=True, log=[]) for text in wrong]
    if found is not None:
        problems += _shared(session, found)
        is_live = session.layout.link_target(session.layout.current) == release
        problems += [] if wrong or is_live else _probes(session, context, found)
    return found, problems


def intact(session: Session, release: ReleaseId) -> Tuple[Optional[Release], List[str]]:
    """Read a release's marker and compare all that it speaks of; the release, where it has one, and what is wrong."""
    with session.step("verify", release):
        try:
            found = marker.read(session.layout, release)
        except NotARelease as error:
            return None, ["%s is not a complete release: %s" % (release, error)]
        wrong = [] if release in session.verified else marker.differences(session.layout, found)
        if wrong:
            return found, ["%s is not as it was staged: %s" % (release, "; ".join(wrong[:5]))]
        cause = _interpreter(session, found)
        if cause:
            return found, [cause]
        session.verified.add(release)
    return found, []


def _interpreter(session: Session, release: Release) -> str:
    """Why the release's own interpreter does not serve it any more, or nothing."""
    python = session.layout.release(release.id) / "venv" / "bin" / "python"
    built_for = str(release.selection.get("python") or "")
    argv = [str(python), "-c", _RUNS, built_for] if built_for else [str(python), "-c", "import encodings, zlib"]
    command = Configured(argv, "python", INTERPRETER_S, hooks.unprivileged(session))
    finished = hooks.configured(session, Context("", "", (), "probe"), release.manifest, command)
    if finished.ok:
        return ""
    said = "; ".join(finished.tail(2))
    if built_for and finished.code == 1 and said.replace(".", "").isdigit():
        return "%s was built for Python %s, and its interpreter now is Python %s" % (release.id, built_for, said)
    return "the own interpreter of %s does not run: %s" % (
        release.id,
        ": ".join(filter(None, (finished.cause(), said))),
    )


def _shared(session: Session, release: Release) -> List[Problem]:
    """What of shared/ is gone that the release links to."""
    found: List[Problem] = []
    layout, settings = session.layout, release.manifest.settings["shared"]
    src = layout.release(release.id) / "src"
    for name in settings["dirs"]:
        if not os.path.isdir(src / name):
            group = os.stat(layout.root).st_gid
            mend = "install -d -m 2770 -g %d '%s'  # on the host; what was in it is gone" % (
                group,
                layout.shared / name,
            )
            found.append(Problem("shared folder %s is not there" % (layout.shared / name), mend, mends=False, log=[]))
    for name in settings["files"]:
        if not os.path.exists(src / name):
            mend = "put %s back on the host, with what is in it elsewhere" % (layout.shared / name)
            found.append(Problem("shared file %s is not there" % (layout.shared / name), mend, mends=False, log=[]))
    return found


def _probes(session: Session, context: Context, release: Release) -> List[Problem]:
    """Run every probe of the release, by its own settings."""
    failures = hooks.failures(session, context, release.manifest, "probe")
    mend = "mend on the host what the probe of %s misses, or go to another release" % release.id
    return [Problem(failure.cause, mend, mends=False, log=failure.log) for failure in failures]
