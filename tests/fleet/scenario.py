"""One seeded fleet: what it is, what goes wrong, and the oracle that must hold after every command.

``python -m tests.fleet.scenario SEED`` replays one and tells it.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.errors import ExitCode
from deploy.events import FleetStep, HostStep, Notice, RunEnded
from deploy.settings import Stage, Strategy
from tests.fleet.modelhost import Conversation, ModelHost
from tests.fleet.simulator import Bundle, ControlDied, Fault, World, bundle, deploy, hook, rollback, stage_of, status

MOST_HOSTS = 300
NOW = "v9"
PASTS = ((), ("v1",), ("v1", "v2"), ("v2", "v1"), ("v1", "v2", "v3"))
BEFORE, AFTER = ("hello", "lock", "offer", "blobs", "stage", "ready"), ("activate", "probe", "confirm", "prune")
"""Requests at which a line breaks, a host dies or somebody has a bug: before the switch, and around it."""
CUTS = (
    "line lost before", "line lost after", "line lost after, settles late", "host killed before", "host killed after",
    "bug in the answer", "bug on the host", "slow",
)  # fmt: skip
DEATHS = {"switch": "activate", "restart": "activate", "hook": "hooks", "return": "activate"}
"""Where the host program is killed in the middle of which request."""
STATES = (
    "away", "foreign", "problems", "no_room", "stages_badly", "ill", "ill", "ill", "flapping", "flapping",
    "rotten", "cannot_return", "hook",
)  # fmt: skip
AS_BEFORE = frozenset({"unchanged", "failed", "unreachable", "locked", "returned"})
LISTED = frozenset({"failed", "unreachable", "locked", "unknown", "stuck"})
NOTHING_CHANGED = (ExitCode.FAILED, ExitCode.RETURNED, ExitCode.LOCKED, ExitCode.BUG)


@dataclass
class Told:
    """What one fleet came to, for the figures."""

    hosts: int
    fired: Counter[str]
    codes: Counter[str] = field(default_factory=Counter)


def play(seed: int) -> Told:
    """Play one fleet to its end; an assertion that fails says how to replay it."""
    rng = random.Random(seed)
    world = World(rng, _hosts(rng))
    told = Told(len(world.hosts), world.fired)
    made, verb = bundle(NOW, _hooks(rng)), "rollback" if rng.random() < 0.25 else "deploy"
    stage = stage_of(world.hosts, _strategy(rng))
    try:
        with world.installed():
            if verb == "rollback":
                ended = deploy(world, replace(stage, waves=Strategy()), made)
                assert ended.exit_code == ExitCode.OK, ended
            _arm(world, rng, made.manifest.release_id, stage)
            _faulty(world, rng, verb, stage, made, told)
            _afterwards(world, rng, stage, made, told)
    except AssertionError as error:
        raise AssertionError(f"{error}\nreplay: python -m tests.fleet.scenario {seed}") from error
    told.fired = sum((host.fired for host in world.hosts.values()), world.fired)
    return told


def _hosts(rng: random.Random) -> dict[str, ModelHost]:
    """From 1 to 300 hosts, as many small fleets as large ones; on the same release, or each with a past of its own."""
    count = MOST_HOSTS if rng.random() < 0.02 else int(MOST_HOSTS ** rng.random() ** 1.5)
    pasts = [rng.choice(PASTS)] if rng.random() < 0.4 else list(PASTS)
    templates = [_with_past(past) for past in pasts]
    names = [f"web-{number}" for number in range(1, count + 1)]
    return {name: _copy(rng.choice(templates), name) for name in names}


def _with_past(tags: tuple[str, ...]) -> ModelHost:
    host = ModelHost("template")
    for tag in tags:
        made = bundle(tag).manifest
        talk = Conversation(host)
        context = {"stage": "sim", "groups": [], "host": "template", "verb": "deploy"}
        told = {"release": made.release_id, "verb": "deploy"}
        talk.answer("hello", {"run": f"old-{tag}", "context": context})
        talk.answer("lock", {"holder": {"by": "ann", "verb": "deploy"}})
        talk.answer("offer", {"manifest": made.to_json(), **told})
        for op in ("stage", "activate", "confirm"):
            assert talk.answer(op, told)["ok"]
        talk.end()
    return host


def _copy(host: ModelHost, name: str) -> ModelHost:
    return ModelHost(name, list(host.records), dict(host.releases), current=host.current)


def _hooks(rng: random.Random) -> dict[str, Any]:
    points: dict[str, Any] = {"failed": [hook("tell somebody")]}
    for point in ("before_activate", "after_activate"):
        points[point] = [hook(f"own {point}")] if rng.random() < 0.3 else []
        points[point] += [hook(f"once {point}", once=True)] if rng.random() < 0.3 else []
    return points


def _strategy(rng: random.Random) -> Strategy:
    percent = rng.random() < 0.5
    return Strategy(
        canary=rng.choice((0, 1, 1, 3)),
        batch=rng.choice((None, rng.randint(1, 50))),
        batch_is_percent=percent,
        pause_s=rng.choice((0.0, 60.0)),
        soak_s=rng.choice((0.0, 300.0)),
        max_failures=rng.choice((0, 0, 1, 5)),
        on=("deploy", "rollback"),
    )


def _arm(world: World, rng: random.Random, release: str, stage: Stage) -> None:
    """Decide what goes wrong, and where."""
    names = list(world.hosts)
    troubled = rng.choice((0, 1, 1, 2, 3, 4, max(2, len(names) // 10)))
    world.messages = world.moments = 0
    world.asked.clear()
    world.fired.clear()
    for host in world.hosts.values():
        host.fired.clear()
    for name in rng.sample(names, min(troubled, len(names))):
        host = world.hosts[name]
        roll = rng.random()
        if roll < 0.4:
            _spoil(world, host, rng.choice(STATES), rng, release)
        elif roll < 0.8:
            op = rng.choice(rng.choice((BEFORE, AFTER, AFTER, ("return",), ("hooks",))))
            world.faults[name] = [Fault(rng.choice(CUTS), op, rng.choice((1, 1, 2)))]
            if op == "return":  # asked only where another host fails
                world.hosts[rng.choice(names)].ill.add(release)
        else:
            at = rng.choice(list(DEATHS))
            world.faults[name] = [Fault(f"host killed at {at}", DEATHS[at])]
            if at == "return":
                host.ill.add(release)
    if rng.random() < 0.12:
        world.dies_at = rng.randint(1, 8 * len(names) + 4)
    if rng.random() < 0.15:
        world.interrupts = sorted(rng.sample(range(1, 10 * len(names) + 20), rng.choice((1, 2))))


def _spoil(world: World, host: ModelHost, what: str, rng: random.Random, release: str) -> None:
    if what == "away":
        world.away.add(host.name)
    elif what == "foreign":
        host.foreign = "ann@laptop"
    elif what == "problems":
        host.problems = [f"{host.name}: `current` is not a symbolic link"]
    elif what in ("ill", "flapping", "rotten"):
        getattr(host, what).update({release, *host.releases} - {host.current})
    elif what == "cannot_return":
        host.cannot_return = True
        host.ill |= {release} if rng.random() < 0.5 else set()
    elif what == "hook":
        host.bad_hooks.add(rng.choice(("before_activate", "after_activate")))
    else:
        setattr(host, what, True)


def _faulty(world: World, rng: random.Random, verb: str, stage: Stage, made: Bundle, told: Told) -> None:
    """The command that things go wrong in."""
    skip = rng.random() < 0.3
    before = len(world.events)
    for host in world.hosts.values():
        host.before = host.current
    try:
        if verb == "deploy":
            ended = deploy(world, stage, made, skip_unreachable=skip)
        else:
            ended = rollback(world, stage, None if rng.random() < 0.7 else "v1")
    except ControlDied:
        told.codes["died"] += 1
        return
    except (KeyError, TypeError):
        ended = next(event for event in reversed(world.events[before:]) if isinstance(event, RunEnded))
        assert ended.exit_code == ExitCode.BUG, ended
    told.codes[ExitCode(ended.exit_code).name] += 1
    _time_passes(world)
    judge(world, stage, ended, asked=made.manifest.release_id if verb == "deploy" else None)


def judge(world: World, stage: Stage, ended: RunEnded, *, asked: str | None) -> None:
    """The oracle: what was told of every host is true of it, and the exit code says what it promises."""
    words = {told.host: told.outcome for told in ended.hosts}
    details = {told.host: told.detail for told in ended.hosts}
    listed = "\n".join(ended.problems)
    assert list(words) == [host.name for host in stage.hosts], "every host is told of, in the stage's order"
    interrupted = ended.exit_code == ExitCode.INTERRUPTED
    for name, word in words.items():
        wrong = _contradiction(world, stage, name, word, asked or details[name].partition(",")[0])
        assert not wrong, f"{name} is told to be {word} ({details[name]}), but {wrong}: {ended}"
        if word in LISTED and not interrupted:
            assert f"{name}: " in listed, f"{name} is {word} and not in the closing block: {ended}"
    if ended.exit_code == ExitCode.OK:
        assert set(words.values()) == {"live"}, ended
    elif ended.exit_code in NOTHING_CHANGED:
        assert set(words.values()) <= AS_BEFORE, ended
    elif ended.exit_code == ExitCode.MIXED:
        assert {"live", "unknown", "stuck"} & set(words.values()), ended
        assert set(words.values()) != {"live"}, ended
        behind = [name for name, word in words.items() if word in ("returned", "failed") and f"{name}: " in listed]
        assert "live" not in words.values() or len(behind) <= stage.waves.max_failures, ended
    else:
        assert interrupted, ended
    if asked and any(asked not in host.releases for host in world.hosts.values() if host.name not in world.away):
        switched = [name for name in words if _switched(world.hosts[name], asked)]
        assert not switched, f"switched before every host was ready: {switched}: {ended}"


def _contradiction(world: World, stage: Stage, name: str, word: str, release: str) -> str:
    """How the word for a host differs from what is true of it; empty where it does not."""
    host = world.hosts[name]
    if word == "live" and release in host.flapping and stage.waves.soak_s:
        return "it was not well any more after the soak"
    if word == "live":
        is_live = host.current == release and not host.past.open_switch and host.past.past(release).live_seq
        return "" if is_live else f"{host.current} is live and open is {host.past.open_switch}"
    if word in AS_BEFORE:
        return "" if host.current == host.before else f"it was on {host.before} and is on {host.current}"
    known = name in world.touched or world.fired["ctrl-c"] or (word == "stuck" and host.fired["return failed"])
    return "" if word in ("unknown", "stuck") and known else "nothing happened to it"


def _switched(host: ModelHost, release: str) -> bool:
    return any(record["what"] == "switched" and record["to"] == release for record in host.records)


def _afterwards(world: World, rng: random.Random, stage: Stage, made: Bundle, told: Told) -> None:
    """Status tells the exact mix; an operator undoes it, or not; the same deploy then finishes by itself."""
    _time_passes(world)
    _mend(world)
    seen = status(world, stage)
    for row in seen["hosts"]:
        host = world.hosts[row["host"]]
        assert (row["current"] or {}).get("release") == host.current, row
        assert row["pending"] or not (host.pending or host.past.unknown_hooks), row
        assert row["lock"] is None, row
    mixed = len({host.current for host in world.hosts.values()}) > 1
    unsettled = any(host.pending or host.past.unknown_hooks for host in world.hosts.values())
    assert seen["exit_code"] == (ExitCode.MIXED if mixed or unsettled else ExitCode.OK), seen
    if rng.random() < 0.3:
        _start(world)
        ended = rollback(world, stage, None)
        judge(world, stage, ended, asked=None)
        assert ended.exit_code in (ExitCode.OK, ExitCode.FAILED), ended
    _start(world)
    ended = deploy(world, stage, made)
    judge(world, stage, ended, asked=made.manifest.release_id)
    if ended.exit_code != ExitCode.OK:  # the one thing that is left to a person
        unknown = [host for host in world.hosts.values() if host.past.unknown_hooks]
        assert unknown, ended
        assert ended.exit_code == ExitCode.FAILED, "it is said before anything is switched"
        assert "its outcome is unknown" in "\n".join(ended.problems), ended
        told.codes["once hook left to a person"] += 1
        _start(world)
        made = bundle("v10", {"before_activate": [hook("once before_activate", once=True, idempotent=True)]})
        ended = deploy(world, stage, made)
    assert ended.exit_code == ExitCode.OK, ended
    assert {host.current for host in world.hosts.values()} == {made.manifest.release_id}


def _time_passes(world: World) -> None:
    """Every host notices that nobody speaks with it any more, and settles."""
    for host in world.hosts.values():
        if host.holder:
            host.holder.end()


def _mend(world: World) -> None:
    """What was wrong is not any more."""
    world.away.clear()
    world.faults.clear()
    world.interrupts, world.dies_at, world.dead = [], 0, False
    for host in world.hosts.values():
        host.foreign, host.problems = "", []
        host.no_room = host.stages_badly = host.cannot_return = False
        host.ill, host.flapping, host.rotten, host.bad_hooks = set(), set(), set(), set()


def _start(world: World) -> None:
    for host in world.hosts.values():
        host.before = host.current


def _replay(seed: int) -> None:
    """Tell one fleet, step by step."""
    emit = World.emit

    def tell(world: World, event: Any) -> None:
        if isinstance(event, FleetStep | HostStep | Notice | RunEnded):
            print(event)
        emit(world, event)

    World.emit = tell  # type: ignore[method-assign]
    print(play(seed))


if __name__ == "__main__":
    _replay(int(sys.argv[1]))
