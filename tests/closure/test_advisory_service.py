"""pip-audit's own services against a local server in the place of the real one: answers, silence, and imposters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from requests import Session

from deploy.closure import advisory_service
from deploy.closure.advisory_service import ask
from deploy.errors import Failed, Refused
from tests.closure.conftest import Reply

PINS = [("lib", "1.0"), ("pip", "26.3")]
FLAW = {
    "id": "GHSA-1",
    "aliases": ["PYSEC-2024-1"],
    "summary": "A flaw",
    "affected": [
        {
            "package": {"name": "lib", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.5"}, {"fixed": "0.9"}]}],
        }
    ],
}
Serve = Callable[[Callable[[dict[str, Any]], tuple[int, Any]]], None]


@pytest.fixture
def serve(listening: Callable[[Reply], str], monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start a server that answers queries as a test says, and have pip-audit take it for OSV's and PyPI's."""

    def start(answer: Callable[[dict[str, Any]], tuple[int, Any]]) -> None:
        def reply(path: str, body: bytes) -> tuple[int, bytes]:
            status, value = answer(json.loads(body) if body else {"path": path})
            return status, value if isinstance(value, bytes) else json.dumps(value).encode()

        here = listening(reply)
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://me:secret@{here}/v1/query")
        get = Session.get  # PyPI's address is a constant of pip-audit's
        monkeypatch.setattr(
            Session,
            "get",
            lambda self, url, **more: get(self, url.replace("https://pypi.org", f"http://{here}"), **more),
        )

    return start


def test_every_pin_is_asked_for_and_what_is_told_is_kept(serve: Serve) -> None:
    """Name and version as pinned; ids with the best known first, fixed versions still ahead."""
    asked: list[Any] = []

    def answer(query: dict[str, Any]) -> tuple[int, Any]:
        asked.append((query["package"]["name"], query["version"]))
        return 200, {"vulns": [FLAW, {**FLAW, "id": "X", "aliases": [], "withdrawn": "2024"}]} if len(
            asked
        ) == 1 else {}

    serve(answer)
    ((found,), unknown) = ask(PINS, "osv")
    assert asked == PINS
    assert unknown == []
    assert (found.name, found.version, found.summary) == ("lib", "1.0", "A flaw")
    assert (found.ids, found.fixed) == (("PYSEC-2024-1", "GHSA-1"), ("1.5",))


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (503, {}, "503"),
        (404, {}, "404"),
        (200, b"<html>sign in</html>", "JSON"),
        (200, {"other": 1}, "vulns"),
        (200, [1], ""),
    ],
)
def test_a_wrong_answer_is_a_failure_and_never_a_clean_bill(serve: Serve, status: int, body: Any, says: str) -> None:
    """An outage, a gateway's page, another program: exit 1 with the cause, and no credentials in it."""
    serve(lambda _: (status, body))
    with pytest.raises(Failed, match="does not answer as it should") as failed:
        ask(PINS, "osv")
    assert says in failed.value.why
    assert "secret" not in failed.value.why
    assert "--advisories FILE" in failed.value.next_step


def test_one_pin_without_an_answer_fails_the_whole(serve: Serve) -> None:
    """Half an audit is none."""
    serve(lambda query: (200, {}) if query["package"]["name"] == "lib" else (500, {}))
    with pytest.raises(Failed):
        ask(PINS, "osv")


def test_silence_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there."""
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/v1/query")
    with pytest.raises(Failed, match="ConnectionError"):
        ask(PINS, "osv")


def test_a_service_that_knows_nothing_is_an_imposter(serve: Serve) -> None:
    """A mirror answers 404 for all of PyPI's JSON: pip-audit calls that skipped, which would be a green audit."""
    serve(lambda _: (404, {}))
    with pytest.raises(Failed, match="knows none of the 2 pins"):
        ask(PINS, "pypi")


def test_pypi_is_asked_for_each_version_and_a_private_package_is_named(serve: Serve) -> None:
    """As not judged; the others are."""
    flaw = {"id": "PYSEC-2", "aliases": ["CVE-2"], "summary": None, "details": "Text", "fixed_in": ["99", "1"]}
    known = {"/pypi/pip/26.3/json": {"vulnerabilities": [flaw]}}
    serve(lambda query: (200, known[query["path"]]) if query["path"] in known else (404, {}))
    ((found,), unknown) = ask(PINS, "pypi")
    assert unknown == ["lib 1.0"]
    assert (found.ids, found.fixed, found.summary) == (("PYSEC-2", "CVE-2"), ("99",), "Text")


def test_without_pip_audit_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exported file needs none."""
    monkeypatch.setitem(sys.modules, "pip_audit._service", None)
    with pytest.raises(Refused, match="pip-audit is not installed") as refused:
        ask(PINS, "pypi")
    assert f"{sys.executable} -m pip install '{advisory_service.NEEDS}'" in refused.value.next_step


def test_another_service_is_refused() -> None:
    """With the two that are known."""
    with pytest.raises(Refused, match="no advisory service 'snyk'") as refused:
        ask(PINS, "snyk")
    assert refused.value.next_step == "--service pypi or osv"
