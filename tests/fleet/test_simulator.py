"""A thousand seeded fleets of 1 to 300 hosts, and the proof that a model host answers as the real program does."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.hostprogram import host_program
from deploy.link.launch import exec_line
from deploy.link.line import Line
from deploy.link.local import LocalPipe
from tests.fleet.modelhost import ModelHost
from tests.fleet.scenario import play
from tests.fleet.simulator import FakeLine, World

FLEETS, CHUNKS = 1000, 10
FIRST = int(os.environ.get("SEALED_DEPLOY_SEED", "0"))
"""Where the seeds begin: other fleets than CI's are a number away."""
KINDS = {
    "bug in the answer", "bug on the host", "control died", "ctrl-c", "hook failed", "host killed after",
    "host killed at hook", "host killed at restart", "host killed at return", "host killed at switch",
    "host killed before", "line lost after", "line lost after, settles late", "line lost before", "locked", "no room",
    "not fit", "refused before the switch", "return failed", "slow", "staging failed", "unhealthy", "unreachable",
    "unwell when asked again",
}  # fmt: skip
Make = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_simulated_fleets(chunk: int, record_property: Callable[[str, object], None]) -> None:
    """Whatever goes wrong: what is told of each host is true, and the same deploy afterwards finishes by itself."""
    fired: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    hosts = 0
    size = FLEETS // CHUNKS
    for seed in range(FIRST + chunk * size, FIRST + (chunk + 1) * size):
        told = play(seed)
        fired += told.fired
        codes += told.codes
        hosts += told.hosts
    assert set(fired) <= KINDS
    record_property("counted: simulated", {"fleets": size, "hosts": hosts, **codes, **fired})


def test_every_kind_of_fault_fires() -> None:
    """A fault that never happens proves nothing: among the first fleets each kind does."""
    fired: Counter[str] = Counter()
    seed = 0
    while set(fired) != KINDS and seed < 600:
        fired += play(seed).fired
        seed += 1
    assert set(fired) == KINDS


class Twins:
    """A model host and a real one that are asked the same; every answer must be the same in what the fleet reads."""

    def __init__(self, fleet: Any) -> None:
        self.fleet = fleet
        self.model = ModelHost("web-1")
        self.world = World(random.Random(0), {"web-1": self.model})

    def begin(self, run: str, verb: str = "deploy") -> Talk:
        """Open a line to each and say hello."""
        program = host_program()
        words = exec_line(self.fleet.stage().hosts[0].python, program.sha256, str(self.fleet.root("web-1")))
        pipe = LocalPipe(words)
        real = Line(pipe, silence_s=20)
        real.greet(program.data)
        model = FakeLine(self.model, self.world)
        model.greet(b"")
        talk = Talk(self, real, model, pipe)
        policy = {"allow_root": True, "build_user": None, "accept_seal": "pip", "step_s": 60}
        context = {"stage": "test", "host": "web-1", "groups": [], "verb": verb}
        talk.ask("hello", run=run, operator="tester", context=context, policy=policy)
        talk.run = run
        return talk

    def ill(self, tag: str, release: str) -> None:
        """Make a release unhealthy on both."""
        self.fleet.ill("web-1", tag)
        self.model.ill.add(release)


