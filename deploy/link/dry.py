"""A host that is not there: says yes to every request of a deploy, as an empty host would, and contacts nobody.

What a dry run shows is true of the control side: settings, closure, manifest, hosts, the order of steps. It knows
nothing of the real hosts: ``fab check`` asks those.
"""

from __future__ import annotations

import platform
import queue
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from deploy.settings import HostSettings
from deploy.wire import framing

_WOULD = {
    "lock": "take the lock",
    "stage": "build and mark the release",
    "hooks": "run hooks",
    "activate": "switch, restart, wait for health",
    "confirm": "settle the switch",
}


class DryPipe:
    """Both ends of a conversation in one process."""

    def __init__(self, host: HostSettings) -> None:
        self._host = host
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._decoder = framing.Decoder()
        self._greeted = False

    def open(self) -> None:
        """There is nothing to reach."""

    def send(self, data: memoryview) -> int:
        if not self._greeted:
            self._greeted = True
            nonce = bytes(data)[len(framing.MAGIC) :].decode("ascii").strip()
            self._answers.put(framing.answer(nonce, "have"))
            return len(data)
        for frame in self._decoder.feed(bytes(data)):
            if frame.kind in (framing.JSON, framing.ZLIB_JSON):
                self._take(frame.json())
        return len(data)

    def receive(self, size: int) -> bytes:
        del size  # whole frames: the reader takes them in any pieces
        return self._answers.get()

    def ending(self) -> tuple[int | None, str]:
        return 0, ""

    def close(self) -> None:
        self._answers.put(b"")

    def _take(self, value: Mapping[str, Any]) -> None:
        if value["t"] == "blobs-end":
            self._say({"t": "answer", "op": "blobs", "ok": True})
        elif value["t"] == "request":
            op = str(value["op"])
            if op in _WOULD:
                self._say({"t": "event", "step": op, "state": "done", "detail": f"would {_WOULD[op]}"})
            self._say({"t": "answer", "op": op, "ok": True, **_ANSWERS[op](self._host, value)})

    def _say(self, value: dict[str, Any]) -> None:
        self._answers.put(framing.pack_json(value))


def _facts(host: HostSettings, _: Mapping[str, Any]) -> dict[str, Any]:
    version = re.search(r"\d+\.\d+", host.python)
    facts: dict[str, Any] = {
        "dry": True,
        "python": version.group() if version else platform.python_version(),
        "platform": f"linux_{platform.machine()}",
        "user": host.user or "",
        "clock": time.time(),
        "current": None,
        "previous": None,
        "releases": [],
        "problems": [],
        "pending": [],
    }
    return {"facts": facts, "recovered": [], "seq": 1}


def _offered(_: HostSettings, __: Mapping[str, Any]) -> dict[str, Any]:
    return {"need": [], "problems": []}


def _activated(_: HostSettings, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"outcome": "live", "release": request["release"], "from": None, "proof": "unproven"}


def _yes(_: HostSettings, __: Mapping[str, Any]) -> dict[str, Any]:
    return {"facts": {}, "pruned": [], "kept": {}, "in_use": [], "free": 0}


def _no_migrations(_: HostSettings, __: Mapping[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"known": None, "current": None, "applied": []}
    return {"known": None, "pending": None, "failed": None, "log": [], "undo": [], "recorded": nothing}


_ANSWERS: Mapping[str, Callable[[HostSettings, Mapping[str, Any]], dict[str, Any]]] = {
    "hello": _facts,
    "lock": _facts,
    "offer": _offered,
    "activate": _activated,
    "stage": _yes,
    "hooks": _yes,
    "migrations": _no_migrations,
    "record": _yes,
    "confirm": _yes,
    "prune": _yes,
    "unlock": _yes,
}
