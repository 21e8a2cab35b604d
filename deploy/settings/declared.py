"""Stages as written down, level by level, before one is resolved. Frozen values; parses nothing, reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from deploy.errors import Refused
from deploy.settings.commands import Command, overlay_health
from deploy.settings.strategy import ALL_AT_ONCE, Strategy
from deploy.settings.trust import Trust

SANDBOX = "sandbox"


@dataclass(frozen=True)
class Layer:
    """What one level says of a host. None (or an empty mapping) where it says nothing."""

    root: str | None = None
    restart: Command | None = None
    stop: Command | None = None
    health: Mapping[str, Any] = field(default_factory=dict[str, Any])
    keep: int | None = None
    known_hosts: tuple[str, ...] | None = None
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    deadlines: Mapping[str, float] = field(default_factory=dict[str, float])
    allow_root: bool | None = None
    build_user: str | None = None
    accept_seal: str | None = None
    service: str | None = None
    python: str | None = None
    address: str | None = None
    groups: tuple[str, ...] | None = None
    local: bool | None = None

    def under(self, narrow: Layer) -> Layer:
        """Lay a narrower level over this one."""
        merged = {f.name: getattr(narrow, f.name) for f in fields(Layer) if getattr(narrow, f.name) is not None}
        merged["health"] = overlay_health(self.health, narrow.health)
        merged["deadlines"] = {**self.deadlines, **narrow.deadlines}
        return Layer(**{**{f.name: getattr(self, f.name) for f in fields(Layer)}, **merged})


@dataclass(frozen=True)
class Declared:
    """One stage as written: its own layer, those of its groups and hosts, and what holds for the whole fleet."""

    name: str
    layer: Layer
    groups: Mapping[str, Layer]
    hosts: Mapping[str, Layer]
    trust: Trust
    wait_s: float
    waves: Strategy = ALL_AT_ONCE
    migrations: str = "refuse"


@dataclass(frozen=True)
class OperatorSettings:
    """All stages the control machine knows. ``python`` is the release setting of the file at hand, or None."""

    app: str | None
    python: str | None
    default_stage: str | None
    stages: Mapping[str, Declared]
    """Every declared stage, and ``sandbox``, whose hosts are known only when it is up."""
    vendor_store: str = ""

    @property
    def declared(self) -> tuple[str, ...]:
        """The stages that somebody wrote down, without the implicit sandbox."""
        return tuple(name for name in self.stages if name != SANDBOX)


def refused(where: str, problems: Sequence[str]) -> Refused:
    """The error for wrong operator settings."""
    return Refused(
        "No host was contacted; the service is unchanged.",
        f"{where}: {len(problems)} problem{'s' if len(problems) > 1 else ''} in the settings under deploy:",
        f"correct {where} and run the command again",
        problems=problems,
    )