class Talk:
    """One conversation with both."""

    def __init__(self, twins: Twins, real: Line, model: FakeLine, pipe: LocalPipe) -> None:
        self.twins, self.real, self.model, self.pipe, self.run = twins, real, model, pipe, ""

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """Ask both one thing; gives what they agree on."""
        operator = self.twins.fleet.stage().hosts[0]
        said = {"restart": operator.restart.to_json(), "stop": None, "health": operator.health.to_json()}
        if op in ("activate", "probe"):
            request.update(operator=said, verb="deploy")
        heard = self.real.ask(op, lambda _: None, **request), self.model.ask(op, None, **request)
        real, model = (self._read(answer) for answer in heard)
        assert real == model, op
        return real

    def take(self, made: Any) -> None:
        """Lock, offer, send and stage on both."""
        self.ask("lock", holder={"by": "tester", "run": self.run, "verb": "deploy"})
        manifest = made.manifest
        request = {"manifest": manifest.to_json(), "target": 0, "release": manifest.release_id, "host_needs": []}
        need = self.real.ask("offer", lambda _: None, **request)["need"]
        self.model.ask("offer", None, **request)
        contents = [(digest, lambda d=digest: made.read(d)) for digest in need]
        assert self.real.blobs(contents, lambda _: None)["ok"] is self.model.blobs([], None, None)["ok"] is True
        self.ask("stage")

    def close(self) -> None:
        """Both lines end, and both hosts settle."""
        self.real.close()
        self.model.close()

    def _read(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What the fleet reads of an answer, without words for people and what a model cannot know."""
        found = {key: answer[key] for key in ("ok", "outcome", "release", "from", "well", "present") if key in answer}
        if "error" in answer:
            found["error"] = {key: answer["error"].get(key) for key in ("kind", "step", "switched", "current")}
        if "failure" in answer:
            found["failed at"] = answer["failure"]["step"]
        if "migrations" in answer:  # of `ready`
            found["mends"] = [problem["mends"] for problem in answer["problems"]]
            found["migrations"] = answer["migrations"]
        if "ending" in answer:
            found["ending"] = {key: answer["ending"][key] for key in ("outcome", "release", "from")}
        if "recovered" in answer:
            found["recovered"] = [one.get("outcome") or one["do"] for one in answer["recovered"]]
        if "current" in answer.get("facts", {}):
            found["facts"] = self._facts(answer["facts"])
        return found

    def _facts(self, facts: dict[str, Any]) -> dict[str, Any]:
        rows = {row["release"]: (row["state"], row["bad"]) for row in facts["releases"]}
        return {
            "current": facts["current"],
            "releases": rows,
            "candidates": facts["rollback_candidates"],
            "pending": facts["pending"],
            "lease": facts["lease"] and (facts["lease"]["release"], facts["lease"]["from"]),
            "runs": [(run["verb"], run["outcome"]) for run in facts["runs"]],
            "lock": facts["lock"] and facts["lock"].get("run"),
        }


@pytest.fixture
def twins(bare: Any, bundle: Make) -> Twins:
    """A real host and a model host on which v1 is live, each brought there by the same conversation."""
    made = Twins(bare)
    first = bundle("v1")
    talk = made.begin("first")
    talk.take(first)
    assert talk.ask("activate", release=first.manifest.release_id)["outcome"] == "live"
    talk.ask("confirm")
    talk.close()
    return made


@pytest.mark.slow
def test_a_model_host_answers_as_the_real_program_does(twins: Twins, bundle: Make) -> None:
    """Staging, switching, returning, hooks, locks, fences, a lost line and its settling, a killed program."""
    hooks = {
        "before_activate": [{"run": "true", "once": True}, "true"],
        "after_activate": "false",
        "failed": "true",
    }
    first, second, third = bundle("v1"), bundle("v2", **hooks), bundle("v3")
    one, two, three = (made.manifest.release_id for made in (first, second, third))
    twins.model.bad_hooks.add("after_activate")

    talk = twins.begin("two")
    talk.take(second)
    busy = twins.begin("other")
    assert busy.ask("lock", holder={"by": "ann", "run": "other", "verb": "deploy"})["error"]["kind"] == "locked"
    busy.close()
    assert talk.ask("ready", release="v7-00000000")["mends"] == [True]
    assert talk.ask("ready", release=two)["mends"] == []
    told = {"release": two, "verb": "deploy"}
    assert talk.ask("hooks", point="before_activate", once=["true"], **told)["ok"]
    assert talk.ask("hooks", point="before_activate", once=None, **told)["ok"]
    assert talk.ask("activate", release=two)["outcome"] == "live"
    assert talk.ask("probe")["well"]
    assert talk.ask("hooks", point="after_activate", once=None, **told)["error"]["switched"]
    assert talk.ask("return", why="a hook failed")["outcome"] == "returned"
    assert talk.ask("activate", release=one)["from"] == one
    assert talk.ask("return", why="somebody else failed")["outcome"] == "unchanged"
    assert talk.ask("unlock")["ok"]
    talk.close()

    twins.ill("v3", three)
    talk = twins.begin("three")
    talk.take(third)
    assert talk.ask("activate", release=three) == {
        "ok": True, "outcome": "returned", "release": three, "from": one, "failed at": "health",
    }  # fmt: skip
    assert talk.ask("activate", release=two)["outcome"] == "live"
    talk.close()  # the host settles: it is well, and stays

    talk = twins.begin("three")
    seq = {"seq": 10_000, "wait_s": 30, "holder": {"by": "tester", "run": "three", "verb": "deploy"}}
    assert talk.ask("resume", **seq)["ending"] == {"outcome": "live", "release": two, "from": one}
    assert talk.ask("probe", seq=1)["error"]["kind"] == "fenced"
    assert talk.ask("return", why="somebody else failed")["outcome"] == "returned"
    talk.close()

    talk = twins.begin("four")
    talk.ask("lock", holder={"by": "tester", "run": "four", "verb": "deploy"})
    assert talk.ask("activate", release=two)["outcome"] == "live"
    killed(talk)
    talk = twins.begin("five")
    granted = talk.ask("lock", holder={"by": "tester", "run": "five", "verb": "deploy"})
    assert granted["recovered"] == ["live"]
    assert granted["facts"]["current"] == two
    assert talk.ask("prune", keep=5)["ok"]
    talk.close()


def killed(talk: Talk) -> None:
    """Kill -9 of the real program, and the model's word for it."""
    shell = talk.pipe._child.pid
    for pid in Path(f"/proc/{shell}/task/{shell}/children").read_text().split() or [shell]:
        os.kill(int(pid), signal.SIGKILL)
    talk.pipe._child.wait()
    talk.real.close()
    conversation = talk.model._talk
    assert conversation
    conversation.kill()
