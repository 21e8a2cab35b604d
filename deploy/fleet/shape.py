"""What a host's answer may look like: checked once, where it comes in, so that no lie of a host breaks a run. Pure.

Fields that are not named here are let through: newer host programs say more. What is named has its type, its size and
its range, so that whoever shows it needs no further care than escaping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from deploy.wire.names import is_release_id, is_sha256

MOST_ITEMS = 200_000
"""Of one list; the longest one is of the digests that a host lacks of a release."""
DEEPEST = 16
_YEAR_9999 = 253402300799

Check = Callable[[Any], bool]


class Misshapen(ValueError):
    """An answer is not what the host program says."""


def checked(op: str, answer: Mapping[str, Any]) -> None:
    """Check one answer. Raises Misshapen with where it is wrong."""
    if _depth(answer) > DEEPEST:
        raise Misshapen(f"its answer to {op} is nested too deeply")
    if answer.get("ok") is True:
        _fields(f"answer to {op}", answer, _ANSWERS.get(op, {}))
    elif answer.get("ok") is False:
        _fields(f"answer to {op}", answer, {"error": _error})
    else:
        raise Misshapen(f"its answer to {op} says neither yes nor no")


def seconds(value: Any) -> float:
    """A duration as a host tells it; 0 for what is none."""
    return float(value) if _number(value) and 0 <= value < _YEAR_9999 else 0.0


def flat(value: Any) -> dict[str, Any]:
    """The data of an event: a mapping, not nested without end; else nothing."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) and _depth(value) <= DEEPEST else {}


def _fields(where: str, value: Any, wanted: Mapping[str, Check]) -> bool:
    if not isinstance(value, dict):
        raise Misshapen(f"its {where} is no mapping")
    for name, check in wanted.items():
        optional, key = name.endswith("?"), name.rstrip("?")
        if key not in value:
            if not optional:
                raise Misshapen(f"its {where} lacks {key}")
        elif not check(cast("dict[str, Any]", value)[key]):
            raise Misshapen(f"its {where} has a wrong {key}")
    return True


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) < value < 2**63


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _time(value: Any) -> bool:
    return _number(value) and math.isfinite(value) and 0 <= value <= _YEAR_9999


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _release(value: Any) -> bool:
    return isinstance(value, str) and is_release_id(value)


def _digest(value: Any) -> bool:
    return isinstance(value, str) and is_sha256(value)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check) -> Check:
    def all_of(value: Any) -> bool:
        items = cast("list[Any]", value)
        return isinstance(value, list) and len(items) <= MOST_ITEMS and all(check(item) for item in items)

    return all_of


def _like(where: str, **wanted: Check) -> Check:
    return lambda value: _fields(where, value, wanted)


def _by_name(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, cast("dict[str, Any]", value).values()))


_names = _each(_text)


def _error(value: Any) -> bool:
    told = {"kind": _text, "next?": _text, "log?": _names, "current?": _or_none(_release)}
    told |= {"switched?": _flag, "holder?": _or_none(_holder), "freeze?": _or_none(_freeze)}
    theirs = isinstance(value, dict) and cast("dict[str, Any]", value).get("kind") in ("locked", "frozen")
    return _fields("error", value, told if theirs else {**told, "step": _text, "cause": _text})


