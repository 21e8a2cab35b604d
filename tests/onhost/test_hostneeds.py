"""What a build would look for on this host: named beforehand, with the package that brings it."""

from __future__ import annotations

import sysconfig

import pytest

from deploy.onhost import hostneeds

TEXT = "nothing-config (Debian: libnothing-dev)"


def need(*groups: list[str], headers: bool = False) -> dict[str, object]:
    """As the control side tells it, of one archive."""
    return {"text": TEXT, "programs": list(groups), "headers": headers, "users": {"d1": "lib 1.0"}}


def test_a_missing_program_is_named_with_who_needs_it_and_what_brings_it() -> None:
    """Only of packages that this host will build."""
    (line,) = hostneeds.unmet([need(["nothing-config"], ["sh"])], ["d1"])
    assert line == f"needs {TEXT} to build lib 1.0; not found here: nothing-config"
    assert hostneeds.unmet([need(["nothing-config"])], ["d2"]) == []


def test_one_program_of_a_group_will_do() -> None:
    """Whichever compiler is there."""
    assert hostneeds.unmet([need(["nothing-config", "sh"])], ["d1"]) == []


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without its headers compiles nothing."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    (line,) = hostneeds.unmet([need(headers=True)], ["d1"])
    assert line.endswith("not found here: /nowhere/Python.h")
