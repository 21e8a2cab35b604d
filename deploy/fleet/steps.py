"""One step of the whole run, told at its start and at its end. Knows no hosts."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from deploy.events import Emit, FleetStep


@contextmanager
def step(emit: Emit, name: str, detail: str = "") -> Generator[None, None, None]:
    """Tell that a step begins, and that it is done, or failed where an error leaves it."""
    began = time.monotonic()
    emit(FleetStep(name, "started", detail))
    try:
        yield
    except Exception:
        emit(FleetStep(name, "failed", detail, time.monotonic() - began))
        raise
    emit(FleetStep(name, "done", detail, time.monotonic() - began))
