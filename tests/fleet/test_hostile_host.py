"""A host that lies, in good framing: the run ends, bounded, and no terminal obeys what it says."""

from __future__ import annotations

import contextlib
import io
import json
import queue
import re
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.errors import ExitCode
from deploy.events import Event, RunEnded
from deploy.fleet import shape, survey
from deploy.fleet.run import FleetRun
from deploy.link import line as lines
from deploy.link.pipe import Pipe
from deploy.report import answers, tables
from deploy.report.live import Live
from deploy.report.plain import Plain
from deploy.report.records import Records
from deploy.settings import Deadlines, HostSettings, Stage, Trust
from deploy.wire import framing

EVIL = (
    "\x1b[2J\x1b[31mred", "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07", "\x1b]52;c;Y3VybCBldmls\x07", "a\x00b",
    "over\rwritten", "\u202egnp.exe", "\x9b31m", "\ud800", "line\u2028two",
    "\x08\x08\x08", "\x1bP+q544e\x1b\\", "x" * 100_000,
)  # fmt: skip
GOOD: dict[str, Any] = {
    "python": "3.11.2", "platform": "linux_x86_64", "user": "deploy", "clock": 1.0, "problems": [], "current": None,
    "previous": None, "releases": [], "pending": [], "lock": None, "free_bytes": 1 << 30, "rollback_candidates": [],
}  # fmt: skip
ROW: dict[str, Any] = {
    "release": "v1-01234567", "tag": "v1", "commit": "c" * 40, "state": "ACTIVE", "bad": False, "seq": 3, "live_seq": 3,
    "staged_at": 1.0, "live_at": 2.0, "by": "me", "sealed": "kernel", "proof": "x",
}  # fmt: skip
Say = Callable[[str], Iterator[bytes]]


def event(**fields: Any) -> bytes:
    """Something a host tells."""
    return framing.pack_json({"t": "event", "step": "build", "state": "done", "detail": "", **fields})


def answer(op: str, **fields: Any) -> bytes:
    """Something a host answers."""
    return framing.pack_json({"t": "answer", "op": op, "ok": True, **fields})


