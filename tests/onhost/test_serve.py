"""Answers of one host: what an error says about the switch, and who may take the lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from deploy.onhost import activate
from deploy.onhost.hooks import Context
from deploy.onhost.serve import Conversation
from deploy.onhost.session import Policy, Session
from deploy.wire.names import ReleaseId

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(session: Session, context: Context, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Put one request to a conversation that holds the lock, and give its answer."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(session.channel, "send", told.append)
    conversation = Conversation(session.layout.root, session.channel, session.program_fd, "")
    conversation._session, conversation._context = session, context

    def one(op: str, **fields: Any) -> dict[str, Any]:
        conversation._answer({"op": op, **fields})
        return told[-1]

    return one


def test_an_error_says_whether_a_switch_is_open(
    session: Session, release: Callable[..., ReleaseId], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before the switch: no. Written down but broken off, or neither way up: yes."""
    name, operator = release("v1"), {"restart": None, "stop": None, "health": None}
    request = {"release": name, "verb": "deploy", "operator": operator}
    absent = ask("activate", **{**request, "release": "v9-00000009"})["error"]
    assert (absent["kind"], absent["switched"]) == ("failed", False)

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(activate.switch, "point", broken)
    monkeypatch.setattr(activate.switch, "withdraw", broken)
    stuck = ask("activate", **request)["error"]
    assert (stuck["kind"], stuck["switched"]) == ("stuck", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused for being root")
def test_root_gets_no_lock_unless_settings_allow_it(session: Session, ask: Ask) -> None:
    """Whatever the control side thinks of it; nothing on disk changes."""
    session.lock.release()
    session.policy = Policy(allow_root=False)
    before = session.layout.journal.read_bytes()
    refused = ask("lock", holder={"by": "tester"})["error"]
    assert "logged in as root" in refused["cause"]
    assert session.layout.journal.read_bytes() == before
    session.policy = Policy(allow_root=True)
    assert ask("lock", holder={"by": "tester"})["ok"]


def test_a_number_that_was_not_granted_is_refused(
    session: Session, release: Callable[..., ReleaseId], ask: Ask
) -> None:
    """Whatever else the request says; nothing changes."""
    session.lock.release()
    granted = ask("lock", holder={"by": "tester", "verb": "deploy"})
    name = release("v1")
    request = {"release": name, "verb": "deploy", "operator": {"restart": None, "stop": None, "health": None}}
    assert ask("activate", seq=granted["seq"] - 1, **request)["error"]["kind"] == "fenced"
    assert session.layout.link_target(session.layout.current) is None
    assert ask("activate", seq=granted["seq"], **request)["outcome"] == "live"
    assert ask("confirm", seq=granted["seq"] + 1)["error"]["kind"] == "fenced"
    assert ask("confirm", seq=granted["seq"])["ok"]
    assert granted["seq"] < ask("unlock", seq=granted["seq"]).get("seq", ask("lock", holder={"by": "tester"})["seq"])


def test_a_run_that_was_overtaken_is_refused(session: Session, release: Callable[..., ReleaseId], ask: Ask) -> None:
    """Somebody else had the lock since, and gave it back: the late run learns who, and gets no lock."""
    session.lock.release()
    late = ask("lock", holder={"by": "late", "run": "run-1", "verb": "deploy"})["seq"]
    ask("unlock")
    session.run = "run-2"
    ask("lock", holder={"by": "ann", "run": "run-2", "verb": "rollback"})
    ask("unlock")
    session.run = "run-1"
    before = session.layout.journal.read_bytes()
    refused = ask("resume", holder={"by": "late", "run": "run-1"}, seq=late, wait_s=0)["error"]
    assert refused["kind"] == "fenced"
    assert "ann ran rollback here since" in refused["cause"]
    assert session.layout.journal.read_bytes() == before
    assert not session.lock.is_held
