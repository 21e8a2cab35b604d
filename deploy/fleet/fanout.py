"""Do one thing on many hosts at once and lose no host's result. Knows threads; knows nothing of releases."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import HostOutcome

AT_ONCE = 64
"""Threads, not connections: heartbeats run by themselves, so that hosts beyond this many only wait their turn."""

T = TypeVar("T")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _HeldSignals:
    """Keeps Ctrl-C back until somebody is there to take it: raised while hosts are being started it would be lost.

    Leaving the pool waits for every host, and no second Ctrl-C would come to end that.
    """

    def __init__(self) -> None:
        self._caught: list[int] = []
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                if callable(signal.getsignal(number)):
                    self._handlers[number] = signal.signal(number, lambda caught, _: self._caught.append(caught))

    def restore(self) -> None:
        """Give signals back to who took them before."""
        while self._handlers:
            number = next(iter(self._handlers))
            signal.signal(number, self._handlers[number])
            self._handlers.pop(number, None)

    def let_go(self) -> None:
        """Give them back, and raise KeyboardInterrupt where one came meanwhile."""
        self.restore()
        if self._caught:
            self._caught.clear()
            raise KeyboardInterrupt


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
            held = _HeldSignals()
            try:
                futures = {host.name: pool.submit(what, host) for host in hosts}
                self._wait(list(futures.values()), held)
            except KeyboardInterrupt:
                for host in hosts:
                    host.close()  # every waiting call ends with a lost line
                raise
            finally:
                held.restore()
        for host in hosts:
            try:
                results.given[host.name] = futures[host.name].result()
            except HostFailed as failure:
                results.failed[host.name] = failure.outcome
            except Exception as bug:  # noqa: BLE001 - raised here, it would leave the other hosts half way
                self.bugs.append(bug)
                results.failed[host.name] = host.broken(bug)
        return results

    def rest(self, seconds: float) -> None:
        """Wait. The first Ctrl-C ends that at once, and asks to stop after the step."""
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            self.stopping = True
            self._on_interrupt()

    def _wait(self, futures: list[object], held: _HeldSignals) -> None:
        while True:
            try:
                held.let_go()
                _, waiting = wait(futures, timeout=0.5)  # type: ignore[arg-type]
                if not waiting:
                    return
            except KeyboardInterrupt:
                if self.stopping:
                    raise
                self.stopping = True
                self._on_interrupt()