class Liar:
    """A pipe whose far end answers each request with what ``say`` gives for it."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._out: queue.Queue[bytes | Iterator[bytes]] = queue.Queue()
        self._now: Iterator[bytes] = iter(())
        self._decoder = framing.Decoder()
        self._greeted = False
        self.closed = False
        self.given = 0

    def open(self) -> None:
        pass

    def send(self, data: memoryview) -> int:
        if not self._greeted:
            self._greeted = True
            nonce = bytes(data)[len(framing.MAGIC) :].decode("ascii").strip()
            self._out.put(iter([framing.answer(nonce, "have")]))
            return len(data)
        for frame in self._decoder.feed(bytes(data)):
            if frame.kind != framing.BEAT:
                self._out.put(self._say(str(frame.json().get("op"))))
        return len(data)

    def receive(self, size: int) -> bytes:
        while True:
            if self.closed:
                return b""
            for data in self._now:
                self.given += len(data)
                return data
            try:
                self._now = self._out.get(timeout=0.1)  # type: ignore[assignment]
            except queue.Empty:
                continue

    def ending(self) -> tuple[int | None, str]:
        return 255, "\x1b[31mstderr of the host\x07"

    def close(self) -> None:
        self.closed = True


def stage_of(*names: str) -> Stage:
    """Hosts of a stage."""
    return Stage("test", tuple(_host(name) for name in names), Trust(), 0.0)


def _host(name: str) -> HostSettings:
    return HostSettings(
        name=name, stage="test", address=name, port=None, user=None, identity=None, known_hosts=(), groups=(),
        root="/srv/demo", python="python3", local=True, restart=None, stop=None, health=None, service=None, keep=5,
        deadlines=Deadlines(silence_s=3), allow_root=False, build_user=None, accept_seal="kernel",
    )  # fmt: skip


class Screens:
    """Every sink at once, on streams that remember."""

    def __init__(self) -> None:
        self.plain, self.live, self.json = io.StringIO(), io.StringIO(), io.StringIO()
        self._sinks = [Plain(self.plain, verbose=True), Live(self.live, verbose=True), Records(self.json)]
        self.events: list[Event] = []

    def __call__(self, one: Event) -> None:
        self.events.append(one)
        for sink in self._sinks:
            sink(one)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def check(self) -> None:
        """Nothing on any of them acts on a terminal, and JSON is JSON."""
        for line in self.plain.getvalue().split("\n"):
            assert line.isprintable(), ascii(line[:200])
            assert len(line) < 12_000
        drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.live.getvalue())  # rich's own colours and cursor
        assert all(line.isprintable() for line in drawn.replace("\r", "").split("\n")), ascii(drawn[:300])
        for line in self.json.getvalue().splitlines():
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
            assert line.isascii()


def ask(say: Say, verb: str = "check", **others: Say) -> tuple[Screens, RunEnded | None, Liar]:
    """Run ``check`` on that host, and on others beside it."""
    screens = Screens()
    pipes: dict[str, Liar] = {name: Liar(one) for name, one in {"evil": say, **others}.items()}

    def open_pipe(host: HostSettings, _: str) -> Pipe:
        return pipes[host.name]

    run = FleetRun(
        verb, stage_of(*pipes), screens, operator="tester", program=(b"x", "0" * 64), open_pipe=open_pipe, tag="v1"
    )

    def check(phases: Any) -> RunEnded:
        from deploy.fleet import preflight

        run.connect(phases, usable=False)
        return run.ended([preflight.outcome_of(host) for host in phases.hosts], "checked")

    try:
        ended = run.guard(check)
    finally:
        screens.close()
    return screens, ended, pipes["evil"]


def honest(op: str) -> Iterator[bytes]:
    """A host that says what it should."""
    yield answer(op, facts=GOOD)


@pytest.mark.parametrize("text", EVIL, ids=lambda text: ascii(text)[:20])
def test_no_text_of_a_host_acts_on_the_terminal(text: str) -> None:
    """In facts, problems, events, log tails and errors, on every sink."""

    def say(op: str) -> Iterator[bytes]:
        yield event(step=text, detail=f"{text}\n{text}", state=text, data={"x": text, text: 1})
        facts = {**GOOD, "python": text, "platform": text, "user": text, "problems": [text], "pending": [text]}
        yield answer(op, facts=facts)

    screens, ended, _ = ask(say)
    assert ended is not None
    assert ended.exit_code == ExitCode.FAILED
    screens.check()

    def fail(op: str) -> Iterator[bytes]:
        error = {"kind": text, "step": text, "cause": text, "next": text, "log": [text] * 50}
        yield framing.pack_json({"t": "answer", "op": op, "ok": False, "error": error})

    screens, ended, _ = ask(fail)
    assert ended is not None
    assert ended.exit_code == ExitCode.FAILED
    screens.check()


@pytest.mark.parametrize(
    "lie",
    [
        {"clock": "now"}, {"clock": 1e300}, {"clock": -5}, {"releases": [{}]}, {"releases": "all"},
        {"current": "../../etc"},
        {"current": 7}, {"releases": [{**ROW, "release": "v1\x1b-01234567"}]}, {"releases": [{**ROW, "live_at": 1e15}]},
        {"releases": [{**ROW, "seq": "9"}]}, {"problems": "none"}, {"problems": [1]}, {"pending": {}},
        {"free_bytes": "lots"},
        {"lock": {"by": ["x"]}}, {"lock": {"since": 1e18}}, {"lock": "me"}, {"python": None}, {"user": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_lie_in_the_facts_fails_that_host_alone(lie: dict[str, Any]) -> None:
    """Named, with the field; not a bug of this side, and the host beside it is checked as ever."""

    def say(op: str) -> Iterator[bytes]:
        yield answer(op, facts={**GOOD, **lie})

    screens, ended, _ = ask(say, good=honest)
    assert ended is not None
    assert ended.exit_code == ExitCode.FAILED
    assert {host.host: host.outcome for host in ended.hosts}["evil"] == "failed"
    assert "does not speak as the host program does" in "\n".join(ended.problems)
    assert next(iter(lie)) in "\n".join(ended.problems) or "releases" in lie or "lock" in lie
    screens.check()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"t":"answer","op":"hello","ok":true,"facts":{"clock":NaN}}',
        b'{"t":"answer","op":"hello","ok":true,"facts":{"clock":Infinity}}',
        b'{"t":"answer","op":"hello","ok":true,"facts":{"clock":1e999}}',
        b'{"t":"answer","op":"hello","ok":true,"facts":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"t":"answer","op":"hello","ok":true,"facts":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"t":"answer","op":"hello","ok":' + b"9" * 5000 + b"}",
        b'{"t":"answer","op":"hello"}',
        b'{"t":"answer","op":"hello","ok":false}',
        b'{"t":"answer","op":"hello","ok":false,"error":[]}',
        b'["answer"]',
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_a_lost_line(raw: bytes) -> None:
    """Numbers that JSON does not know, nesting without end, other types: named, and nothing of it shown."""

    def say(_: str) -> Iterator[bytes]:
        yield framing.pack(framing.JSON, raw)

    screens, ended, _ = ask(say, good=honest)
    assert ended is not None
    assert ended.exit_code == ExitCode.FAILED
    assert "line lost" in "\n".join(ended.problems)
    screens.check()


def test_endless_events_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that tells for ever and answers nothing is lost after so many events."""
    monkeypatch.setattr(lines, "TOLD_TIMES", 500)

    def say(_: str) -> Iterator[bytes]:
        while True:
            yield event(detail="still busy")

    screens, ended, _ = ask(say)
    assert ended is not None
    assert "tells without end" in "\n".join(ended.problems)
    assert len(screens.events) < 600


