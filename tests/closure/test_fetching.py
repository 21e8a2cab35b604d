"""Fetching from a real HTTP server that does what servers do on a bad day, through pip's own session."""

from __future__ import annotations

import hashlib
import http.server
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, check, fetch, give
from deploy.closure.fetching import Fetched
from deploy.errors import Failed, Refused
from deploy.events import Event, Notice, Progress

Packed = tuple[str, bytes]
RESERVED = "127.0.0.1:1"
"""Nothing listens there: a connection is refused at once."""


class Mirror(http.server.ThreadingHTTPServer):
    """A simple index (PEP 503) at ``/simple/`` and a flat store at ``/files/``, with faults by file name.

    ``cut``: bytes of body after which the connection breaks, one entry a request; ``stall``: files of which the second
    half never comes; ``status``: answers other than 200, also by path of a listing; ``files``: the bytes served, right
    or wrong.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, list[int]] = {}
        self.stall: set[str] = set()
        self.status: dict[str, int] = {}
        self.ranges = True
        self.asked: list[tuple[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.pause_s = 0.0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[tuple[str, str]]:
        """Files asked for, each with its Range."""
        return [(path.removeprefix("/files/"), span) for path, span in self.asked if path.startswith("/files/")]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""

    def do_GET(self) -> None:
        served = self.server
        served.asked.append((self.path, self.headers.get("Range", "")))
        if self.path.startswith("/simple/"):
            name = self.path.split("/")[2].replace("-", "_")
            links = [
                f'<a href="/files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>'
                for file, data in served.files.items()
                if file.startswith(f"{name}-")
            ]
            body = "<!DOCTYPE html><html><body>" + "\n".join(links)
            self._answer(
                served.status.get(self.path, 200 if links else 404), body.encode(), {"Content-Type": "text/html"}
            )
            return
        file = self.path.removeprefix("/files/")
        served.at_once += 1
        served.most_at_once = max(served.most_at_once, served.at_once)
        try:
            time.sleep(served.pause_s)
            self._file(file)
        finally:
            served.at_once -= 1

    def _file(self, file: str) -> None:
        served = self.server
        body = served.files.get(file)
        status = served.status.get(file, 200 if body is not None else 404)
        if status != 200 or body is None:
            self._answer(status, b"", {})
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers: dict[str, str] = {}
        if start and served.ranges:
            if start >= len(body):
                self._answer(416, b"", {})
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        cuts = served.cut.get(file)
        stalled = 0 if start else len(body) // 2
        upto = cuts.pop(0) if cuts else stalled if file in served.stall else len(body)
        self._answer(status, body, headers, upto)
        if file in served.stall:
            served.closing.wait(30)
        elif upto < len(body):
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str], upto: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:upto])
        self.wfile.flush()


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No say for the pip configuration of this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return monkeypatch


@pytest.fixture
def mirror(pip: pytest.MonkeyPatch) -> Generator[Mirror]:
    """A server, configured as pip's only index."""
    server = Mirror()
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    running.start()
    pip.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        running.join()
        server.server_close()


class Bench:
    """A locked project whose ``vendor/`` is empty, and whose archives lie on a server."""

    def __init__(self, project: Any) -> None:
        self.root: Path = project.folder
        self.vendor: Path = project.vendor
        self.events: list[Event] = []

    def fetch(self, source: str = "") -> Fetched:
        self.events.clear()
        return fetch(self.root, "app", self.events.append, source=source)

    def failure(self, source: str = "") -> Failed:
        with pytest.raises(Failed) as failed:
            self.fetch(source)
        return failed.value

    @property
    def told(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Notice))

    @property
    def partial(self) -> dict[str, int]:
        """What lies in the work folder: sizes by sha256."""
        return {path.name: path.stat().st_size for path in (self.vendor / ".incoming").glob("[0-9a-f]*")}


@pytest.fixture
def big(make_wheel: Any) -> Packed:
    """A wheel of 600 kB and more."""
    return make_wheel("big", "1.0", files={"big/data.txt": "0123456789abcdef" * 40_000})


@pytest.fixture
def bench(project: Any, mirror: Mirror, make_wheel: Any, big: Packed) -> Bench:
    """``big`` and ``small``, with a toolchain, as the lock names them and the server offers them."""
    project.lock("big\nsmall\n", [big, make_wheel("small", "1.0")])
    for path in project.vendor.iterdir():
        mirror.files[path.name] = path.read_bytes()
        path.unlink()
    return Bench(project)


