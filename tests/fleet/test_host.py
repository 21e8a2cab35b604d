"""What one host's answers make of it: only its own word, or its confirm, says what is live there."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.fleet.contact import Run
from deploy.fleet.host import Host, HostFailed
from deploy.fleet.outcomes import Outcome
from deploy.link.line import Counters


class Scripted:
    """A line that answers what it was told to."""

    counters = Counters()

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = answer

    def ask(self, op: str, on_event: Any, /, **fields: Any) -> dict[str, Any]:
        return self._answer


@pytest.mark.parametrize(
    ("kind", "switched", "outcome"),
    [
        ("failed", False, Outcome.FAILED),
        ("refused", False, Outcome.FAILED),
        ("bug", False, Outcome.FAILED),
        ("failed", True, Outcome.UNKNOWN),
        ("failed", None, Outcome.UNKNOWN),
        ("bug", True, Outcome.UNKNOWN),
        ("stuck", True, Outcome.STUCK),
        ("stuck", False, Outcome.STUCK),
    ],
)
def test_an_activate_that_failed_is_unchanged_only_where_the_host_says_so(
    fleet: Any, kind: str, switched: bool | None, outcome: Outcome
) -> None:
    """A full disk may keep the host from writing down that it is stuck: the kind of an error proves nothing."""
    error: dict[str, Any] = {"kind": kind, "step": "activate", "cause": "No space left on device"}
    if switched is not None:
        error["switched"] = switched
    line: Any = Scripted({"ok": False, "error": error})
    (settings,) = fleet.stage(("web-1",)).hosts
    host = Host(settings, Run("1", "tester", "deploy", "test", "--stage test", b"", ""), lambda _: None)
    host._contact._line = line
    with pytest.raises(HostFailed) as caught:
        host.activate("v2-00000000")
    assert caught.value.outcome.outcome is outcome
    assert host.left().outcome is (Outcome.UNCHANGED if outcome is Outcome.FAILED else Outcome.UNKNOWN)