def test_a_flood_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte on offer is read no further than what may be told before an answer."""
    monkeypatch.setattr(lines, "ANSWER_CAP_BYTES", 4 << 20)
    piece = framing.pack(framing.JSON, json.dumps({"t": "event", "step": "x", "detail": "y" * 100_000}).encode())

    def say(_: str) -> Iterator[bytes]:
        yield from [piece] * 10_000

    tracemalloc.start()
    try:
        _, ended, liar = ask(say)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ended is not None
    assert "without an answer" in "\n".join(ended.problems)
    assert liar.given < 16 << 20
    assert most < 64 << 20


def test_a_frame_that_is_too_large_is_not_waited_for() -> None:
    """Its length alone is the end, before its bytes come; so is one that inflates to more."""
    import zlib

    huge = b"J" + (lines.ANSWER_BYTES + 1).to_bytes(4, "big")
    bomb = framing.pack(framing.ZLIB_JSON, zlib.compress(b'{"a":"' + b" " * (lines.ANSWER_BYTES + 10) + b'"}'))
    for data in (huge, bomb):
        screens, ended, _ = ask(lambda _, data=data: iter([data]))
        assert ended is not None
        assert "line lost" in "\n".join(ended.problems)
        screens.check()


@pytest.mark.parametrize("text", EVIL[:-1], ids=lambda text: ascii(text)[:20])
def test_status_and_releases_tables(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of tags, holders, commits and proofs from a host's journal, on a screen and as JSON."""
    row = {**ROW, "tag": text, "commit": text, "by": text, "state": text, "sealed": text}
    facts = {**GOOD, "releases": [row], "current": ROW["release"], "lock": {"by": text, "verb": text, "since": 5}}

    def say(op: str) -> Iterator[bytes]:
        yield answer(op, facts=facts) if op == "hello" else answer(op, live=text, well=True)

    screens = Screens()
    run = FleetRun(
        "status", stage_of("evil"), screens, operator="t", program=(b"x", "0" * 64), open_pipe=lambda *_: Liar(say)
    )
    found = survey.survey(run, probe=True)
    for shown in (answers.show_status, answers.show_releases):
        shown(found, json=False)
        assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))
        shown(found, json=True)
        out = capsys.readouterr().out
        assert out.isascii()
        assert json.loads(out)["hosts"][0]["current"]["tag"] == text or "\ud800" in text


