"""Parsing what the control machine says of stages, groups and hosts; every stage is checked whole. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.settings.commands import command_of, health_part
from deploy.settings.declared import SANDBOX, Declared, Layer, OperatorSettings, refused
from deploy.settings.levels import Place, walk
from deploy.settings.roots import root_problems
from deploy.settings.schema import DEADLINE_KEYS
from deploy.settings.section import NAME, USER, Section, did_you_mean, plain
from deploy.settings.stage import anchored_store, check_stage
from deploy.settings.strategy import strategy_of, strategy_part
from deploy.settings.trust import Trust, trust_part
from deploy.settings.yaml_text import BadYaml, load

_WORD = r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]*"
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_ADDRESS = rf"{_LABEL}(?:\.{_LABEL})*\.?|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?"
"""A name (RFC 1123; underscores are in use) or an IPv4 or IPv6 address; the port has a key of its own."""


def operator_of(mapping: object, where: str = "fabric.yaml", *, text: str | None = None) -> OperatorSettings:
    """Parse the ``deploy`` mapping, Fabric's or a plain one. Raises Refused with every problem of every stage.

    The values of release keys are left alone: they count only in a tag's own file. ``text`` is the file itself, where
    there is one: Fabric takes a key that is set twice without a word, the strict reader does not.
    """
    problems: list[str] = []
    try:
        load(text or "")
    except BadYaml as error:
        problems.append(str(error))
    top = Section(plain(mapping), "", problems)
    places = walk(top)
    layers = {place: _layer(place) for place in places}
    fleet = _fleet(top)
    names = [place.stage for place in places if place.level == "stage"]
    stages = {name: _declared(name, places, layers, fleet) for name in [*names, SANDBOX]}
    settings = OperatorSettings(
        app=top.text("app", NAME, says="a word"),
        python=top.text("python", says='a version such as "3.11", in quotes'),
        default_stage=top.text("default_stage", NAME, says="a stage name"),
        stages=stages,
        vendor_store=_store(top),
    )
    if settings.default_stage and settings.default_stage not in stages:
        top.note("default_stage", f"no such stage{did_you_mean(settings.default_stage, stages)}")
    for declared in stages.values():
        problems += check_stage(settings, declared)
    if problems:
        raise refused(where, problems)
    return settings


def vendor_store(mapping: object, project: Path, where: str = "fabric.yaml") -> str:
    """Take that one key out of the ``deploy`` mapping: an absolute folder, an address, or nothing. Raises Refused."""
    problems: list[str] = []
    found = _store(Section(plain(mapping), "", problems))
    if problems:
        raise refused(where, problems)
    return anchored_store(found, project)


def _store(top: Section) -> str:
    text = top.text("vendor_store", says="a folder or an http(s) address") or ""
    if "://" in text and not text.startswith(("http://", "https://")):
        top.note("vendor_store", f"expected a folder or an http(s) address, got {text!a}")
    return text


def _declared(name: str, places: Sequence[Place], layers: Mapping[Place, Layer], app: _Fleet) -> Declared:
    stage = next((place for place in places if place.level == "stage" and place.stage == name), None)
    own = _fleet(stage.section) if stage else _Fleet()
    wait_s = own.wait_s if own.wait_s is not None else app.wait_s
    wide = layers[places[0]]

    def of(level: str) -> dict[str, Layer]:
        return {place.name: layers[place] for place in places if place.level == level and place.stage == name}

    return Declared(
        name=name,
        layer=wide.under(layers[stage]) if stage else wide,
        groups=of("group"),
        hosts=of("host"),
        trust=Trust(**{**app.trust, **own.trust}),
        wait_s=wait_s or 0.0,
        waves=strategy_of(app.waves, own.waves),
        migrations=own.migrations or app.migrations or "refuse",
    )


@dataclass(frozen=True)
class _Fleet:
    """What app and stage level say of a whole fleet."""

    trust: Mapping[str, Any] = field(default_factory=dict[str, Any])
    wait_s: float | None = None
    waves: Mapping[str, Any] = field(default_factory=dict[str, Any])
    migrations: str | None = None


def _fleet(section: Section) -> _Fleet:
    return _Fleet(
        trust_part(section),
        section.seconds("wait_s", zero=True),
        strategy_part(section.section("waves")),
        section.choice("migrations", ("refuse", "warn", "allow")),
    )


def _layer(place: Place) -> Layer:
    section = place.section
    is_host = place.level == "host"
    return Layer(
        root=_root(section),
        restart=command_of(section, "restart"),
        stop=command_of(section, "stop"),
        health=health_part(section.section("health")),
        keep=section.integer("keep", 1, 1000),
        known_hosts=section.words("known_hosts", says="a path or a list of paths"),
        user=section.text("user", USER, says="a user name"),
        port=section.integer("port", 1, 65535),
        identity=section.text("identity", says="a path"),
        deadlines=_deadlines(section.section("deadlines")),
        allow_root=section.boolean("allow_root"),
        build_user=section.text("build_user", USER, says="a user name"),
        accept_seal=section.choice("accept_seal", ("kernel", "pip")),
        service=section.text("service"),
        # At app level `python` is the release's version; only below it is it a command to start.
        python=None
        if place.level == "app"
        else section.text("python", _WORD, says="one command word, such as python3.11"),
        address=section.text("address", _ADDRESS, says="a name or IP (a port goes under `port`)") if is_host else None,
        groups=section.words("groups", NAME, says="a list of group names") if is_host else None,
        local=section.boolean("local") if is_host else None,
    )


def _root(section: Section) -> str | None:
    root = section.text("root", r"(?s).+", says="an absolute path")
    if root is None:
        return None
    for problem in root_problems(root):
        section.note("root", problem)
    return root.rstrip("/") or root


def _deadlines(section: Section) -> dict[str, float]:
    names = [name for name, *_ in DEADLINE_KEYS]
    section.only(names)
    return {name: found for name in names if (found := section.seconds(name)) is not None}
