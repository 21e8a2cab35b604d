"""Commands, hooks and health as people write them, turned into frozen values with every default filled in. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from deploy.settings.schema import COMMAND_KEYS, HEALTH_KEYS, HOOK_KEYS
from deploy.settings.section import USER, Section, did_you_mean
from deploy.wire.commands import POINTS, Hook

VERBS = ("deploy", "rollback")
FLEET_POINTS = ("migrations", "before_activate", "after_activate")
"""The hook points that the whole fleet reaches together, so that one host can stand for all."""
COMMAND_TIMEOUT_S = 600.0
LISTING_TIMEOUT_S = 60.0
"""``migrations`` only asks; a database that hangs must not keep a rollback waiting."""
HEALTH_KINDS = ("url", "socket", "command")


@dataclass(frozen=True)
class Command:
    """What to run: text for ``/bin/sh -c`` or an argv, its deadline, and as whom (None: as deploy)."""

    run: str | tuple[str, ...]
    timeout_s: float = COMMAND_TIMEOUT_S
    user: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"run": _run_json(self.run), "timeout_s": self.timeout_s, "user": self.user}


@dataclass(frozen=True)
class Health:
    """How a host proves that it serves: exactly one of ``url``, ``socket``, ``command`` is set.

    ``url`` is complete; ``path`` is what to ask a socket for (None: ``/``). ``successes`` in a row are needed, within
    ``timeout_s``.
    """

    url: str | None = None
    socket: str | None = None
    command: Command | None = None
    path: str | None = None
    unit: str | None = None
    host_header: str | None = None
    expect_status: tuple[int, ...] = (200,)
    successes: int = 2
    timeout_s: float = 60.0
    interval_s: float = 0.5

    def to_json(self) -> dict[str, Any]:
        command = None if self.command is None else self.command.to_json()
        return {**asdict(self), "command": command, "expect_status": list(self.expect_status)}


def command_of(parent: Section, key: str) -> Command | None:
    """Read a COMMAND: text, a list (argv) or a mapping with ``run``."""
    value = parent.data.get(key)
    if value is None:
        return None
    body = parent.section(key) if isinstance(value, Mapping) else Section({"run": value}, parent.path, parent.problems)
    body.only(name for name, *_ in COMMAND_KEYS)
    run = _run_of(body, key if body.path == parent.path else "run")
    timeout_s = body.seconds("timeout_s") or COMMAND_TIMEOUT_S
    user = body.text("user", USER, says="a user name")
    return None if run is None else Command(run, timeout_s, user)


def hooks_of(parent: Section) -> dict[str, tuple[Hook, ...]]:
    """Read ``hooks``: at each point one COMMAND, or a list of them."""
    points = parent.section("hooks")
    points.only(POINTS)
    return {point: _commands_at(points, point) for point in POINTS if point in points.data}


def hook_json(hook: Hook) -> dict[str, Any]:
    """The hook as the manifest carries it."""
    return {**asdict(hook), "run": _run_json(hook.run), "on": list(hook.on)}


def _commands_at(points: Section, point: str) -> tuple[Hook, ...]:
    value = points.data[point]
    if value is None:  # an empty point at a narrow level takes a wider level's commands away
        return ()
    # A list is a list of commands: an argv is written [[program, argument]] or {run: [program, argument]}.
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    found: list[Hook] = []
    for at, item in enumerate(items):
        path = points.at(f"{point}.{at}" if isinstance(value, list) else point)
        body = Section(item if isinstance(item, Mapping) else {"run": item}, path, points.problems)
        hook = _hook(body, point)
        if hook:
            found.append(hook)
    return tuple(found)


def _hook(body: Section, point: str) -> Hook | None:
    body.only(name for name, *_ in HOOK_KEYS)
    run = _run_of(body, "run")
    if body.boolean("once") and point not in FLEET_POINTS:
        body.note("once", f"only {', '.join(FLEET_POINTS)} can run once for the fleet")
    on = body.choices("on", VERBS)
    if on == ():
        body.note("on", f"name at least one of {', '.join(VERBS)}")
    hook = Hook(
        run=run or "",
        once=body.boolean("once") or False,
        on=on if on is not None else (("deploy",) if point == "before_activate" else VERBS),
        timeout_s=body.seconds("timeout_s") or (LISTING_TIMEOUT_S if point == "migrations" else COMMAND_TIMEOUT_S),
        idempotent=body.boolean("idempotent") or False,
        user=body.text("user", USER, says="a user name"),
        sealed=body.boolean("sealed") or False,
    )
    return hook if run else None


def _run_of(body: Section, shown: str) -> str | tuple[str, ...] | None:
    value = body.data.get("run")
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    if isinstance(value, list) and value:
        words = cast("list[Any]", value)
        if all(isinstance(word, str) and "\0" not in word for word in words) and words[0]:
            return tuple(cast("list[str]", words))
        body.note(shown, "every word of a command must be text; put numbers in quotes")
        return None
    body.note(shown, "expected a command: text for /bin/sh, or a list of program and arguments")
    return None


def _run_json(run: str | tuple[str, ...]) -> str | list[str]:
    return run if isinstance(run, str) else list(run)


def health_part(body: Section) -> dict[str, Any]:
    """Read what one level says of health. Levels are laid over each other before ``health_of`` makes the value."""
    body.only(name for name, *_ in HEALTH_KEYS)
    kinds = [kind for kind in HEALTH_KINDS if body.has(kind)]
    if len(kinds) > 1:
        body.problems.append(f"{body.path}: name only one of {', '.join(HEALTH_KINDS)}; found {', '.join(kinds)}")
    part = {
        "url": _url(body),
        "socket": body.text("socket", r"[^\x00-\x1f\x7f]{1,100}", says="a path of at most 100 characters"),
        "command": command_of(body, "command"),
        "path": body.text("path", r"/[!-~]*", says="a path that starts with /"),
        "unit": body.text("unit", r"[A-Za-z0-9:_.@-]+\.(service|scope|slice)", says="a unit name such as demo.service"),
        "host_header": body.text("host_header", r"[A-Za-z0-9.:\[\]_-]+", says="a host name"),
        "expect_status": _statuses(body),
        "successes": body.integer("successes", 1, 1000),
        "timeout_s": body.seconds("timeout_s"),
        "interval_s": body.seconds("interval_s"),
    }
    return {key: value for key, value in part.items() if value is not None}


def overlay_health(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a narrower level's health over a wider one's, key by key; naming another kind replaces the kind."""
    kept = dict(wide)
    if any(kind in narrow for kind in HEALTH_KINDS):
        kept = {key: value for key, value in kept.items() if key not in HEALTH_KINDS}
    return {**kept, **narrow}


def health_of(merged: Mapping[str, Any], path: str, problems: list[str]) -> Health | None:
    """Make the value of one host. None where nothing is said, or no kind is named (then a problem is noted)."""
    if not merged:
        return None
    if not any(kind in merged for kind in HEALTH_KINDS):
        problems.append(f"{path}.health: name one of {', '.join(HEALTH_KINDS)}")
        return None
    health = Health(**merged)
    if health.url and health.path:
        health = replace(health, url=urljoin(health.url, health.path), path=None)
    return health


def _url(body: Section) -> str | None:
    url = body.text("url", r"[!-~]+", says="an http:// or https:// URL")
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        body.note("url", f"expected an http:// or https:// URL, got {url!r}{did_you_mean(url[:7], ['http://'])}")
    return url


def _statuses(body: Section) -> tuple[int, ...] | None:
    value = body.data.get("expect_status")
    if value is None:
        return None
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    if items and all(isinstance(item, int) and 100 <= item <= 599 for item in items):
        return tuple(cast("list[int]", items))
    body.note("expect_status", "expected a status from 100 to 599, or a list of them")
    return None
