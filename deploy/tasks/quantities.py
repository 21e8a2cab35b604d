"""What people type for an amount of space, a time span or a moment, turned into numbers. Raises Refused."""

from __future__ import annotations

import re
from datetime import datetime

from deploy.errors import Refused

_SPACE = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_SPAN_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def space(text: str) -> int:
    """Read ``2G``, ``500M`` or ``1.5G`` as bytes, in decimal units as sizes are shown."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or float(found[1]) <= 0:
        raise _refused(f"{text!a} is no amount of space", "write it as --free 2G or --free 500M")
    return int(float(found[1]) * _SPACE[found[2].upper()])


def span_s(text: str) -> float:
    """Read ``2h``, ``90m`` or ``1d12h`` as seconds."""
    parts = re.findall(r"(\d+)([mhdw])", text)
    total = sum(int(number) * _SPAN_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not total:
        raise _refused(f"{text!a} is no time span", "write it as --for 2h, --for 90m or --for 1d12h")
    return float(total)


def moment(text: str) -> float:
    """Read ``2026-12-01T08:00`` as seconds since 1970: this machine's time zone, unless the text names one."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        raise _refused(f"{text!a} is no moment", "write it as --until 2026-12-01T08:00") from None


def _refused(why: str, next_step: str) -> Refused:
    return Refused("nothing was contacted; no host was changed", why, next_step)
