"""Values of env_files: given to hooks, and said by nothing else; canaries are hunted wherever a value could be told."""

from __future__ import annotations

import copy
import json
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.onhost import hooks, marker
from deploy.onhost.children import CUT, HEAD_BYTES, Children, Command
from deploy.onhost.hooks import Context
from deploy.onhost.secret import FROM_CHARS, REDACTED, Secret, redact
from deploy.onhost.session import Session, StepFailed
from deploy.wire.names import ReleaseId

Make = Callable[..., ReleaseId]
CANARIES = {
    "PLAIN": "canary-hunter2",
    "QUOTED": 'it\'s "canary" \\ quoted',
    "BASE64": "Y2FuYXJ5IGNhbmFyeQ==",
    "PERCENT": "canary/with?&=%#",
    "UNICODE": "canäry-漢字",
    "SPACED": "canary with   blanks",
    "LONG": "canary-" + "0123456789abcdef" * 40,
    "SHORT": "ab1",
}


def env_file(path: Path) -> None:
    """Write all canaries into an env file, as people write them."""
    lines = [f"{name}={value}" for name, value in CANARIES.items()]
    lines.append('KEY="-----BEGIN PRIVATE KEY-----\ncanaryline\n-----END PRIVATE KEY-----"')
    path.write_text("\n".join(lines) + "\n", "utf-8")


def canaries_in(text: str) -> list[str]:
    """Which of them, short one aside, can be read there."""
    return [name for name, value in CANARIES.items() if name != "SHORT" and value in text]


def test_whatever_is_done_with_it_says_redacted() -> None:
    """As text, by repr, formatted, joined, in JSON, in a dataclass and in a traceback; only ``reveal`` tells."""
    secret = Secret("canary")
    command = Command(["x"], "/", {"A": secret}, 1, "hook", "x")
    said = [
        str(secret), repr(secret), f"{secret!s:>20}", "%s %r" % (secret, secret), f"{secret},{secret}", secret + "",
        json.dumps({"a": [secret]}), repr(command), repr({"a": secret}), secret.encode().decode(), secret[:],
        secret.upper(),
    ]  # fmt: skip
    assert not [text for text in said if "canary" in text.lower()]
    assert all("redacted" in text.lower() for text in said)
    try:
        raise KeyError(secret)
    except KeyError:
        assert "canary\n" not in traceback.format_exc().replace('Secret("canary")', "")
    assert secret.reveal() == "canary"
    assert len({Secret("a"), Secret("b")}) == 2
    for leave in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not pickled"):
            leave(secret)


@pytest.mark.parametrize("name", [name for name in CANARIES if name != "SHORT"])
def test_as_others_would_spell_it(name: str) -> None:
    """Raw, in JSON, as Python's repr, in a URL, quoted for a shell."""
    import shlex
    from urllib.parse import quote, quote_plus

    value = CANARIES[name]
    spelled = [value, json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), quote(value)]
    spelled += [quote(value, safe=""), quote_plus(value), shlex.quote(value)]
    for text in spelled:
        assert text.strip("'\"") not in redact(f"before {text} after", {name: Secret(value)})
    assert redact(f"before {value} after", {name: Secret(value)}) == f"before {REDACTED} after"


@given(st.text(min_size=FROM_CHARS), st.text(), st.text())
def test_no_value_is_left_whatever_stands_around(value: str, before: str, after: str) -> None:
    """Unless the mark that takes its place holds it."""
    left = redact(before + value + after, {"X": Secret(value)})
    assert value not in left.replace(REDACTED, "\0") or value == "\0"


@given(st.text(min_size=FROM_CHARS * 2, alphabet=st.characters(exclude_characters="[]. \n")), st.integers(0, 100))
def test_no_half_of_a_value_is_left_where_output_was_cut(value: str, at: int) -> None:
    """Head and tail of a long output may end and begin inside of a value."""
    at = at % len(value)
    left = redact("head " + value[:at] + CUT + value[at:] + " tail", {"X": Secret(value)}, cut=CUT)
    head, _, tail = left.partition(CUT)
    assert at < FROM_CHARS or not head.endswith(value[:at])
    assert len(value) - at < FROM_CHARS or not tail.startswith(value[at:])


