"""The two phases of a fleet run: make every host ready, and only then switch; or return every host that switched.

No host switches unless every host is ready. A failure after the switch returns every switched host to its own
previous release. Every function here ends with every host's outcome or raises ``Stopped`` with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from deploy.events import Emit, Notice
from deploy.fleet import locking
from deploy.fleet.activation import Activation
from deploy.fleet.contact import Opener
from deploy.fleet.fanout import Fanout, Results
from deploy.fleet.holders import freeze_in_words
from deploy.fleet.host import Host
from deploy.fleet.outcomes import HostOutcome, Outcome, Stopped
from deploy.fleet.steps import step
from deploy.settings import Strategy

T = TypeVar("T")


class Phases:
    """One run's hosts and the steps they take together."""

    def __init__(self, hosts: Sequence[Host], emit: Emit) -> None:
        self.hosts = tuple(hosts)
        self.skipped: tuple[HostOutcome, ...] = ()
        """What became of the hosts that were left out because they cannot be reached."""
        self._emit = emit
        self._fanout = Fanout(self._interrupted)
        self._finishing = False

    def connect(
        self,
        opener: Opener,
        exec_line_of: Callable[[Host], str],
        *,
        usable: bool,
        skip_unreachable: bool = False,
    ) -> None:
        """Reach every host before any is touched; list every one that cannot be reached, or (if asked) used.

        ``skip_unreachable`` leaves hosts that cannot be reached out of the run, unless none remains.
        """
        with step(self._emit, "connect"):
            results = self._each(lambda host: host.connect(opener, exec_line_of(host)))
            away = all(outcome.outcome is Outcome.UNREACHABLE for outcome in results.failed.values())
            may_go_on = not results.failed or (skip_unreachable and away and bool(results.given))
            if self._fanout.stopping or not may_go_on:
                raise self._stopped("connect", results.failed)
            self.skipped = tuple(results.failed.values())
            self.hosts = tuple(host for host in self.hosts if host.name in results.given)
        for outcome in self.skipped:
            self._emit(Notice(f"is left out: {outcome.cause}", outcome.host))
        if usable:
            with step(self._emit, "preflight"):
                self._usable()

    def ask(self, opener: Opener, exec_line_of: Callable[[Host], str], what: Callable[[Host], T]) -> Results[T]:
        """Reach every host and ask one thing; a host that does not answer does not keep the others from it."""

        def asked(host: Host) -> T:
            host.connect(opener, exec_line_of(host))
            return what(host)

        return self._each(asked)

    def lock(self, wait_s: float) -> None:
        """Take all locks or none, without blocking; ``wait_s`` retries the whole set with jitter, holding none."""
        with step(self._emit, "lock"):
            results = locking.take_all(
                self.hosts, self._fanout.each, self._emit, wait_s, stopping=lambda: self._fanout.stopping
            )
            for name, granted in results.given.items():  # also where others refused: it was done all the same
                for found in granted["recovered"]:
                    self._emit(Notice(f"recovered from an earlier run: {_recovered(found)}", name))
            if results.failed or self._fanout.stopping:
                raise self._stopped("lock", results.failed)
            for host in self.hosts:
                freeze = results.given[host.name].get("freeze")
                if freeze and host.run.verb == "rollback":  # thawing needs no remark
                    self._emit(Notice(f"{freeze_in_words(freeze)}; this goes on all the same", host.name))

    def everywhere(self, name: str, what: Callable[[Host], T], *, detail: str = "") -> dict[str, T]:
        """Do one thing on every host; any failure stops the run with nothing switched."""
        with step(self._emit, name, detail):
            return self._all(name, what)

    def each(self, name: str, what: Callable[[Host], T]) -> Results[T]:
        """Do one thing on every host; one that fails keeps no other from it."""
        with step(self._emit, name):
            return self._each(what)

    def switch(
        self, releases: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]], strategy: Strategy
    ) -> dict[str, dict[str, Any]]:
        """Switch all hosts, wave after wave, and confirm, or raise Stopped. Gives each answer to ``activate``."""
        self._finishing = True  # a migration that is cut in half is worse than one that is finished for nothing
        activation = Activation(self.hosts, releases, settings, strategy=strategy, fanout=self._fanout, emit=self._emit)
        with self._fanout.held_between_steps():
            return activation.run()

    def prune(self) -> None:
        """Delete what is due; a failure is told and changes nothing else."""
        results = self._each(lambda host: _spared(host.prune()))
        for outcome in results.failed.values():
            self._emit(Notice(f"prune: {outcome.cause}", outcome.host))
        for name, spared in results.given.items():
            for release, why in spared.items():
                self._emit(Notice(f"{release} is due but still in use, and kept: {why}", name))

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C came."""
        return self._fanout.stopping

    @property
    def bugs(self) -> list[Exception]:
        """What went wrong on this side, host by host; each is that host's outcome too."""
        return self._fanout.bugs

    def close(self) -> None:
        """Let every host go."""
        for host in self.hosts:
            host.close()

    def _all(self, at: str, what: Callable[[Host], T]) -> dict[str, T]:
        results = self._each(what)
        if results.failed or self._fanout.stopping:
            raise self._stopped(at, results.failed)
        return results.given

    def _each(self, what: Callable[[Host], T], hosts: Sequence[Host] | None = None) -> Results[T]:
        return self._fanout.each(self.hosts if hosts is None else hosts, what)

    def _stopped(self, at: str, failed: Mapping[str, HostOutcome]) -> Stopped:
        let_go = self._fanout.stopping and not self._finishing  # then a lost line is this side's own doing
        outcomes = [
            (host.left() if let_go and host.name in failed else failed.get(host.name))
            or HostOutcome(host.name, Outcome.UNCHANGED, host.serves)
            for host in self.hosts
        ]
        return Stopped(at, outcomes, interrupted=self._fanout.stopping)

    def _usable(self) -> None:
        failed: dict[str, HostOutcome] = {}
        for host in self.hosts:
            problems: list[str] = host.facts["problems"]
            if problems:
                next_step = f"fab check {host.run.where}  # lists what mends it"
                failed[host.name] = HostOutcome(
                    host.name, Outcome.FAILED, "not changed", "preflight", "; ".join(problems), next_step
                )
        if failed:
            raise self._stopped("preflight", failed)

    def _interrupted(self) -> None:
        if self._finishing:
            self._emit(
                Notice("interrupted: this step is finished first, so that no host is left half way; ^C again stops now")
            )
            return
        does = self.hosts[0].run.verb in ("deploy", "rollback", "prune") if self.hosts else False
        left = ": nothing was switched; hosts end their builds and free their locks" if does else ""
        self._emit(Notice(f"interrupted{left}"))
        for host in self.hosts:
            host.close()


def _recovered(found: Mapping[str, Any]) -> str:
    if found.get("do") == "end":
        return f"ended {len(found.get('pids', ()))} processes of a {found.get('kind')} it left running"
    if found.get("do") == "sweep":
        return f"deleted {found.get('release')}, which was half made"
    if "outcome" in found:
        return f"the unconfirmed switch to {found.get('release')} was settled: {found['outcome']}"
    return f"{found.get('do')} {found.get('release')} ({found.get('why')})"


def _spared(pruned: Mapping[str, Any]) -> dict[str, str]:
    """Releases that were due and are still in use, each with what uses it."""
    return {release: pruned["kept"].get(release, "") for release in pruned["in_use"]}
