"""The two phases of a fleet run: make every host ready, and only then switch; or return every host that switched.

No host switches unless every host is ready. A failure after the switch returns every switched host to its own
previous release. Every function here ends with every host's outcome or raises ``Stopped`` with it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from deploy.events import Emit, FleetStep, Notice
from deploy.fleet.contact import Opener
from deploy.fleet.fanout import Fanout, Results
from deploy.fleet.host import Host
from deploy.fleet.outcomes import HostOutcome, Outcome
from deploy.wire import commands

T = TypeVar("T")
RETRY_LOCK_S = 2.0


class Stopped(Exception):
    """A phase ended the run. ``outcomes`` is what became of every host."""

    def __init__(self, step: str, outcomes: Sequence[HostOutcome], *, interrupted: bool = False) -> None:
        super().__init__(step)
        self.step = step
        self.outcomes = tuple(outcomes)
        self.interrupted = interrupted


class Phases:
    """One run's hosts and the steps they take together."""

    def __init__(self, hosts: Sequence[Host], emit: Emit) -> None:
        self.hosts = tuple(hosts)
        self._emit = emit
        self._fanout = Fanout(self._interrupted)
        self._switching = False
        self._finishing = False

    def connect(self, opener: Opener, exec_line_of: Callable[[Host], str], *, usable: bool) -> None:
        """Reach every host before any is touched; list every one that cannot be reached, or (if asked) used."""
        with self._step("connect"):
            self._all("connect", lambda host: host.connect(opener, exec_line_of(host)))
        if usable:
            with self._step("preflight"):
                self._usable()

    def ask(self, opener: Opener, exec_line_of: Callable[[Host], str], what: Callable[[Host], T]) -> Results[T]:
        """Reach every host and ask one thing; a host that does not answer does not keep the others from it."""

        def asked(host: Host) -> T:
            host.connect(opener, exec_line_of(host))
            return what(host)

        return self._each(asked)

    def lock(self, wait_s: float) -> None:
        """Take all locks or none, without blocking; ``wait_s`` retries the whole set with jitter, holding none."""
        deadline = time.monotonic() + wait_s
        with self._step("lock"):
            while True:
                results = self._each(lambda host: host.lock())
                if not results.failed:
                    break
                self._each(lambda host: host.unlock(), [host for host in self.hosts if host.name in results.given])
                only_locked = all(o.outcome is Outcome.LOCKED for o in results.failed.values())
                if not only_locked or time.monotonic() > deadline or self._fanout.stopping:
                    raise self._stopped("lock", results.failed)
                time.sleep(RETRY_LOCK_S * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            for host in self.hosts:
                for found in results.given[host.name]["recovered"]:
                    self._emit(Notice(f"recovered from an earlier run: {_recovered(found)}", host.name))

    def everywhere(self, step: str, what: Callable[[Host], T], *, detail: str = "") -> dict[str, T]:
        """Do one thing on every host; any failure stops the run with nothing switched."""
        with self._step(step, detail):
            return self._all(step, what)

    def switch(self, releases: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Run the hooks before, activate on every host, run the hooks after, confirm; or return all that switched.

        ``settings`` are each host's release settings (the manifest's). Returns each host's answer to ``activate``.
        """
        self._finishing = True  # a migration that is cut in half is worse than one that is finished for nothing
        self._hooks("before_activate", releases, settings)
        if self._fanout.stopping:
            raise self._stopped("before_activate", {})
        self._switching = True
        with self._step("activate"):
            results = self._each(lambda host: host.activate(releases[host.name]))
            if results.failed:
                raise self._take_back("activate", results.failed)
        try:
            self._hooks("after_activate", releases, settings)
        except Stopped as stopped:
            failed = {o.host: o for o in stopped.outcomes if o.cause}
            raise self._take_back("after_activate", failed, all_hosts=True) from stopped
        with self._step("confirm"):
            confirmed = self._each(lambda host: host.confirm())
            if confirmed.failed:
                live = [HostOutcome(h.name, Outcome.LIVE, releases[h.name]) for h in self.hosts]
                raise Stopped("confirm", [confirmed.failed.get(o.host, o) for o in live])
        return results.given

    def prune(self) -> None:
        """Delete what is due; a failure is told and changes nothing else."""
        results = self._each(lambda host: host.prune())
        for outcome in results.failed.values():
            self._emit(Notice(f"prune: {outcome.cause}", outcome.host))
        for name, pruned in results.given.items():
            for release in pruned["in_use"]:
                self._emit(Notice(f"{release} is due but still in use: kept", name))

    @property
    def bugs(self) -> list[Exception]:
        """What went wrong on this side, host by host; each is that host's outcome too."""
        return self._fanout.bugs

    def close(self) -> None:
        """Let every host go."""
        for host in self.hosts:
            host.close()

    def _hooks(self, point: str, releases: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Each ``once`` hook runs on the first host that has it, before the hosts' own; hosts without are not asked."""
        once: dict[str, list[str]] = {}
        taken: set[str] = set()
        each: list[Host] = []
        for host in self.hosts:
            found = commands.hooks_of(settings[host.name], point, host.run.verb, host.settings.levels)
            mine = [hook.text for hook in found if hook.once and hook.text not in taken]
            if mine:
                once[host.name] = mine
                taken.update(mine)
            if any(not hook.once for hook in found):
                each.append(host)
        for host in self.hosts:
            if host.name in once:
                self._run_hooks(point, [host], releases, once[host.name])
        self._run_hooks(point, each, releases, None)

    def _run_hooks(
        self, point: str, hosts: Sequence[Host], releases: Mapping[str, str], once: Sequence[str] | None
    ) -> None:
        if not hosts:
            return
        with self._step(point, "" if once is None else f"once, on {hosts[0].name}"):
            results = self._each(lambda host: host.hooks(releases[host.name], point, once=once), hosts)
            if results.failed and not self._switching:  # else each host's way back runs its `failed` hooks
                self._failed_hooks(releases)
            if results.failed or (self._fanout.stopping and not self._switching):
                raise self._stopped(point, results.failed)

    def _failed_hooks(self, releases: Mapping[str, str]) -> None:
        self._each(lambda host: host.hooks(releases[host.name], "failed", once=None))

    def _take_back(self, step: str, failed: Mapping[str, HostOutcome], *, all_hosts: bool = False) -> Stopped:
        """Return every host that switched; the ones that failed have returned by themselves or are unknown."""
        why = "; ".join(f"{o.host}: {o.step}: {o.cause}" for o in failed.values())
        switched = [host for host in self.hosts if all_hosts or host.name not in failed]
        with self._step("return", "every switched host to its own previous release"):
            results = self._each(lambda host: host.give_back(why), switched)
        outcomes: list[HostOutcome] = []
        for host in self.hosts:
            outcome = results.given.get(host.name) or results.failed.get(host.name) or failed[host.name]
            cause = failed.get(host.name)
            if cause and cause.cause and not outcome.cause:
                outcome = HostOutcome(
                    host.name, outcome.outcome, outcome.detail, cause.step, cause.cause, cause.next_step, cause.log
                )
            outcomes.append(outcome)
        return Stopped(step, outcomes, interrupted=self._fanout.stopping)

    def _all(self, step: str, what: Callable[[Host], T]) -> dict[str, T]:
        results = self._each(what)
        if results.failed or self._fanout.stopping:
            raise self._stopped(step, results.failed)
        return results.given

    def _each(self, what: Callable[[Host], T], hosts: Sequence[Host] | None = None) -> Results[T]:
        return self._fanout.each(self.hosts if hosts is None else hosts, what)

    def _stopped(self, step: str, failed: Mapping[str, HostOutcome]) -> Stopped:
        let_go = self._fanout.stopping and not self._finishing  # then a lost line is this side's own doing
        outcomes = [
            (host.left() if let_go and host.name in failed else failed.get(host.name))
            or HostOutcome(host.name, Outcome.UNCHANGED, host.serves)
            for host in self.hosts
        ]
        return Stopped(step, outcomes, interrupted=self._fanout.stopping)

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

    @contextmanager
    def _step(self, step: str, detail: str = "") -> Generator[None, None, None]:
        began = time.monotonic()
        self._emit(FleetStep(step, "started", detail))
        try:
            yield
        except Exception:
            self._emit(FleetStep(step, "failed", detail, time.monotonic() - began))
            raise
        self._emit(FleetStep(step, "done", detail, time.monotonic() - began))


def _recovered(found: Mapping[str, Any]) -> str:
    if found.get("do") == "end":
        return f"ended {len(found['pids'])} processes of a {found['kind']} it left running"
    if found.get("do") == "sweep":
        return f"deleted {found['release']}, which was half made"
    if "outcome" in found:
        return f"the unconfirmed switch to {found['release']} was settled: {found['outcome']}"
    return f"{found['do']} {found['release']} ({found['why']})"
