"""The levels of one settings mapping (app, stages, groups, hosts) and which keys may stand at each. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from deploy.settings.schema import Level, keys_at, misplaced
from deploy.settings.section import NAME, Section, did_you_mean


@dataclass(frozen=True, eq=False)
class Place:
    """One level's section. ``stage`` and ``name`` are empty where the level has none."""

    level: Level
    stage: str
    name: str
    section: Section

    @property
    def label(self) -> str:
        """The level's name in the manifest: app, stage:S, group:S/G, host:S/H."""
        if self.level == "app":
            return "app"
        return f"stage:{self.stage}" if self.level == "stage" else f"{self.level}:{self.stage}/{self.name}"


def walk(top: Section) -> list[Place]:
    """List every level, widest first within its stage; unknown, misplaced and badly named keys are noted."""
    places = [Place("app", "", "", top)]
    _only_keys_of("app", top)
    stages = top.section("stages")
    for stage in _names(stages):
        section = stages.section(stage)
        _only_keys_of("stage", section)
        places.append(Place("stage", stage, "", section))
        inner: tuple[tuple[Level, Section], ...] = (
            ("group", section.section("groups")),
            ("host", _listed(section, "hosts")),
        )
        for level, named in inner:
            for name in _names(named):
                body = named.section(name)
                _only_keys_of(level, body)
                places.append(Place(level, stage, name, body))
    return places


def _only_keys_of(level: Level, section: Section) -> None:
    known = keys_at(level)
    for key in section.data:
        if key not in known:
            section.note(key, misplaced(key, level) or f"unknown key{did_you_mean(key, known)}")


def _names(section: Section) -> list[str]:
    good: list[str] = []
    for name in section.data:
        if re.fullmatch(NAME, name):
            good.append(name)
        elif "@" in name or ":" in name:
            section.note(ascii(name), "a name only; write {NAME: {address: ..., user: ..., port: ...}}")
        else:
            section.note(ascii(name), "a name has letters, digits, '.', '_' and '-' only, 100 at most")
    return good


def _listed(stage: Section, key: str) -> Section:
    """``hosts`` may be a plain list of names: as if each had an empty mapping."""
    value = stage.data.get(key)
    if not isinstance(value, list):
        return stage.section(key)
    found: dict[str, Mapping[str, Any] | None] = {}
    for name in cast("list[Any]", value):
        if not isinstance(name, str):
            stage.note(key, f"expected names, got {ascii(name)[:80]}")
        elif name in found:
            stage.note(key, f"{name!r} is listed twice")
        else:
            found[name] = None
    return Section(found, stage.at(key), stage.problems)
