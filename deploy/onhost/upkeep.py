"""The requests that keep a host in order between deploys, each under the lock and with no switch open: a table."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from deploy.wire.names import parse_release_id

from . import freeze, marker, prune
from .session import Session, StepFailed

Request = Dict[str, Any]
Answer = Dict[str, Any]


def prune_releases(session: Session, request: Request) -> Answer:
    """Delete old releases: beyond ``keep``, or (with ``free``) until so many bytes are free."""
    free, unit = request.get("free"), str(request.get("unit") or "")
    return prune.prune(session, int(request["keep"]), free=None if free is None else int(free), unit=unit)


def pin(session: Session, request: Request) -> Answer:
    """Exempt complete releases from pruning, or no longer; says for which that changed anything. Raises StepFailed."""
    history, wanted = session.book.history, [parse_release_id(name) for name in request["releases"]]
    for release in wanted:
        if not marker.is_complete(session.layout, release):
            raise StepFailed("pin", "%s is not here" % release, "`fab releases` shows what is")
    changed: List[str] = []
    for release in wanted:
        if history.past(release).pinned != request["pinned"]:
            session.book.append("pinned" if request["pinned"] else "unpinned", release=release)
            changed.append(release)
    return {"changed": changed}


def begin_freeze(session: Session, request: Request) -> Answer:
    """Freeze this host from now on, in place of a freeze that stands. Raises StepFailed where it would be over."""
    try:
        terms = freeze.terms(str(request["reason"]), request["until"], request["for_s"])
    except ValueError as error:
        raise StepFailed("freeze", str(error), "on the host: timedatectl; or freeze without an end") from error
    session.book.append("frozen", **terms)
    return {"frozen": freeze.standing(session.book.history)}


def thaw(session: Session, _request: Request) -> Answer:
    """End a freeze; says which one stood."""
    history = session.book.history
    was = freeze.standing(history)
    if history.freeze is not None:
        session.book.append("thawed")
    return {"was": was}


REQUESTS: Mapping[str, Callable[[Session, Request], Answer]] = {
    "prune": prune_releases,
    "pin": pin,
    "freeze": begin_freeze,
    "thaw": thaw,
}
