"""The states of a release on one host: every pair of the table, and the page that is drawn from it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from deploy.wire import states
from deploy.wire.states import ROWS, ForbiddenMove, Move, State, after, observed

PAGE = Path(__file__).parents[2] / "docs/reference/states.md"
ALLOWED = {
    "ABSENT": {"stage ok": "STAGED", "stage failed": "BROKEN"},
    "BROKEN": {"stage ok": "STAGED", "pruned": "ABSENT"},
    "STAGED": {"switched to": "ACTIVE", "pruned": "ABSENT"},
    "ACTIVE": {"switched away": "RETIRED", "withdrawn": "RETIRED"},
    "RETIRED": {"switched to": "ACTIVE", "pruned": "ABSENT"},
}
"""Written out a second time on purpose: a changed row must be changed here as well."""


@pytest.mark.parametrize(("state", "move"), list(product(State, Move)))
def test_every_pair_of_state_and_move(state: State, move: Move) -> None:
    """A row of the table leads where the design says; a pair without a row is the error and says so."""
    to = ALLOWED[state.value].get(move.value)
    if to:
        assert after(state, move) is State(to)
    else:
        with pytest.raises(ForbiddenMove, match=f"{state.value} cannot be {move.value}"):
            after(state, move)


def test_the_live_release_has_no_way_to_absent() -> None:
    """Pruning what is live is not a rule that code must remember: the table has no such row."""
    assert all(to is not State.ABSENT for (state, _), to in ROWS.items() if state is State.ACTIVE)


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a dead end, and none is unreachable from an empty host."""
    reached, waiting = {State.ABSENT}, [State.ABSENT]
    while waiting:
        here = waiting.pop()
        for (state, _), to in ROWS.items():
            if state is here and to not in reached:
                reached.add(to)
                waiting.append(to)
    assert reached == set(State) == {state for state, _ in ROWS}


@pytest.mark.parametrize("facts", list(product([False, True], repeat=4)))
def test_what_disk_and_journal_say_of_a_release(facts: tuple[bool, bool, bool, bool]) -> None:
    """Without its marker a directory is BROKEN, even where `current` names it: never activated."""
    directory, marker, is_current, was_live = facts
    found = observed(directory=directory, marker=marker, is_current=is_current, was_live=was_live)
    if not directory:
        assert found is State.ABSENT
    elif not marker:
        assert found is State.BROKEN
    elif is_current:
        assert found is State.ACTIVE
    else:
        assert found is (State.RETIRED if was_live else State.STAGED)


def test_the_page_in_docs_is_drawn_from_the_table() -> None:
    """The committed page equals what the table gives: `PYTHONPATH=. python tests/wire/test_states.py > PAGE`."""
    assert PAGE.read_text() == page()


def page() -> str:
    """Draw docs/reference/states.md: a diagram, the table and what each state means."""
    meanings = [line.split(None, 1) for line in (states.__doc__ or "").splitlines() if line.startswith("    ")]
    lines = [
        "# States of a release on one host",
        "",
        "<!-- Generated from deploy/wire/states.py: `PYTHONPATH=. python tests/wire/test_states.py`; do not edit. -->",
        "",
        "| state | means |",
        "| --- | --- |",
        *[f"| {name} | {meaning} |" for name, meaning in meanings],
        "",
        "```mermaid",
        "stateDiagram-v2",
        *[f"    {state.value} --> {to.value}: {move.value}" for (state, move), to in ROWS.items()],
        "```",
        "",
        "| state | what happens | state after |",
        "| --- | --- | --- |",
        *[f"| {state.value} | {move.value} | {to.value} |" for (state, move), to in ROWS.items()],
        "",
        "What is not in the table cannot happen: above all, the live release cannot be pruned.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
