"""Do one thing on many hosts at once and lose no host's result. Knows threads; knows nothing of releases."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import HostOutcome

AT_ONCE = 64
"""Threads, not connections: heartbeats run by themselves, so that hosts beyond this many only wait their turn."""

T = TypeVar("T")
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _HeldSignals:
    """Keeps Ctrl-C back until somebody is there to take it: raised elsewhere it would be lost, or leave a host open.

    Leaving the pool waits for every host, and no second Ctrl-C would come to end that.
    """

    def __init__(self) -> None:
        self.caught = False
        self._handlers: dict[int, Any] = {}

    def hold(self) -> None:
        """Take signals and only remember them."""
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                if number not in self._handlers and callable(signal.getsignal(number)):
                    self._handlers[number] = signal.signal(number, self._catch)

    def restore(self) -> None:
        """Give signals back to who took them before."""
        while self._handlers:
            number = next(iter(self._handlers))
            signal.signal(number, self._handlers[number])
            self._handlers.pop(number, None)

    def let_go(self) -> None:
        """Give them back, and raise KeyboardInterrupt where one came meanwhile."""
        self.restore()
        if self.caught:
            self.caught = False
            raise KeyboardInterrupt

    def _catch(self, _number: int, _frame: object) -> None:
        self.caught = True


@dataclass
class Results(Generic[T]):
    """Every host's result: what it gave, or the outcome it failed with. In the order of the hosts."""

    given: dict[str, T] = field(default_factory=dict[str, T])
    failed: dict[str, HostOutcome] = field(default_factory=dict[str, HostOutcome])


class Fanout:
    """Runs functions on hosts. The first Ctrl-C asks to stop after the step; the second one stops now."""

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self._signals = _HeldSignals()
        self._between = False
        self._stopping = False
        self.bugs: list[Exception] = []

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C came; one that was held back counts from when the main thread asks."""
        held = self._signals.caught and threading.current_thread() is threading.main_thread()
        if held and not self._stopping:  # a second one is for the next wait, which it ends
            self._signals.caught = False
            self._stop()
        return self._stopping

    @contextmanager
    def held_between_steps(self) -> Generator[None]:
        """Meanwhile a Ctrl-C that comes between two steps counts at the next one; none is cut in half by it."""
        self._between = True
        self._signals.hold()
        try:
            yield
        finally:
            self._between = False
            self._signals.restore()

    def each(self, hosts: Sequence[Host], what: Callable[[Host], T]) -> Results[T]:
        """Call ``what`` for every host, in parallel. A bug in one call fails its host and is kept in ``bugs``."""
        results: Results[T] = Results()
        if not hosts:
            return results
        with ThreadPoolExecutor(min(AT_ONCE, len(hosts)), thread_name_prefix="host") as pool:
            self._signals.hold()
            try:
                futures = {host.name: pool.submit(what, host) for host in hosts}
                self._wait(list(futures.values()))
            except KeyboardInterrupt:
                self._between = False  # whoever waits for the calls to end may be interrupted as well
                for host in hosts:
                    host.close()  # every waiting call ends with a lost line
                raise
            finally:
                self._step_over()
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
            self._signals.let_go()
            time.sleep(seconds)
            self._signals.hold()
        except KeyboardInterrupt:
            if self._stopping:
                raise
            self._stop()
        finally:
            self._step_over()

    def _wait(self, futures: list[object]) -> None:
        while True:
            try:
                self._signals.let_go()
                _, waiting = wait(futures, timeout=0.5)  # type: ignore[arg-type]
                if not waiting:
                    self._signals.hold()
                    return
            except KeyboardInterrupt:
                if self._stopping:
                    raise
                self._stop()

    def _step_over(self) -> None:
        if self._between:
            self._signals.hold()
        else:
            self._signals.restore()

    def _stop(self) -> None:
        self._stopping = True
        self._on_interrupt()