def sha256(data: bytes) -> str:
    """Name the beginning of a file."""
    return hashlib.sha256(data).hexdigest()


def test_files_come_side_by_side_with_progress(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """Several requests at once; each file's progress and that of all reach their end; nothing is left behind."""
    mirror.pause_s = 0.2
    done = bench.fetch()
    assert len(done.fetched) == len(mirror.files) == 4
    assert mirror.most_at_once > 1
    check(WorkTree(bench.root), "app")
    last = {event.what: event for event in bench.events if isinstance(event, Progress)}
    assert (last[big[0]].done, last[big[0]].total) == (len(big[1]), len(big[1]))
    assert last["vendor/"].is_whole
    assert last["vendor/"].total == sum(map(len, mirror.files.values()))
    assert sorted(path.name for path in bench.vendor.iterdir()) == sorted(mirror.files)


def test_what_broke_off_goes_on_at_once(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """A connection that breaks in mid-file is taken up where it ended, as often as it gets any further."""
    mirror.cut[big[0]] = [100_000, 100_000, 100_000]
    bench.fetch()
    spans = [span for file, span in mirror.downloads() if file == big[0]]
    assert spans == ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert (bench.vendor / big[0]).read_bytes() == big[1]
    assert "broken off after 100000 bytes" in bench.told


def test_the_next_run_goes_on_too(bench: Bench, mirror: Mirror, big: Packed, pip: pytest.MonkeyPatch) -> None:
    """What a run could not finish is kept by hash, seen by nobody, and the rest of it is fetched by the next."""
    pip.setenv("PIP_RETRIES", "0")
    mirror.cut[big[0]] = [100_000, 0]
    failed = bench.failure()
    assert failed.what == "vendor/ lacks 1 of 4 locked archives; what was fetched is kept."
    assert bench.partial == {sha256(big[1]): 100_000}
    assert not (bench.vendor / big[0]).exists()
    assert (bench.vendor / ".incoming/.gitignore").read_text() == "*\n"
    mirror.asked.clear()
    assert bench.fetch().fetched == (big[0],)
    assert mirror.downloads() == [(big[0], "bytes=100000-")]
    assert not (bench.vendor / ".incoming").exists()


def test_a_server_without_ranges_starts_again(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """The whole file is then received in place of its beginning."""
    mirror.ranges = False
    mirror.cut[big[0]] = [100_000]
    bench.fetch()
    assert (bench.vendor / big[0]).read_bytes() == big[1]


@pytest.mark.parametrize("size", [100_000, 10_000_000])
def test_a_wrong_beginning_is_thrown_away_once(bench: Bench, mirror: Mirror, big: Packed, size: int) -> None:
    """Whatever lay in the work folder, too much of it included, the whole file's hash decides."""
    (bench.vendor / ".incoming").mkdir()
    (bench.vendor / ".incoming" / sha256(big[1])).write_bytes(b"x" * size)
    bench.fetch()
    assert (bench.vendor / big[0]).read_bytes() == big[1]
    assert mirror.downloads().count((big[0], "")) == 1


def test_other_bytes_never_land(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """Neither those that the index admits to, nor those of a server that lies about them, endless ones included."""
    right = mirror.files[big[0]]
    mirror.files[big[0]] = right[:-1] + b"x"
    assert "other bytes under this name" in bench.failure().problems[0]
    assert not bench.partial
    flat = f"{mirror.url}/files"
    for wrong in (right[:-1] + b"x", right + right):
        mirror.files[big[0]] = wrong
        failed = bench.failure(flat)
        assert f"{flat}: other bytes were sent" in bench.told
        assert len(failed.problems) == 1
        assert not (bench.vendor / big[0]).exists()


def test_a_stalled_server_is_given_up(bench: Bench, mirror: Mirror, big: Packed, pip: pytest.MonkeyPatch) -> None:
    """A server that accepts and then sends nothing ends by pip's own timeout; what came before is kept."""
    pip.setenv("PIP_TIMEOUT", "0.2")
    pip.setenv("PIP_RETRIES", "0")
    mirror.stall.add(big[0])
    started = time.monotonic()
    failed = bench.failure()
    assert time.monotonic() - started < 20
    assert "broken off after" in failed.problems[0]
    assert bench.partial[sha256(big[1])] > 100_000


def test_an_index_that_is_down_says_so_in_seconds(bench: Bench, pip: pytest.MonkeyPatch) -> None:
    """However many files are missing: it is not waited for once for each."""
    pip.setenv("PIP_INDEX_URL", f"http://{RESERVED}/simple/")
    started = time.monotonic()
    failed = bench.failure()
    assert time.monotonic() - started < 10
    assert len(failed.problems) == 4
    assert all(f"could not be asked: {RESERVED}: " in problem and "refused" in problem for problem in failed.problems)
    assert f"index-url='http://{RESERVED}/simple/'" in bench.told


def test_a_folder_is_enough(bench: Bench, mirror: Mirror, big: Packed, tmp_path: Path) -> None:
    """Another project's vendor/, links and all, gives every file: no index is asked."""
    folder = tmp_path / "theirs"
    (folder / "kept").mkdir(parents=True)
    for file, data in mirror.files.items():
        (folder / "kept" / file).write_bytes(data)
        (folder / file).symlink_to(f"kept/{file}")
    assert len(bench.fetch(str(folder)).fetched) == 4
    assert mirror.asked == []
    assert not any(path.is_symlink() for path in bench.vendor.iterdir())
    check(WorkTree(bench.root), "app")


def test_what_a_folder_gets_wrong_the_index_gives(bench: Bench, mirror: Mirror, big: Packed, tmp_path: Path) -> None:
    """Other bytes, a dangling link, a folder and a pipe under a file's name are passed over; told where it matters."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / big[0]).write_bytes(big[1][:-1] + b"x")
    small, pip_wheel, virtualenv = (file for file in sorted(mirror.files, reverse=True) if file != big[0])
    (folder / small).symlink_to("/nowhere")
    os.mkfifo(folder / pip_wheel)
    (folder / virtualenv).mkdir()
    assert len(bench.fetch(str(folder)).fetched) == 4
    assert f"{folder / big[0]}: passed over, it has other bytes than the lock pins" in bench.told
    assert (bench.vendor / big[0]).read_bytes() == big[1]
    (bench.vendor / big[0]).unlink()
    with pytest.raises(Refused, match="is no folder"):
        bench.fetch(str(tmp_path / "absent"))


def test_a_flat_store_comes_before_the_index(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """Files are taken by name from an address; only what it lacks is asked of the index."""
    flat = f"{mirror.url}/files"
    bench.fetch(flat)
    assert not any(path.startswith("/simple/") for path, _ in mirror.asked)
    (bench.vendor / big[0]).unlink()
    mirror.status[big[0]] = 503
    failed = bench.failure(f"http://{RESERVED}/files")
    assert f"http://{RESERVED}/files: no answer: " in bench.told
    assert ("/simple/big/", "") in mirror.asked
    assert failed.problems[0].startswith(big[0])


def test_a_store_is_filled_and_gives(bench: Bench, mirror: Mirror, big: Packed, tmp_path: Path) -> None:
    """What it lacks is copied into it, and a fresh vendor/ filled from it; what somebody else keeps there stays."""
    store = tmp_path / "store"
    with pytest.raises(Refused, match="is no folder"):
        give(bench.root, "app", str(store), bench.events.append)
    store.mkdir()
    with pytest.raises(Refused, match="vendor/ lacks 4 locked archives"):
        give(bench.root, "app", str(store), bench.events.append)
    bench.fetch()
    (store / big[0]).write_bytes(b"theirs")
    given = give(bench.root, "app", str(store), bench.events.append)
    assert sorted([*given, big[0]]) == sorted(path.name for path in store.iterdir()) == sorted(mirror.files)
    assert (store / big[0]).read_bytes() == b"theirs"
    assert "left as it is" in bench.told
    (bench.vendor / big[0]).unlink()
    fetch(bench.root, "app", bench.events.append, store=str(tmp_path / "unmounted"))
    assert "unmounted is not there; asking elsewhere" in bench.told
    shutil.rmtree(bench.vendor)
    mirror.asked.clear()
    fetch(bench.root, "app", bench.events.append, store=str(store))
    assert [path for path, _ in mirror.asked] == ["/simple/big/", f"/files/{big[0]}"]
    assert give(bench.root, "app", str(store), bench.events.append) == ()


def test_a_vendor_that_cannot_be_written(bench: Bench, pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says so, and how many archives are there."""
    bench.fetch()
    shutil.rmtree(bench.vendor)
    bench.vendor.write_text("a file where the folder was")
    failed = bench.failure()
    assert failed.what == "vendor/ lacks 4 of 4 locked archives; what was fetched is kept."
    assert failed.why.startswith("vendor/ cannot be written: ")


def test_a_full_disk_ends_it_at_once(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """A file that cannot be written on is told as such, not as a broken line; what is there is gone on with."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        failed = bench.failure()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.why == "vendor/ cannot be written: File too large"
    assert "free space" in failed.next_step
    assert bench.partial[sha256(big[1])] == 200_000
    bench.fetch()
    assert (big[0], "bytes=200000-") in mirror.downloads()


FETCH = """
import sys
from pathlib import Path
from deploy.closure import fetch
from deploy.errors import DeployError
try:
    fetch(Path(sys.argv[1]), "app", lambda event: None)
except DeployError as error:
    print(error, flush=True)
    raise SystemExit(int(error.exit_code))
"""


def started(bench: Bench) -> subprocess.Popen[str]:
    """Run a fetch in a process group of its own, and wait until all is there but the rest of the stalled file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", FETCH, str(bench.root)]
    running = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 20
    while (len(list(bench.vendor.glob("*.whl"))) < 3 or not any(bench.partial.values())) and time.monotonic() < until:
        time.sleep(0.02)
    return running


@pytest.mark.parametrize("whole_group", [True, False])
def test_an_interrupted_fetch_leaves_what_it_has(bench: Bench, mirror: Mirror, big: Packed, whole_group: bool) -> None:
    """Ctrl-C, which the whole group gets, and a signal to the one process end it at once; the next run goes on."""
    mirror.stall.add(big[0])
    with started(bench) as running:
        assert "another fetch is at work" in bench.failure().why
        (os.killpg if whole_group else os.kill)(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=5)
    assert running.returncode == 130
    assert "vendor/ lacks 1 of 4 locked archives; what was fetched is kept." in said
    have = bench.partial[sha256(big[1])]
    assert have > 0
    mirror.stall.clear()
    bench.fetch()
    assert (big[0], f"bytes={have}-") in mirror.downloads()


def test_a_killed_fetch_leaves_what_it_has(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """Nothing that dies without a word is seen under a final name, and nothing of it is lost."""
    mirror.stall.add(big[0])
    with started(bench) as running:
        os.killpg(running.pid, signal.SIGKILL)
    have = bench.partial[sha256(big[1])]
    assert not (bench.vendor / big[0]).exists()
    mirror.stall.clear()
    bench.fetch()
    assert (big[0], f"bytes={have}-") in mirror.downloads()


def test_an_index_that_says_nothing_is_waited_for_once(bench: Bench, pip: pytest.MonkeyPatch) -> None:
    """It accepts connections and never answers: its few requests at once time out, and nothing asks it again."""
    pip.setenv("PIP_TIMEOUT", "0.5")
    pip.setenv("PIP_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pip.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple/")
        began = time.monotonic()
        problems = bench.failure().problems
    assert time.monotonic() - began < 15
    assert len(problems) == 4
    assert all("didn't respond within 0.5 seconds" in problem for problem in problems)


def test_a_package_that_the_index_forbids_is_told(bench: Bench, mirror: Mirror, big: Packed) -> None:
    """A refusal of one package is no silence: the others come."""
    mirror.status["/simple/big/"] = 403
    assert "403 Forbidden" in bench.failure().problems[0]
    assert len(list(bench.vendor.glob("*.whl"))) == 3


def test_statuses_are_told(bench: Bench, mirror: Mirror, big: Packed, pip: pytest.MonkeyPatch) -> None:
    """A file that is gone and a server that is broken are told apart; the other files come."""
    pip.setenv("PIP_RETRIES", "0")
    mirror.status = {big[0]: 500, "small-1.0-py3-none-any.whl": 404}
    problems = bench.failure().problems
    assert "500" in problems[0]
    assert problems[1] == "small-1.0-py3-none-any.whl: 404 Not Found"
    assert len(list(bench.vendor.glob("*.whl"))) == 2
