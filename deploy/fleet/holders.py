"""Who holds a host, or froze it, in words: for problems, notices and ``status``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any


def lock_in_words(holder: Mapping[str, Any]) -> str:
    """``ann@laptop runs deploy of v1.5 from 10.0.0.7, for 42 s (https://ci...)``, as far as the holder is known."""
    tag, address, job, held_s = (holder.get(name) for name in ("tag", "from", "job", "held_s"))
    return (
        f"{holder.get('by') or 'somebody'} runs {holder.get('verb') or 'something'}"
        + (f" of {tag}" if tag else "")
        + (f" from {address}" if address else "")
        + (f", for {_duration(held_s)}" if isinstance(held_s, int | float) else "")
        + (f" ({job})" if job else "")
    )


def freeze_in_words(freeze: Mapping[str, Any]) -> str:
    """``frozen by ann@laptop since 2026-11-26 08:00 UTC, until 2026-12-01 07:00 UTC: release day``."""
    until = freeze.get("until")
    end = f", until {utc(until)}" if until else ", until somebody thaws it"
    return f"frozen by {freeze.get('by') or 'somebody'} since {utc(freeze.get('since'))}{end}: {freeze.get('reason')}"


def utc(at: Any) -> str:
    """A moment in seconds since 1970 or in ISO 8601, for people; what is none is ``?``."""
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(float(at), timezone.utc)
        return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"
