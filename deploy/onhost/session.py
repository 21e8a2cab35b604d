"""The means of one conversation: where things are, what was agreed, how to tell. Holds, decides nothing."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set

from deploy.wire.names import ReleaseId

from .channel import Channel
from .children import Children
from .journal import Journal
from .layout import Layout
from .lock import Lock
from .store import Store


class StepFailed(Exception):
    """A step of staging or activating failed on this host: an outcome for the operator, not a bug."""

    def __init__(self, step: str, cause: str, next_step: str = "", log: Optional[List[str]] = None) -> None:
        super().__init__("%s: %s" % (step, cause))
        self.step = step
        self.cause = cause
        self.next_step = next_step
        self.log = log or []

    def to_json(self) -> Dict[str, Any]:
        """As it crosses the line."""
        return dict(capped(self.cause, self.next_step, self.log), step=self.step)


def capped(cause: str, next_step: str, log: Sequence[str]) -> Dict[str, Any]:
    """What went wrong, no longer than may cross the line; escaped by whoever prints it."""
    return {"cause": cause[:4000], "next": next_step, "log": [line[:500] for line in log[-40:]]}


@dataclass
class Policy:
    """What the operator's settings allow on this host."""

    allow_root: bool = False
    build_user: Optional[str] = None
    accept_seal: str = "kernel"
    step_s: float = 1800.0


@dataclass
class Session:
    """One run on one host."""

    layout: Layout
    channel: Channel
    program_fd: int
    run: str
    operator: str
    program: str = ""
    policy: Policy = field(default_factory=Policy)
    journal: Optional[Journal] = None
    verified: Set[ReleaseId] = field(default_factory=set)  # pyright: ignore[reportUnknownVariableType]
    """Releases whose every byte was checked during this run, under its lock."""
    environments: Dict[str, Optional[Dict[str, Any]]] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]
    """By env key, the record of an entry whose every byte was checked during this run; None for one not to be used."""
    intact: Set[str] = field(default_factory=set)  # pyright: ignore[reportUnknownVariableType]
    """Toolchains whose every byte was checked during this run."""
    check: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.lock = Lock(self.layout.lock)
        self.store = Store(self.layout)
        self.check = self.channel.check

    @property
    def book(self) -> Journal:
        """The journal, which only the holder of the lock has."""
        if self.journal is None:
            raise RuntimeError("no lock, no journal")
        return self.journal

    def children(self) -> Children:
        """Start children that end when ``check`` raises (the line is dead)."""
        return Children(self.program_fd, self.check, self.journal)

    def tell(self, step: str, state: str, detail: str = "", **data: Any) -> None:
        """Report progress. A dead line is found by ``check``, not here."""
        event: Dict[str, Any] = {"t": "event", "step": step, "state": state, "detail": detail[:2000]}
        if data:
            event["data"] = data
        try:
            self.channel.send(event)
        except Exception:  # noqa: BLE001
            pass

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[None]:
        """Tell the start and the end of one step, check the line between, and turn OSError into an outcome."""
        self.check()
        began = time.monotonic()
        self.tell(name, "started", detail)
        try:
            yield
        except StepFailed as failure:
            self.tell(name, "failed", failure.cause, elapsed_s=round(time.monotonic() - began, 3))
            raise
        except OSError as error:
            self.tell(name, "failed", str(error), elapsed_s=round(time.monotonic() - began, 3))
            raise StepFailed(name, "%s" % error, advice(error)) from error
        self.tell(name, "done", detail, elapsed_s=round(time.monotonic() - began, 3))


def advice(error: OSError) -> str:
    """The next step after an error of the operating system."""
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return "free space or inodes on the host (`fab prune` removes old releases), then run the same command again"
    if error.errno == 30:  # EROFS
        return "remount the filesystem read-write, then run the same command again"
    return "look at the host, then run the same command again"
