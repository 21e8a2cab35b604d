"""Do one thing on many hosts at once and lose no host's result. Knows threads; knows nothing of releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import HostOutcome

AT_ONCE = 64
"""Threads, not connections: heartbeats run by themselves, so that hosts beyond this many only wait their turn."""

T = TypeVar("T")


@dataclass
class Results(Generic[T]):
    """Every host's result: what it gave, or the outcome it failed with. In the order of the hosts."""

    given: dict[str, T] = field(default_factory=dict[str, T])
    failed: dict[str, HostOutcome] = field(default_factory=dict[str, HostOutcome])


class Fanout:
    """Runs functions on hosts. The first Ctrl-C asks to stop after the step; the second one stops now."""

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self.stopping = False
        self.bugs: list[Exception] = []

    def each(self, hosts: Sequence[Host], what: Callable[[Host], T]) -> Results[T]:
        """Call ``what`` for every host, in parallel. A bug in one call fails its host and is kept in ``bugs``."""
        results: Results[T] = Results()
        if not hosts:
            return results
        with ThreadPoolExecutor(min(AT_ONCE, len(hosts)), thread_name_prefix="host") as pool:
            futures = {host.name: pool.submit(what, host) for host in hosts}
            try:
                self._wait(list(futures.values()))
            except KeyboardInterrupt:
                for host in hosts:
                    host.close()  # every waiting call ends with a lost line
                raise
        for host in hosts:
            try:
                results.given[host.name] = futures[host.name].result()
            except HostFailed as failure:
                results.failed[host.name] = failure.outcome
            except Exception as bug:  # noqa: BLE001 - raised here, it would leave the other hosts half way
                self.bugs.append(bug)
                results.failed[host.name] = host.broken(bug)
        return results

    def _wait(self, futures: list[object]) -> None:
        while True:
            try:
                _, waiting = wait(futures, timeout=0.5)  # type: ignore[arg-type]
                if not waiting:
                    return
            except KeyboardInterrupt:
                if self.stopping:
                    raise
                self.stopping = True
                self._on_interrupt()
