"""Many hosts at once: a Ctrl-C is heard whenever it comes, and asks once before it stops."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from deploy.fleet.fanout import Fanout


class Named:
    """All that a fan-out needs of a host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def close(self) -> None:
        """Let go."""
        self.closed = True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("late_s", [0.0, 0.0001, 0.001, 0.05])
def test_a_signal_is_heard_also_while_hosts_are_being_started(number: signal.Signals, late_s: float) -> None:
    """It was lost there: leaving the pool waits for the hosts, which waited for it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for _ in range(10):
            asked: list[int] = []
            fanout = Fanout(lambda asked=asked: asked.append(1))
            hosts: list[Any] = [Named(f"web-{count}") for count in range(8)]

            def what(host: Any, fanout: Fanout = fanout, number: signal.Signals = number) -> str:
                if host.name == "web-0":
                    time.sleep(late_s)
                    os.kill(os.getpid(), number)
                deadline = time.monotonic() + 30
                while not fanout.stopping and time.monotonic() < deadline:
                    time.sleep(0.002)
                return "ended" if fanout.stopping else "never heard"

            results = fanout.each(hosts, what)
            assert set(results.given.values()) == {"ended"}
            assert asked == [1]
            assert not any(host.closed for host in hosts)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_second_one_lets_every_host_go() -> None:
    """Whatever they are at; the calls end with a lost line."""
    fanout = Fanout(lambda: os.kill(os.getpid(), signal.SIGINT))
    hosts: list[Any] = [Named("web-1"), Named("web-2")]

    def what(host: Any) -> None:
        if host.name == "web-1":
            os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 30
        while not host.closed and time.monotonic() < deadline:
            time.sleep(0.002)

    with pytest.raises(KeyboardInterrupt):
        fanout.each(hosts, what)
    assert all(host.closed for host in hosts)


def test_between_two_steps_of_a_switch_it_counts_at_the_next() -> None:
    """Raised there, it would leave hosts open that were about to be confirmed; asked for or waited for, it is heard."""
    for then in ("asked", "rests"):
        asked: list[int] = []
        fanout = Fanout(lambda asked=asked: asked.append(1))
        hosts: list[Any] = [Named("web-1")]
        with fanout.held_between_steps():
            for _ in range(2):
                assert fanout.each(hosts, lambda host: host.name).given == {"web-1": "web-1"}
            os.kill(os.getpid(), signal.SIGINT)
            assert asked == []
            if then == "rests":
                began = time.monotonic()
                fanout.rest(30)
                assert time.monotonic() - began < 20
            assert fanout.stopping
            assert asked == [1]
            assert fanout.each(hosts, lambda host: host.name).given  # finished first
            os.kill(os.getpid(), signal.SIGINT)
            assert fanout.stopping  # asking does not take the second one, which stops now
            with pytest.raises(KeyboardInterrupt):
                fanout.rest(30) if then == "rests" else fanout.each(hosts, lambda _: time.sleep(0.2))
            assert asked == [1]
        assert hosts[0].closed == (then == "asked")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
