"""What is true of this host right now, for preflight and ``status``. Reads only; needs no lock and changes nothing."""

from __future__ import annotations

import getpass
import os
import platform
import sys
import time
from typing import Any, Dict, List, Optional

from deploy.wire import states
from deploy.wire.names import tag_of

from . import envs, freeze, journal, landlock, marker
from .history import History, fold, gone, rollback_candidates
from .layout import Layout
from .lock import holder_of
from .recovery import look

FORMAT = 1
MOST_RUNS = 50


def facts(layout: Layout, history: Optional[History] = None, *, but_run: str = "") -> Dict[str, Any]:
    """The host's answer to ``hello`` and ``status``; ``runs`` leaves out one's own. Raises journal.NewerFormat."""
    about: Dict[str, Any] = {
        "format": FORMAT,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": "linux_" + platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "machine_id": _machine_id(),
        "user": getpass.getuser() if os.environ.get("USER") else str(os.geteuid()),
        "uid": os.geteuid(),
        "clock": round(time.time(), 3),
        "root": str(layout.root),
        "landlock": landlock.abi(),
        "problems": layout.problems(),
    }
    if not layout.root.is_dir():
        nothing: Dict[str, Any] = {"current": None, "previous": None, "lock": None, "freeze": None}
        return dict(about, **nothing, releases=[], pending=[], env_keys=[], runs=[])
    space = os.statvfs(layout.root)
    history = history or fold(journal.read(layout.journal))
    current, complete = layout.link_target(layout.current), marker.complete(layout)
    about.update(
        free_bytes=space.f_bavail * space.f_frsize,
        free_inodes=space.f_favail if space.f_files else None,
        current=current,
        previous=layout.link_target(layout.previous),
        releases=_releases(layout, history),
        rollback_candidates=rollback_candidates(history, current, complete),
        gone=gone(history, current, complete),
        pending=[action.why for action in look(layout, history)] + _unknown(history),
        unknown_hooks=[list(key) for key in history.unknown_hooks],
        lease=_lease(history),
        runs=_runs(history, but_run),
        lock=holder_of(layout.lock),
        freeze=freeze.standing(history),
        env_keys=envs.known(layout),
    )
    return about


def _unknown(history: History) -> List[str]:
    return ["%s hook `%s` was cut off, its outcome is unknown" % key for key in history.unknown_hooks]


def _lease(history: History) -> Optional[Dict[str, Any]]:
    """The switch that nobody has confirmed yet: while its run lives, its heartbeats keep the host from settling it."""
    switch = history.open_switch
    if switch is None or not history.switched:
        return None
    run = history.run(str(switch.get("run", "")))
    return {"release": switch["to"], "from": switch.get("from"), "run": run.run, "by": run.by, "at": switch["at"]}


def _runs(history: History, but: str) -> List[Dict[str, Any]]:
    """The runs that could have switched, newest first, back to the one that made the present release live."""
    told: List[Dict[str, Any]] = []
    for run in history.switching(but=but)[:MOST_RUNS]:
        told.append({"run": run.run, "verb": run.verb, "by": run.by, "outcome": run.outcome})
        if run.outcome == "live":
            break
    return told


def _releases(layout: Layout, history: History) -> List[Dict[str, Any]]:
    current = layout.link_target(layout.current)
    rows: List[Dict[str, Any]] = []
    for release in layout.present():
        past = history.past(release)
        state = states.observed(
            directory=True,
            marker=marker.is_complete(layout, release),
            is_current=release == current,
            was_live=past.was_active,
        )
        rows.append(
            {
                "release": release,
                "tag": past.tag or tag_of(release),
                "commit": past.commit,
                "state": state.value,
                "bad": past.bad,
                "pinned": {"by": past.pinned_by, "at": past.pinned_at} if past.pinned else None,
                "seq": max(past.live_seq, past.staged_seq),
                "live_seq": past.live_seq,
                "lived": past.live_seq > 0 or release in history.pruned,
                "staged_at": past.staged_at,
                "live_at": past.live_at,
                "by": past.by,
                "sealed": past.sealed,
                "proof": past.proof,
            }
        )
    return sorted(rows, key=lambda row: int(row["seq"]), reverse=True)


def _machine_id() -> str:
    """machine-id(5), so that one machine listed under two names is found; empty where there is none."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