RECORDED = {"known": None, "current": ["app.0001"], "applied": []}
HOOK = {"run": "x", "once": True, "on": ["deploy"], "timeout_s": 3.0, "idempotent": False, "user": None, "sealed": True}
PROBLEM = {"cause": "gone", "next": "", "mends": True, "log": []}
RECORD = {"seq": 3, "at": 5.0, "run": "r", "what": "lock", "by": "ann", "verb": "deploy"}
ANSWERS: dict[str, dict[str, Any]] = {
    "ready": {"problems": [PROBLEM], "settings": {"hooks": {"app": {"probe": [HOOK]}}}, "migrations": RECORDED},
    "migrations": {"known": None, "pending": None, "failed": None, "log": [], "undo": [], "recorded": RECORDED},
    "log": {"records": [RECORD]}, "pin": {"changed": []}, "stage": {"facts": {}},
    "freeze": {"frozen": {"by": "ann", "reason": "audit", "since": 5.0, "until": None}}, "thaw": {"was": None},
    "prune": {"pruned": [], "kept": {"v1-00000000": "live"}, "in_use": [], "free": 5},
}  # fmt: skip
LIES: list[tuple[str, str, Any]] = [
    ("ready", "problems", [{**PROBLEM, "mends": "no"}]), ("ready", "problems", None),
    ("ready", "settings", {"hooks": {"app": {"probe": ["rm"]}}}), ("ready", "settings", {"hooks": []}),
    ("ready", "settings", {"hooks": {"app": {"probe": [{**HOOK, "on": None}]}}}), ("ready", "migrations", {}),
    ("ready", "migrations", {**RECORDED, "applied": [1]}), ("migrations", "undo", [["x"]]),
    ("migrations", "known", "app.0001"), ("migrations", "recorded", None), ("log", "records", [{}]),
    ("log", "records", [{**RECORD, "at": 1e300}]), ("log", "records", [{**RECORD, "by": {}}]), ("pin", "changed", {}),
    ("freeze", "frozen", {"since": "x"}), ("freeze", "frozen", None), ("thaw", "was", []), ("stage", "facts", []),
    ("prune", "kept", ["v1"]), ("prune", "free", "much"), ("prune", "in_use", {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "name", "lie"), LIES, ids=str)
def test_a_lie_in_any_other_answer_is_named(op: str, name: str, lie: Any) -> None:
    """The true answer is let through; with one field wrong, or without it, it is no answer."""
    shape.checked(op, {"ok": True, **ANSWERS[op]})
    with pytest.raises(shape.Misshapen):
        shape.checked(op, {"ok": True, **ANSWERS[op], name: lie})
    with pytest.raises(shape.Misshapen, match=f"lacks {name}"):
        shape.checked(op, {"ok": True, **{key: value for key, value in ANSWERS[op].items() if key != name}})


# The report alone, by property

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_whatever_a_host_tells_every_sink_is_sound(step: str, detail: str, state: str, data: Mapping[str, str]) -> None:
    """Printable lines, and one JSON object a line."""
    from deploy.events import HostEnded, HostStep, Notice
    from deploy.report.words import closing, describe

    told: list[Event] = [
        HostStep(step, step, "failed", detail, 1.0, data), Notice(detail, step), HostEnded(step, state, detail),
        RunEnded("deploy", step, 1, detail, 1.0, (HostEnded(step, state, detail),), step, (detail,), state, detail,
                 None, step),
    ]  # fmt: skip
    for one in told:
        shown = closing(one, [step], None) if isinstance(one, RunEnded) else describe(one, verbose=True)
        assert all(line.isprintable() for line in shown)
        out = io.StringIO()
        Records(out)(one)
        assert out.getvalue().count("\n") == 1
        json.loads(out.getvalue())


def _with_one_leaf_exchanged(value: Any, other: Any, number: int) -> Any:
    """The same structure, with the nth thing in it, in the order of a walk, being another."""
    count = -1

    def walk(one: Any) -> Any:
        nonlocal count
        count += 1
        if count == number and count:
            return other
        if isinstance(one, dict):
            return {key: walk(inner) for key, inner in one.items()}
        return [walk(inner) for inner in one] if isinstance(one, list) else one

    return walk(value)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200, deadline=None)
@given(st.sampled_from([*sorted(shape._ANSWERS), "other"]), st.data())
def test_whatever_is_answered_is_believed_or_named(op: str, data: st.DataObject) -> None:
    """No answer, however it is made, raises anything but Misshapen; one field of a true one is anything at all."""
    facts, more = data.draw(_JSON), data.draw(_JSON)
    true = ANSWERS.get(op, {"facts": GOOD, "seq": 1, "recovered": []})
    one = _with_one_leaf_exchanged(true, more, data.draw(st.integers(0, 40)))
    for value in (
        {"ok": True, "facts": facts, "need": more, "error": more},
        {"ok": False, "error": facts},
        {"ok": True, **true, data.draw(st.sampled_from(sorted(true))): more},
        {"ok": True, **one},
    ):
        with contextlib.suppress(shape.Misshapen):
            shape.checked(op, value)


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_tables_of_whatever_text(cells: list[str]) -> None:
    """One line a row."""
    row = {"release": cells[0], "tag": cells[-1], "by": cells[0], "state": cells[-1], "seq": 1}
    found = {"stage": cells[0], "hosts": [{"host": cells[0], "releases": [row], "current": row, "error": cells[-1]}]}
    for line in [*tables.aligned(tables.STATUS_COLUMNS, tables.status_rows(found)), *tables.remarks(found)]:
        assert line.isprintable()
    for line in tables.aligned(tables.RELEASES_COLUMNS, tables.releases_rows(found)):
        assert line.isprintable()


def test_a_saved_crash_report_is_read_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what a host said, escaped, and nothing of the environment."""
    from deploy.tasks import boundary

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("SSH_KEY_PASSPHRASE", "canary-passphrase")
    monkeypatch.setenv("HARMLESS", "canary-of-the-environment")
    try:
        raise RuntimeError(EVIL[0] + " canary-passphrase")
    except RuntimeError as error:
        saved = boundary.save("deploy", error).read_text()
    assert "\\x1b[2J" in saved
    assert all(line.isprintable() for line in saved.split("\n"))
    assert "canary" not in saved.replace('" canary-passphrase"', "")
