"""The reference page is what the schema says, and the schema is what the parsers read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from deploy.settings import Deadlines, Health
from deploy.settings.declared import Layer
from deploy.settings.reference import PAGE, page
from deploy.settings.schema import ALL, DEADLINE_KEYS, HEALTH_KEYS, HOOK_KEYS, KEYS
from deploy.wire.commands import Hook

TOP = Path(__file__).parents[2]


def test_the_page_in_docs_is_the_generated_one() -> None:
    """The committed page equals what the schema generates: `python -m deploy.settings.reference > PAGE`."""
    assert (TOP / PAGE).read_text() == page()


def test_every_key_of_the_table_is_read() -> None:
    """What a host resolves, hooks, health and deadlines: their keys are their values' fields."""
    of_a_host = {key.name for key in KEYS if key.scope == "operator" and {"host"} & set(key.levels)}
    assert of_a_host == {field.name for field in fields(Layer)}
    assert {name for name, *_ in HOOK_KEYS} == {field.name for field in fields(Hook)}
    assert {name for name, *_ in HEALTH_KEYS} == {field.name for field in fields(Health)}
    assert {name for name, *_ in DEADLINE_KEYS} == {field.name for field in fields(Deadlines)}


def test_the_documented_defaults_are_the_real_ones() -> None:
    """The default column agrees with the values that the code fills in."""
    for name, _, default, _ in DEADLINE_KEYS:
        assert float(default) == getattr(Deadlines(), name)
    documented = {name: default for name, _, default, _ in HEALTH_KEYS}
    for name in ("successes", "timeout_s", "interval_s"):
        assert float(documented[name]) == getattr(Health(), name)


def test_what_resolves_by_level_may_stand_at_every_level() -> None:
    """Restart, health, hooks and environment resolve app < stage < group < host."""
    levels = {key.name: key.levels for key in KEYS}
    assert {levels[name] for name in ("restart", "health", "hooks", "environment")} == {ALL}
