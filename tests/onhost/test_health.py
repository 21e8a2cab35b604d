"""Health: real answers from a real server, N good ones in a row, in time; whatever else comes is told."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import health
from deploy.onhost.health import Answer

Say = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers with whatever the test put into ``say``."""

    daemon_threads = True
    say: Say
    asked: list[dict[str, str]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Hands each request to the server's ``say``."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        self.server.say(self)

    def address_string(self) -> str:
        return "client"

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing."""


def answer(status: int = 200, body: bytes = b"ok", **headers: str) -> Say:
    """An ordinary answer."""

    def say(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return say


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on loopback."""
    yield from serving(Server(("127.0.0.1", 0), Handler))


def serving(made: Server) -> Iterator[Server]:
    """Run it until the test ends."""
    made.asked, made.say = [], answer()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def at(server: Server, path: str = "/healthz", **other: Any) -> dict[str, Any]:
    """Health settings for it."""
    filled = {
        "successes": 1,
        "timeout_s": 5,
        "interval_s": 0.01,
        "expect_status": [200],
        "path": None,
        "host_header": None,
    }
    return {**filled, "url": f"http://127.0.0.1:{server.server_address[1]}{path}", "socket": None, **other}


def wait(settings: dict[str, Any], why_not: str | None = None) -> health.Verdict:
    """Wait for health as a run does."""
    ask = lambda within_s: health.ask_http(settings, "/", within_s)  # noqa: E731 - as activate says it
    return health.wait(settings, ask, lambda: None, lambda answer: why_not)


def test_a_good_answer_counts_and_tells_who_gave_it(server: Server) -> None:
    """Release and pid from a JSON body."""
    server.say = answer(body=json.dumps({"release": "v1-01234567", "pid": 42}).encode())
    assert health.ask_http(at(server), "/") == Answer(True, "HTTP 200", "v1-01234567", 42)


def test_the_header_tells_the_release_where_the_body_is_no_json(server: Server) -> None:
    """X-Release, in any letter case."""
    server.say = answer(body=b"<html>", x_release="v1-01234567")
    assert health.ask_http(at(server), "/") == Answer(True, "HTTP 200", "v1-01234567", None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"[1]",
        b"\xff\xfe",
        b"{",
        b'{"pid": "x", "release": null}',
        b'{"pid": true}',
        b'{"pid": 1.5}',
        b"[" * 60_000,
    ],
)
def test_bodies_that_name_nobody_still_count(server: Server, body: bytes) -> None:
    """Status decides; text, broken JSON and other types say nothing of who answered."""
    server.say = answer(body=body)
    assert health.ask_http(at(server), "/") == Answer(True, "HTTP 200", None, None)


def test_another_status_does_not_count_and_is_quoted(server: Server) -> None:
    """With the beginning of what the service said, in one line."""
    server.say = answer(503, b"database\n  is   down " + b"x" * 1000)
    found = health.ask_http(at(server), "/")
    assert not found.ok
    assert found.text.startswith("HTTP 503: database is down x")
    assert len(found.text) < 400


def test_the_expected_statuses_are_the_settings(server: Server) -> None:
    """Some services answer 204."""
    server.say = answer(204, b"")
    assert not health.ask_http(at(server), "/").ok
    assert health.ask_http(at(server, expect_status=[200, 204]), "/").ok


def test_redirects_are_answers_and_not_followed(server: Server) -> None:
    """A redirect to a login page or to another host proves nothing of this release."""
    server.say = answer(302, b"", Location="/elsewhere")
    assert not health.ask_http(at(server), "/").ok
    assert [asked["path"] for asked in server.asked] == ["/healthz"]


def test_the_request_is_what_the_settings_say(server: Server) -> None:
    """Path, query, host header; each answer on a connection of its own."""
    health.ask_http(at(server, "/h?deep=1"), "/")
    health.ask_http(at(server, "/", host_header="www.example.org"), "/")
    first, second = server.asked
    assert first["path"] == "/h?deep=1"
    assert first["host"] == f"127.0.0.1:{server.server_address[1]}"
    assert first["connection"] == "close"
    assert second["host"] == "www.example.org"