@pytest.fixture
def secretive(session: Session) -> Session:
    """A host with the canaries in shared/.env."""
    env_file(session.layout.shared / ".env")
    return session


def run(session: Session, context: Context, name: ReleaseId, shell: str) -> Any:
    """Run one command in the release's environment."""
    command = hooks.Configured(["/bin/sh", "-c", shell], "before_activate", 30)
    return hooks.configured(session, context, marker.read(session.layout, name).manifest, command)


def test_a_hook_that_prints_its_whole_environment(secretive: Session, context: Context, release: Make) -> None:
    """It has every value, the short one too, and none of them comes back, however it spells them."""
    name = release("v1", env_files=["shared/.env"])
    spell = "import json, os, urllib.parse; print(json.dumps(dict(os.environ)), dict(os.environ), urllib.parse.urlencode(os.environ))"  # noqa: E501
    done = run(secretive, context, name, f'env; {sys.executable} -c "{spell}"; printf "%s" "$SHORT" | wc -c')
    assert done.ok, done.output
    assert done.output.count(REDACTED) >= 3 * 7
    assert canaries_in(done.output) == []
    assert done.output.split()[-1] == "3"
    assert "canary" not in done.output.replace("canaryline", "")


def test_a_value_at_the_cut_of_a_long_output(secretive: Session, context: Context, release: Make) -> None:
    """The output's head ends in the middle of it."""
    name = release("v1", env_files=["shared/.env"])
    fill = HEAD_BYTES - 20
    done = run(secretive, context, name, f'head -c {fill} /dev/zero | tr "\\0" x; echo "$LONG"; seq 1 20000')
    assert CUT in done.output
    assert "canary-012345" not in done.output


def test_nothing_on_the_host_says_it(secretive: Session, context: Context, release: Make, tmp_path: Path) -> None:
    """Canaries are in no file below ROOT but the env file, and in no command line while hooks run."""
    shell = 'echo "$PLAIN" "$QUOTED"; sleep 0.2; echo "$BASE64" >&2; exit 3'
    hook = {
        "run": shell,
        "once": True,
        "on": ["deploy"],
        "timeout_s": 30,
        "idempotent": False,
        "user": None,
        "sealed": False,
    }
    name = release("v1", env_files=["shared/.env"], hooks={"app": {"before_activate": [hook]}})
    manifest = marker.read(secretive.layout, name).manifest
    sampled: list[str] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    sampled.append(path.read_text(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        with pytest.raises(StepFailed) as failed:
            hooks.run(secretive, context, manifest, "before_activate", once=[shell])
    finally:
        stop.set()
        thread.join()
    assert canaries_in(json.dumps(failed.value.to_json(), ensure_ascii=False)) == []
    assert any("before_activate" in text or "sleep" in text for text in sampled)
    assert canaries_in("\n".join(sampled)) == []
    told = [
        path
        for path in secretive.layout.root.rglob("*")
        if path.is_file() and canaries_in(path.read_text("utf-8", "replace"))
    ]
    assert told == [secretive.layout.shared / ".env"]


def test_a_bug_with_the_secrets_at_hand(
    secretive: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traceback, message and repr of every local hold no value."""
    name = release("v1", env_files=["shared/.env"])

    def broken(_self: Any, command: Command) -> None:
        raise RuntimeError(f"a bug with {command} and {command.env}")

    monkeypatch.setattr(Children, "run", broken)
    with pytest.raises(RuntimeError) as caught:
        run(secretive, context, name, "true")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "[redacted]" in shown
    assert canaries_in(shown) == []


def test_a_file_that_is_no_text_is_not_quoted(session: Session) -> None:
    """Python keeps the whole text in the error of a codec; no cause of it travels."""
    (session.layout.shared / ".env").write_bytes(b"TOKEN=canary-hunter2\nBAD=\xff\n")
    with pytest.raises(StepFailed) as failed:
        hooks.env_file_values(session.layout, {"env_files": ["shared/.env"]})
    error = failed.value
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert canaries_in("".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error)) == []
