"""Twenty real SSH hosts and one fault a round: cut lines, killed programs, Ctrl-C, hosts that are ill or off.

    python -m tests.hosts.storm --hosts 20 --rounds 20 --seed 1

After each round the oracle holds for every host, what ``fab`` told of it is true, and the same deploy finishes by
itself. Prints a line a round and the figures; not part of the test run, since it takes minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from .fab import Ended, Running
from .fleet import Fleet, eventually, is_whole, prepared_ground, readers, stocked
from .openssh import Host
from .test_link_lost import cut

AS_BEFORE = ("unchanged", "failed", "unreachable", "locked", "returned")
STEPS = ("verify", "switch", "restart", "health")
READERS = 3


class Storm:
    """One fleet, and one round after the other."""

    def __init__(self, made: Fleet, rng: random.Random) -> None:
        self.made, self.rng = made, rng
        self.codes: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.unfired = 0

    def round(self, number: int) -> None:
        """Deploy a new tag while something happens; judge; deploy it again."""
        rng, made = self.rng, self.made
        kind, act = rng.choice(FAULTS)
        victims = rng.sample(made.hosts, rng.choice((1, 1, 2, 3)))
        tag = f"v{number}"
        made.configure(waves=waves(rng))
        made.project.release(tag, needs="flour" if kind == "ill" else "")
        for host in made.hosts:
            flour = host.root / "shared/data/flour"
            flour.unlink(missing_ok=True) if kind == "ill" and host in victims else flour.touch()
        before = {host.name: host.current for host in made.hosts}
        began = time.monotonic()
        with ExitStack() as stack:
            for host in rng.sample(made.hosts, READERS):
                stack.enter_context(readers(host))
            ended = act(self, f"deploy:{tag}", victims)
            eventually(lambda: not any(host.onhost() for host in made.hosts), within_s=120)
            self.judge(ended, tag, before)
            for host in made.hosts:
                (host.root / "shared/data/flour").touch()
            again = made.fab(f"deploy:{tag}")
            assert again.code == 0, again.text
        assert made.live() == [tag] * len(made.hosts)
        self.faults[kind] += 1
        self.codes[ended.code] += 1
        words = Counter(ended.outcomes.values()) if ended.records and ended.code >= 0 else {}
        print(f"{tag}: {kind} on {', '.join(v.name for v in victims)}: exit {ended.code}, {dict(words)}, "
              f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip

    def judge(self, ended: Ended, tag: str, before: dict[str, str | None]) -> None:
        """The oracle, and every word that was told."""
        for host in self.made.hosts:
            is_whole(host)
            assert host.live() == host.current, host.name
        if ended.code < 0:  # killed: it told nothing; status does
            rows = {row["host"]: row for row in self.made.fab("status").document["hosts"]}
            assert {name: row["current"]["release"] for name, row in rows.items()} == {
                host.name: host.current for host in self.made.hosts
            }
            return
        for host in self.made.hosts:
            word = ended.outcomes[host.name]
            if word == "live":
                assert (host.current or "").startswith(f"{tag}-"), (host.name, ended.text)
            elif word in AS_BEFORE:
                assert host.current == before[host.name], (host.name, ended.text)
        assert (ended.code == 0) == (set(ended.outcomes.values()) == {"live"}), ended.text
        if ended.code in (1, 3, 5):
            assert set(ended.outcomes.values()) <= set(AS_BEFORE), ended.text

    def when(self, run: Running, victim: Host, what: Callable[[], object]) -> Ended:
        """Do something as soon as a host begins a step, where the run gets there."""
        try:
            run.until(event="host_step", host=victim.name, step=self.rng.choice(STEPS), state="started")
            what()
        except AssertionError:
            self.unfired += 1
        return run.wait(timeout_s=300)


def waves(rng: random.Random) -> dict[str, Any]:
    """A strategy that takes seconds."""
    return {
        "canary": rng.choice((0, 1)), "batch": rng.choice((5, 8, "25%", "50%")), "pause_s": rng.choice((0, 0.5)),
        "soak_s": rng.choice((0, 0.5)), "max_failures": rng.choice((0, 0, 2)),
    }  # fmt: skip


def _cut(storm: Storm, words: str, victims: list[Host]) -> Ended:
    return storm.when(storm.made.fab.start(words), victims[0], lambda: [cut(host) for host in victims])


def _killed(storm: Storm, words: str, victims: list[Host]) -> Ended:
    return storm.when(storm.made.fab.start(words), victims[0], lambda: [host.kill_onhost() for host in victims])


def _fab_killed(storm: Storm, words: str, victims: list[Host]) -> Ended:
    run = storm.made.fab.start(words)
    return storm.when(run, victims[0], run.kill)


def _interrupted(storm: Storm, words: str, victims: list[Host]) -> Ended:
    run = storm.made.fab.start(words)
    return storm.when(run, victims[0], run.interrupt)


def _interrupted_twice(storm: Storm, words: str, victims: list[Host]) -> Ended:
    run = storm.made.fab.start(words)

    def twice() -> None:
        run.interrupt()
        run.until(event="notice")
        run.interrupt()

    return storm.when(run, victims[0], twice)


def _frozen(storm: Storm, words: str, victims: list[Host]) -> Ended:
    """Packets are swallowed: noticed by silence alone; the frozen processes end with the round."""
    run = storm.made.fab.start(words)
    stopped: list[int] = []

    def freeze() -> None:
        for host in victims:
            for pid in host.sessions():
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)

    ended = storm.when(run, victims[0], freeze)
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return ended


def _ill(storm: Storm, words: str, victims: list[Host]) -> Ended:
    del victims
    return storm.made.fab(words)


def _off(storm: Storm, words: str, victims: list[Host]) -> Ended:
    for host in victims:
        host.stop()
    try:
        return storm.made.fab(words, "--skip-unreachable")
    finally:
        for host in victims:
            host.start()


FAULTS = (
    ("line cut", _cut), ("host program killed", _killed), ("fab killed", _fab_killed), ("Ctrl-C", _interrupted),
    ("Ctrl-C twice", _interrupted_twice), ("line frozen", _frozen), ("ill", _ill), ("off", _off),
)  # fmt: skip


def main() -> None:
    """Play the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    print(f"replay: python -m tests.hosts.storm --hosts {chosen.hosts} --rounds {chosen.rounds} --seed {chosen.seed}")
    with prepared_ground({}) as ground:
        made = Fleet(ground.base / "storm", stocked(ground), [f"web-{n}" for n in range(1, chosen.hosts + 1)])
        try:
            storm = Storm(made, random.Random(chosen.seed))
            made.project.release("v1")
            made.deploy("v1")
            for number in range(2, chosen.rounds + 2):
                storm.round(number)
        finally:
            made.close()
    print(f"{chosen.hosts} hosts, {chosen.rounds} rounds, {storm.unfired} faults that did not fire")
    print(f"faults: {dict(storm.faults)}\nexit codes: {dict(storm.codes)}")


if __name__ == "__main__":
    main()
