"""The states of a release on one host, as a table. An absent row is the error. No I/O.

    ABSENT   no directory
    BROKEN   a directory without its marker: garbage, swept under the lock
    STAGED   complete and verified, never live
    ACTIVE   what ``current`` points at
    RETIRED  was live, may be live again

ACTIVE has no way to ABSENT: the live release cannot be pruned. docs/reference/states.md is generated from ROWS.
"""

from __future__ import annotations

from enum import Enum
from typing import Mapping, Tuple


class State(str, Enum):
    """Where one release stands on one host."""

    ABSENT = "ABSENT"
    BROKEN = "BROKEN"
    STAGED = "STAGED"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"


class Move(str, Enum):
    """What can happen to a release on one host."""

    STAGE_OK = "stage ok"
    STAGE_FAILED = "stage failed"
    SWITCHED_TO = "switched to"
    SWITCHED_AWAY = "switched away"
    WITHDRAWN = "withdrawn"
    PRUNED = "pruned"


ROWS: Mapping[Tuple[State, Move], State] = {
    (State.ABSENT, Move.STAGE_OK): State.STAGED,
    (State.ABSENT, Move.STAGE_FAILED): State.BROKEN,
    (State.BROKEN, Move.STAGE_OK): State.STAGED,
    (State.STAGED, Move.SWITCHED_TO): State.ACTIVE,
    (State.ACTIVE, Move.SWITCHED_AWAY): State.RETIRED,
    (State.ACTIVE, Move.WITHDRAWN): State.RETIRED,
    (State.RETIRED, Move.SWITCHED_TO): State.ACTIVE,
    (State.STAGED, Move.PRUNED): State.ABSENT,
    (State.RETIRED, Move.PRUNED): State.ABSENT,
    (State.BROKEN, Move.PRUNED): State.ABSENT,
}


class ForbiddenMove(ValueError):
    """The table has no such row."""


def after(state: State, move: Move) -> State:
    """The state that ``move`` leads to. Raises ForbiddenMove where the table has no row."""
    try:
        return ROWS[state, move]
    except KeyError:
        raise ForbiddenMove("a release that is %s cannot be %s" % (state.value, move.value)) from None


def observed(*, directory: bool, marker: bool, is_current: bool, was_live: bool) -> State:
    """What disk and journal say of a release. A directory that ``current`` names without a marker is BROKEN."""
    if not directory:
        return State.ABSENT
    if not marker:
        return State.BROKEN
    if is_current:
        return State.ACTIVE
    return State.RETIRED if was_live else State.STAGED
