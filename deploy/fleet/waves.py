"""Which hosts switch together: hosts and a strategy become waves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from deploy.settings import Strategy

T = TypeVar("T")


def waves(hosts: Sequence[T], strategy: Strategy) -> list[tuple[T, ...]]:
    """Cut hosts, in their order, into the canary and then batches; a percentage is of all, rounded down, at least 1."""
    size = strategy.batch or len(hosts)
    if strategy.batch and strategy.batch_is_percent:
        size = max(1, len(hosts) * strategy.batch // 100)
    found: list[tuple[T, ...]] = []
    at, cut = 0, strategy.canary or size
    while at < len(hosts):
        found.append(tuple(hosts[at : at + cut]))
        at, cut = at + cut, size
    return found
