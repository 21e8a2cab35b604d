"""The second phase, on hosts that are all ready: switch wave after wave, then confirm; or return all that switched.

No switch is confirmed before the last wave is well. One host too many that fails returns every switched host to its own
previous release. Ctrl-C stops before the next wave: what switched is confirmed, the other hosts stay as they are.

    once hooks before
    for each wave: own hooks before, activate, own hooks after, soak, probe
    once hooks after, confirm
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploy.events import Emit, Notice
from deploy.fleet.fanout import Fanout, Results
from deploy.fleet.host import Host
from deploy.fleet.outcomes import HostOutcome, Outcome, Stopped
from deploy.fleet.steps import step
from deploy.fleet.waves import waves
from deploy.settings import Strategy
from deploy.wire import commands
from deploy.wire.commands import Hook

MEND_HOOK = "look at what it did and mend that; when it is safe to run again, give it `idempotent: true`, tag, deploy"


class Activation:
    """One run's switch of a fleet. ``settings`` are each host's release settings (the manifest's)."""

    def __init__(
        self,
        hosts: Sequence[Host],
        releases: Mapping[str, str],
        settings: Mapping[str, Mapping[str, Any]],
        *,
        strategy: Strategy,
        fanout: Fanout,
        emit: Emit,
    ) -> None:
        self._hosts, self._emit, self._fanout = tuple(hosts), emit, fanout
        self._releases, self._settings, self._strategy = releases, settings, strategy
        self._waves = waves(self._hosts, strategy)
        self._switched: dict[str, dict[str, Any]] = {}
        """Each host that is switched and well, with its answer: open until all are confirmed."""
        self._ended: dict[str, HostOutcome] = {}
        """What became of each host that failed, or was returned because another one did."""
        self._failures = 0
        self._moved = False
        """Whether the last wave changed what any host serves; one that did not needs no pause and no soak."""

    def run(self) -> dict[str, dict[str, Any]]:
        """Switch every host, or raise Stopped with what became of each. Returns each host's answer to ``activate``."""
        self._refuse_unknown()
        self._once("before_activate", self._hosts)
        reached = 0
        while reached < len(self._waves) and self._switch(reached):
            reached += 1
        if reached == len(self._waves):
            self._once("after_activate", [host for host in self._hosts if host.name in self._switched])
        elif self._switched:
            self._tell_what_is_left_out()
        self._confirm()
        if len(self._switched) < len(self._hosts):
            stopped_at = f"wave {reached} of {len(self._waves)}" if reached else "before_activate"
            raise self._stopped(stopped_at if self._fanout.stopping else "activate")
        return self._switched

    def _switch(self, at: int) -> bool:
        """Switch one wave; False where Ctrl-C came before it did. Raises Stopped where too many hosts fail."""
        wave = self._waves[at]
        if at and self._moved:
            self._rest("pause", self._strategy.pause_s)
        ready = [] if self._fanout.stopping else self._own("before_activate", wave)
        if self._fanout.stopping:
            return False
        detail = f"wave {at + 1} of {len(self._waves)}: {_named(wave)}" if len(self._waves) > 1 else ""
        with step(self._emit, "activate", detail):
            results = self._fanout.each(ready, self._activate)
            self._switched.update(results.given)
            self._judge("activate", results.failed)
        self._own("after_activate", [host for host in wave if host.name in self._switched])
        self._moved = any(answer["from"] != answer["release"] for answer in results.given.values())
        if self._moved and self._strategy.soak_s:
            self._soak()
        return True

    def _activate(self, host: Host) -> dict[str, Any]:
        answer = host.activate(self._releases[host.name])
        return {name: answer[name] for name in ("release", "from", "proof")}

    def _soak(self) -> None:
        """Wait, then ask every host that has switched so far whether it is still well."""
        self._rest("soak", self._strategy.soak_s)
        hosts = [host for host in self._hosts if host.name in self._switched]
        with step(self._emit, "probe", _named(hosts)):
            results = self._fanout.each(hosts, lambda host: _unwell(host.name, host.probe()))
            unwell = {name: outcome for name, outcome in results.given.items() if outcome}
            self._judge("soak", {**results.failed, **unwell})

    def _rest(self, what: str, seconds: float) -> None:
        """Wait, with every line alive, or until Ctrl-C."""
        if seconds and not self._fanout.stopping:
            with step(self._emit, what, f"{seconds:g} s"):
                self._fanout.rest(seconds)

    def _once(self, point: str, hosts: Sequence[Host]) -> None:
        """Run the ``once`` hooks of a point. Raises Stopped where one fails: that is never tolerated."""
        for host, mine in self._assigned(point, hosts):
            with step(self._emit, point, f"once, on {host.name}"):
                results = self._ask_hooks(point, [host], [hook.text for hook in mine])
                self._judge(point, results.failed, tolerated=False)
                if self._fanout.stopping and not self._switched:
                    raise self._stopped(point)

    def _assigned(self, point: str, hosts: Sequence[Host]) -> list[tuple[Host, list[Hook]]]:
        """Each ``once`` hook falls to the first host that has it."""
        found: list[tuple[Host, list[Hook]]] = []
        taken: set[str] = set()
        for host in hosts:
            mine = [hook for hook in self._hooks(host, point) if hook.once and hook.text not in taken]
            taken.update(hook.text for hook in mine)
            if mine:
                found.append((host, mine))
        return found

    def _refuse_unknown(self) -> None:
        """Raise Stopped before any wave where a ``once`` hook was cut off on any host, whichever it falls to now."""
        unknown: dict[tuple[str, str], Host] = {}
        for host in self._hosts:
            keys: Sequence[Sequence[str]] = host.facts.get("unknown_hooks") or []
            unknown.update({(key[0], key[1]): host for key in keys})
        for point in ("before_activate", "after_activate"):
            for _, mine in self._assigned(point, self._hosts):
                for hook in mine:
                    host = unknown.get((point, hook.text[:300]))
                    if host and not hook.idempotent:
                        cause = f"{point} hook `{hook.text}` was cut off in an earlier run: its outcome is unknown"
                        failed = HostOutcome(host.name, Outcome.FAILED, host.serves, point, cause, MEND_HOOK)
                        self._ended[host.name] = failed
            if self._ended:
                raise self._stopped(point)

    def _own(self, point: str, hosts: Sequence[Host]) -> list[Host]:
        """Run the hosts' own hooks on those that have any; gives the hosts that may go on."""
        having = [host for host in hosts if any(not hook.once for hook in self._hooks(host, point))]
        if having:
            with step(self._emit, point):
                self._judge(point, self._ask_hooks(point, having, None).failed)
        return [host for host in hosts if host.name not in self._ended]

    def _judge(self, at: str, failed: Mapping[str, HostOutcome], *, tolerated: bool = True) -> None:
        """Leave hosts that failed on their own previous release while no more than ``max_failures`` do.

        Raises Stopped where there are more, or one can neither go on nor back: then every switched host returns.
        """
        if not failed:
            return
        self._failures += len(failed)
        why = "; ".join(outcome.problem for outcome in failed.values())
        apart = [host for host in self._hosts if host.name not in self._switched and host.name not in self._ended]
        self._ended.update(failed)
        enough = not tolerated or self._is_enough()
        self._return(why, [host for host in self._hosts if enough or host.name in failed])
        if not enough and self._is_enough():
            enough = True
            self._return(why, self._hosts)
        if at == "before_activate":  # a host that returned ran them on its way back
            self._ask_hooks("failed", [host for host in apart if enough or host.name in failed], None)
        if enough:
            raise self._stopped(at)

    def _is_enough(self) -> bool:
        stuck = any(outcome.outcome is Outcome.STUCK for outcome in self._ended.values())
        return stuck or self._failures > self._strategy.max_failures

    def _return(self, why: str, hosts: Sequence[Host]) -> None:
        """Return those of ``hosts`` that are switched, each to its own previous release, at the same time."""
        back = [host for host in hosts if host.name in self._switched]
        if not back:
            return
        with step(self._emit, "return", f"{_named(back)}, each to its own previous release"):
            results = self._fanout.each(back, lambda host: host.give_back(why))
        for host in back:
            del self._switched[host.name]
            outcome = results.given.get(host.name) or results.failed[host.name]
            first = self._ended.get(host.name)
            if first and not outcome.cause:
                outcome = replace(first, outcome=outcome.outcome, detail=outcome.detail)
            self._ended[host.name] = outcome

    def _confirm(self) -> None:
        open_hosts = [host for host in self._hosts if host.name in self._switched]
        if not open_hosts:
            return
        with step(self._emit, "confirm"):
            results = self._fanout.each(open_hosts, lambda host: host.confirm())
            for name, outcome in results.failed.items():
                del self._switched[name]
                self._ended[name] = outcome
            if results.failed:
                raise self._stopped("confirm")

    def _hooks(self, host: Host, point: str) -> list[Hook]:
        return commands.hooks_of(self._settings[host.name], point, host.run.verb, host.settings.levels)

    def _ask_hooks(self, point: str, hosts: Sequence[Host], once: Sequence[str] | None) -> Results[None]:
        return self._fanout.each(hosts, lambda host: host.hooks(self._releases[host.name], point, once=once))

    def _tell_what_is_left_out(self) -> None:
        left = {hook.text for host in self._hosts for hook in self._hooks(host, "after_activate") if hook.once}
        for text in sorted(left):
            self._emit(Notice(f"after_activate hook `{text}` runs once, after the last wave: it was not run"))

    def _stopped(self, at: str) -> Stopped:
        outcomes = [self._ended.get(host.name) or self._outcome(host) for host in self._hosts]
        return Stopped(at, outcomes, interrupted=self._fanout.stopping, answers=self._switched)

    def _outcome(self, host: Host) -> HostOutcome:
        if host.name in self._switched:
            return live_outcome(host, self._releases[host.name], self._switched[host.name])
        return HostOutcome(host.name, Outcome.UNCHANGED, host.serves)


def live_outcome(host: Host, release: str, answer: Mapping[str, Any]) -> HostOutcome:
    """What a host serves for good now, what proves it, and what it served before."""
    came_from = answer["from"]
    before = "it was live before" if came_from == release else f"before: {came_from or 'nothing'}"
    return HostOutcome(host.name, Outcome.LIVE, f"{release}, live: {answer['proof']}; {before}")


def _unwell(name: str, answer: Mapping[str, Any]) -> HostOutcome | None:
    if answer["well"]:
        return None
    cause = f"was well after the switch and is not any more: {answer['live']}"
    next_step = "read the service's own log on the host"
    return HostOutcome(name, Outcome.UNKNOWN, "switched, not confirmed", "soak", cause, next_step)


def _named(hosts: Sequence[Host]) -> str:
    """Up to four names, then how many more."""
    names = [host.name for host in hosts[:4]]
    more = [f"{len(hosts) - 4} more"] if len(hosts) > 4 else []
    return ", ".join(names + more)