_holder = _like("lock", **{"by?": _text, "verb?": _text, "run?": _text, "since?": _time})
_freeze = _like(
    "freeze",
    **{"by?": _or_none(_text), "reason?": _or_none(_text), "since?": _or_none(_time), "until?": _or_none(_time)},
)
_row = _like(
    "release",
    release=_release, tag=_text, commit=_or_none(_text), state=_text, bad=_flag, seq=_count, live_seq=_count,
    staged_at=_or_none(_time), live_at=_or_none(_time), by=_or_none(_text), sealed=_or_none(_text),
    **{"pinned?": _or_none(_like("pin", by=_text, at=_time))},
)  # fmt: skip
_gone = _like("gone release", release=_release, tag=_text, bad=_flag, wanted=_flag, commit=_or_none(_text))
_ran = _like("run", run=_text, verb=_text, by=_text, outcome=_text)
_lease = _like("lease", release=_text, at=_time, run=_or_none(_text), by=_or_none(_text))
_facts = _like(
    "facts",
    **{
        "python": _text, "platform": _text, "user": _text, "clock": _time, "problems": _names,
        "current": _or_none(_release), "previous": _or_none(_release), "releases": _each(_row),
        "pending": _names, "lock?": _or_none(_holder), "free_bytes?": _count, "free_inodes?": _or_none(_count),
        "machine_id?": _text, "rollback_candidates?": _each(_release), "lease?": _or_none(_lease), "landlock?": _count,
        "freeze?": _or_none(_freeze), "gone?": _each(_gone), "runs?": _each(_ran),
        "unknown_hooks?": _each(_names),
    },
)  # fmt: skip
_failure = _like("failure", **{"step": _text, "cause": _text, "next?": _text, "log?": _names})
_switched = {
    "outcome": _text, "release": _or_none(_release), "from": _or_none(_release), "failure?": _failure, "proof?": _text,
}  # fmt: skip
_recorded = _like("migrations", known=_or_none(_names), current=_or_none(_names), applied=_names)


def _several(value: Any) -> bool:
    return isinstance(value, list | dict)


def _command(value: Any) -> bool:
    return _text(value) or _names(value)


_hook = _like(
    "hook",
    **{
        "run": _command, "once": _flag, "on": _names, "timeout_s": _number,
        "idempotent": _flag, "user?": _or_none(_text), "sealed": _flag,
    },
)  # fmt: skip
_settings = _like("settings", **{"hooks?": _by_name(_by_name(_each(_hook)))})
_problem = _like("problem", cause=_text, next=_text, mends=_flag, log=_names)
_record = _like(
    "record", what=_text, seq=_count, at=_or_none(_time), run=_or_none(_text),
    **{"by?": _or_none(_text), "address?": _or_none(_text), "job?": _or_none(_text)},
)  # fmt: skip
_recovery = _like(
    "recovery",
    **{
        "do?": _text, "release?": _or_none(_text), "why?": _text, "kind?": _text, "pids?": _each(_count),
        "outcome?": _text,
    },
)  # fmt: skip
_ENDING: Mapping[str, Check] = {
    "outcome": _text, "release": _or_none(_release), "from": _or_none(_release), "cause": _text, "proof": _text,
}  # fmt: skip
_ANSWERS: Mapping[str, Mapping[str, Check]] = {
    "hello": {"facts": _facts},
    "lock": {"facts": _facts, "seq": _count, "recovered": _each(_recovery), "freeze?": _or_none(_freeze)},
    "resume": {"facts": _facts, "seq": _count, "ending": _like("ending", **_ENDING)},
    "offer": {"need": _each(_digest), "problems": _names},
    "activate": _switched,
    "return": _switched,
    "probe": {"live": _or_none(_text), "well": _flag},
    "verify": {"differences": _by_name(_names)},
    "stage": {"facts": _like("facts", **{"packages?": _several, "sealed?": _text, "attempts?": _by_name(_names)})},
    "ready": {"problems": _each(_problem), "settings": _settings, "migrations": _recorded},
    "migrations": {
        "known": _or_none(_names), "pending": _or_none(_names), "failed": _or_none(_text), "log": _names,
        "undo": _names, "recorded": _recorded,
    },
    "prune": {"pruned": _names, "kept": _by_name(_text), "in_use": _names, "free": _count},
    "pin": {"changed": _names},
    "freeze": {"frozen": _freeze},
    "thaw": {"was": _or_none(_freeze)},
    "log": {"records": _each(_record)},
}  # fmt: skip


def _depth(value: Any) -> int:
    deep, level = 0, [value]
    while level and deep <= DEEPEST:
        deep += 1
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += cast("dict[str, Any]", item).values()
            elif isinstance(item, list):
                inner += cast("list[Any]", item)
        level = inner
    return deep