@pytest.mark.parametrize("relative", [True, False])
def test_a_unix_socket_is_asked_relative_to_root_or_absolute(tmp_path: Path, relative: bool) -> None:
    """Where a service listens on no port at all."""

    class UnixServer(Server):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = "localhost", 80

    for made in serving(UnixServer(str(tmp_path / "s"), Handler)):  # type: ignore[arg-type]
        settings = dict(at(made), url=None, socket="s" if relative else str(tmp_path / "s"), path="/up")
        assert health.ask_http(settings, str(tmp_path)).ok
        assert made.asked[0]["path"] == "/up"


def test_nobody_there_is_an_answer_that_does_not_count() -> None:
    """Refused, a socket that does not exist, and bytes that are no HTTP."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        refused = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/", "expect_status": [200]}
        assert "no answer: " in health.ask_http(refused, "/").text
    assert not health.ask_http({"socket": "/nowhere/s", "url": None, "expect_status": [200]}, "/").ok


def test_a_server_that_speaks_no_http_does_not_count(server: Server) -> None:
    """Something else listens on the port."""
    server.say = lambda handler: handler.wfile.write(b"220 smtp ready\r\n")  # type: ignore[assignment,return-value]
    assert not health.ask_http(at(server), "/").ok


def test_a_body_without_end_is_read_only_so_far(server: Server) -> None:
    """A health page that streams does not fill memory."""

    def stream(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x" * 65536)

    server.say = stream
    assert health.ask_http(at(server), "/").ok


def test_a_flapping_service_is_not_healthy(server: Server) -> None:
    """Good, bad, good, bad: never two in a row."""
    count = iter(range(10**6))
    server.say = lambda handler: answer([500, 200][next(count) % 2])(handler)  # noqa: PLW0108 - another answer each time
    verdict = wait(at(server, successes=2, timeout_s=0.5))
    assert not verdict.ok
    assert verdict.asked > 2


def test_a_service_that_comes_up_late_is_healthy(server: Server) -> None:
    """Failures before do not matter; the good answers have to be in a row."""
    count = iter(range(10**6))
    server.say = lambda handler: answer(503 if next(count) < 5 else 200)(handler)  # noqa: PLW0108 - as above
    verdict = wait(at(server, successes=3))
    assert verdict.ok
    assert verdict.asked == 8


def test_a_good_answer_of_the_old_process_does_not_count(server: Server) -> None:
    """`accept` says why, and that is what the operator reads."""
    verdict = wait(at(server, timeout_s=0.2), why_not="answered by the old release")
    assert not verdict.ok
    assert verdict.last.text == "answered by the old release"


def test_what_check_raises_ends_the_wait(server: Server) -> None:
    """Before the switch a dead line stops everything."""

    def check() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        health.wait(at(server), lambda within_s: Answer(False, ""), check, lambda answer: None)


def hang(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Say nothing for a while."""
    time.sleep(15)


def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Send a body, one byte at a time, for a while."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


@pytest.mark.parametrize("slowly", [hang, drip])
def test_a_slow_answer_does_not_outlast_the_deadline(server: Server, slowly: Say) -> None:
    """A service that hangs, or drips, is unhealthy when the time is over, not when it is done."""
    server.say = slowly
    began = time.monotonic()
    assert not wait(at(server, timeout_s=0.5)).ok
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000/x", ("127.0.0.1", 8000)),
        ("http://localhost/", ("localhost", 80)),
        ("https://localhost/", ("localhost", 443)),
        ("http://[::1]:81/", ("::1", 81)),
        (None, None),
    ],
)
def test_the_address_that_is_asked(url: str | None, expected: tuple[str, int] | None) -> None:
    """Where to look for the process that listens."""
    assert health.address({"url": url}) == expected
