"""Frozen events: what happened, on which host, when. Emitted by the pipeline, printed only by ``deploy.report``.

Nothing here formats or prints. ``Emit`` is the one way anything travels back upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

StepState = Literal["started", "done", "failed", "warned"]


@dataclass(frozen=True)
class RunStarted:
    """First event of a run. ``verb`` is the command; ``tag`` is None where the command names none."""

    verb: str
    stage: str
    hosts: tuple[str, ...]
    tag: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class Notice:
    """Something an operator should know that is not a failure (dirty tree, clock skew, weaker seal)."""

    text: str
    host: str | None = None


@dataclass(frozen=True)
class FleetStep:
    """A step of the whole run: check, pack, connect, lock, stage, gate, activate, confirm, prune."""

    step: str
    state: StepState
    detail: str = ""
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class HostStep:
    """A step on one host, as that host reported it (``build Django 5.2``, ``switch``, ``health``)."""

    host: str
    step: str
    state: StepState
    detail: str = ""
    elapsed_s: float = 0.0
    data: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class HostBytes:
    """Upload progress of one host, in bytes as counted before SSH."""

    host: str
    sent: int
    total: int


@dataclass(frozen=True)
class Progress:
    """How far something on this machine is, in bytes (a download). ``total`` is 0 where nobody knows."""

    what: str
    done: int
    total: int

    @property
    def is_whole(self) -> bool:
        return self.done >= self.total > 0


@dataclass(frozen=True)
class HostCost:
    """What one run cost on one host. Bytes as counted before SSH; a round trip is one request and its answer."""

    host: str
    connections: int
    execs: int
    round_trips: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True)
class HostEnded:
    """One host's outcome. ``outcome`` is a word of ``deploy.fleet.outcomes.Outcome``."""

    host: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class RunEnded:
    """Last event of a run: the closing block. ``undo`` is the exact command that takes it back, or ''."""

    verb: str
    stage: str
    exit_code: int
    verdict: str
    elapsed_s: float
    hosts: tuple[HostEnded, ...] = ()
    why: str = ""
    problems: tuple[str, ...] = ()
    next_step: str = ""
    undo: str = ""
    release: str | None = None
    tag: str | None = None


Event = RunStarted | Notice | FleetStep | HostStep | HostBytes | Progress | HostCost | HostEnded | RunEnded
Emit = Callable[[Event], None]
