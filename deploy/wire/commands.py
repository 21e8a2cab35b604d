"""Hooks as the manifest carries them, and which of them one host runs. Pure, no I/O.

A level that names a hook point replaces what a wider level says for that point: app < stage < group < host.
A level's environment is laid over the wider one key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

POINTS = ("prepare", "probe", "migrations", "before_activate", "after_activate", "failed")
"""prepare: while staging · probe: before the marker, before a rollback · migrations: lists them, before the switch ·
before/after_activate: around the switch · failed: on failure."""


@dataclass(frozen=True)
class Hook:
    """One configured command. ``run`` is a string for ``/bin/sh -c`` or an argv; ``timeout_s`` is its deadline."""

    run: Union[str, Tuple[str, ...]]
    once: bool
    on: Tuple[str, ...]
    timeout_s: float
    idempotent: bool
    user: Optional[str]
    sealed: bool

    @property
    def argv(self) -> List[str]:
        return ["/bin/sh", "-c", self.run] if isinstance(self.run, str) else list(self.run)

    @property
    def text(self) -> str:
        """As an operator wrote it, for messages."""
        return self.run if isinstance(self.run, str) else " ".join(self.run)


def levels(stage: str, groups: Sequence[str], host: str) -> List[str]:
    """The levels that apply to one host, widest first."""
    return ["app", "stage:" + stage] + ["group:%s/%s" % (stage, g) for g in groups] + ["host:%s/%s" % (stage, host)]


def hooks_of(settings: Mapping[str, Any], point: str, verb: str, applying: Sequence[str]) -> List[Hook]:
    """The hooks of ``point`` that a host with these levels runs for ``verb`` (deploy or rollback)."""
    chosen: List[Any] = []
    by_level: Mapping[str, Any] = settings.get("hooks", {})
    for level in applying:
        chosen = by_level.get(level, {}).get(point, chosen)
    return [hook for hook in map(_hook, chosen) if verb in hook.on]


def environment_of(settings: Mapping[str, Any], applying: Sequence[str]) -> Dict[str, str]:
    """The configured environment of a host with these levels."""
    merged: Dict[str, str] = {}
    for level in applying:
        merged.update(settings.get("environment", {}).get(level, {}))
    return merged


def parse_env_file(text: str) -> Dict[str, str]:
    """Read an env file as data: NAME=VALUE lines, optional quotes and ``export``; no shell, no expansion."""
    values: Dict[str, str] = {}
    for line in text.splitlines():
        key, sign, value = line.strip().partition("=")
        key = key[7:].strip() if key.startswith("export ") else key.strip()
        if not sign or not key.isidentifier():
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[key] = value
    return values


def _hook(value: Mapping[str, Any]) -> Hook:
    run = value["run"]
    return Hook(
        run=run if isinstance(run, str) else tuple(str(word) for word in run),
        once=bool(value["once"]),
        on=tuple(value["on"]),
        timeout_s=float(value["timeout_s"]),
        idempotent=bool(value["idempotent"]),
        user=value.get("user"),
        sealed=bool(value["sealed"]),
    )
