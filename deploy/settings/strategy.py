"""How a fleet becomes waves, as people write it under ``waves``, turned into one frozen value. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.settings.commands import VERBS
from deploy.settings.schema import WAVE_KEYS
from deploy.settings.section import Section

MOST_HOSTS = 100_000


@dataclass(frozen=True)
class Strategy:
    """Which part of the fleet switches at a time. The default is one wave of all hosts.

    ``batch`` is a count of hosts, or where ``batch_is_percent`` a part of all hosts of the run; None: all the rest.
    """

    canary: int = 0
    batch: int | None = None
    batch_is_percent: bool = False
    pause_s: float = 0.0
    soak_s: float = 0.0
    max_failures: int = 0
    on: tuple[str, ...] = ("deploy",)


ALL_AT_ONCE = Strategy()


def strategy_part(body: Section) -> dict[str, Any]:
    """Read what one level says of waves. Levels are laid over each other before they make a Strategy."""
    body.only(name for name, *_ in WAVE_KEYS)
    on = body.choices("on", VERBS)
    if on == ():
        body.note("on", f"name at least one of {', '.join(VERBS)}")
    part = {
        "canary": body.integer("canary", 0, MOST_HOSTS),
        **_batch(body),
        "pause_s": body.seconds("pause_s", zero=True),
        "soak_s": body.seconds("soak_s", zero=True),
        "max_failures": body.integer("max_failures", 0, MOST_HOSTS),
        "on": on,
    }
    return {key: value for key, value in part.items() if value is not None}


def strategy_of(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> Strategy:
    """Lay the stage's keys over the app's."""
    return Strategy(**{**wide, **narrow})


def _batch(body: Section) -> dict[str, Any]:
    value = body.data.get("batch")
    if value is None:
        return {}
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_HOSTS:
        return {"batch": value, "batch_is_percent": False}
    percent = re.fullmatch(r"([1-9][0-9]?|100)%", value) if isinstance(value, str) else None
    if percent:
        return {"batch": int(percent[1]), "batch_is_percent": True}
    body.note("batch", f'expected a count of hosts from 1 on, or a part such as "25%", got {value!a}')
    return {}
