"""One stage resolved: which hosts, and everything each of them needs, app < stage < groups < host. Reads no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.errors import Refused
from deploy.settings.commands import Command, Health, health_of
from deploy.settings.declared import SANDBOX, Declared, Layer, OperatorSettings, refused
from deploy.settings.sandbox_hosts import sandbox_layers
from deploy.settings.section import did_you_mean
from deploy.settings.strategy import ALL_AT_ONCE, Strategy
from deploy.settings.trust import Trust, trust_problems
from deploy.wire import commands

SSH_PORT = 22
KNOWN_HOSTS = ("known_hosts", "~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
"""Where host keys are looked for, unless settings name files: the project's own (where it is there), then ssh's."""


@dataclass(frozen=True)
class Deadlines:
    """Seconds after which something silent is dead. Progress resets them; there is no deadline on totals."""

    connect_s: float = 10.0
    auth_s: float = 20.0
    silence_s: float = 20.0
    step_s: float = 1800.0
    reconnect_s: float = 60.0


@dataclass(frozen=True)
class HostSettings:
    """One host, fully resolved. ``port``, ``user``, ``identity`` are None where ssh_config may decide."""

    name: str
    stage: str
    address: str
    port: int | None
    user: str | None
    identity: str | None
    known_hosts: tuple[str, ...]
    """Files with host keys; a new one goes to the first."""
    groups: tuple[str, ...]
    root: str
    python: str
    local: bool
    restart: Command | None
    stop: Command | None
    health: Health | None
    service: str | None
    keep: int
    deadlines: Deadlines
    allow_root: bool
    build_user: str | None
    accept_seal: str

    @property
    def levels(self) -> tuple[str, ...]:
        """The manifest levels whose hooks and environment apply to this host, widest first."""
        return tuple(commands.levels(self.stage, self.groups, self.name))


@dataclass(frozen=True)
class Stage:
    """The hosts one command is about, and what holds for all of them."""

    name: str
    hosts: tuple[HostSettings, ...]
    trust: Trust
    wait_s: float
    vendor_store: str = ""
    """An absolute folder, an address, or nothing."""
    waves: Strategy = ALL_AT_ONCE
    migrations: str = "refuse"
    """What a rollback does across an applied migration that its target does not know: refuse, warn or allow."""


def resolve_stage(
    settings: OperatorSettings,
    name: str | None,
    *,
    project: Path,
    hosts: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Stage:
    """Resolve the stage a command names (None: the default one), narrowed to ``hosts`` and ``groups``.

    Paths of identity and known_hosts become absolute, relative ones counted from ``project``. Raises Refused for an
    unknown stage, host or group, for no stage named where several exist, and where no host remains.
    """
    declared = settings.stages[stage_name(settings, name)]
    problems: list[str] = []
    if declared.name == SANDBOX:
        found = _hosts(settings, declared, sandbox_layers(project, declared.layer), problems)
    else:
        found = _hosts(settings, declared, declared.hosts, problems)
    if problems:
        raise refused(f"stage {declared.name}", problems)
    chosen = _narrowed(declared.name, [_anchored(host, project) for host in found], hosts, groups)
    store = anchored_store(settings.vendor_store, project)
    trust = declared.trust.anchored(project)
    return Stage(declared.name, chosen, trust, declared.wait_s, store, declared.waves, declared.migrations)


def anchored_store(store: str, project: Path) -> str:
    """Make a store that is a folder absolute, counted from ``project``."""
    return store if not store or "://" in store else _absolute(store, project)


def stage_name(settings: OperatorSettings, name: str | None) -> str:
    """Which stage a command is about. Sandbox is the default only while no other stage is declared."""
    known = ", ".join(settings.stages)
    if name is not None:
        if name in settings.stages:
            return name
        why = f"there is no stage {name!a}{did_you_mean(name, settings.stages)}"
        raise Refused("No host was contacted; the service is unchanged.", why, f"name one of: {known}")
    if settings.default_stage:
        return settings.default_stage
    if not settings.declared:
        return SANDBOX
    raise Refused(
        "No host was contacted; the service is unchanged.",
        f"no stage was named and there are several: {known}",
        f"add --stage NAME, for example --stage {settings.declared[0]}, or set default_stage in fabric.yaml",
    )


def check_stage(settings: OperatorSettings, declared: Declared) -> list[str]:
    """Resolve a declared stage for its problems alone; the sandbox's hosts are not known yet."""
    problems: list[str] = []
    path = f"stages.{declared.name}"
    if declared.name == SANDBOX:
        if declared.hosts:
            problems.append(f"{path}.hosts: the sandbox's hosts come from `fab sandbox.up`; name this stage otherwise")
        return problems
    if not declared.hosts:
        problems.append(f"{path}.hosts: no hosts; a deploy to nobody is an error")
    _hosts(settings, declared, declared.hosts, problems)
    return problems + trust_problems(declared.trust, path)


def _hosts(
    settings: OperatorSettings, declared: Declared, layers: Mapping[str, Layer], problems: list[str]
) -> list[HostSettings]:
    found: list[HostSettings] = []
    seen: dict[tuple[object, ...], str] = {}
    for name, own in layers.items():
        path = f"stages.{declared.name}.hosts.{name}"
        merged = declared.layer
        for group in own.groups or ():
            if declared.groups and group not in declared.groups:
                problems.append(f"{path}.groups: no such group {group!r}{did_you_mean(group, declared.groups)}")
            merged = merged.under(declared.groups.get(group, Layer()))
        host = _host(settings, declared.name, name, merged.under(own), problems)
        machine = (
            (host.local, host.root)
            if host.local
            else (host.user, host.address.lower(), host.port or SSH_PORT, host.root)
        )
        if machine in seen:
            problems.append(f"{path}: the same machine and root as {seen[machine]!r}")
        seen.setdefault(machine, name)
        found.append(host)
    return found


def _host(settings: OperatorSettings, stage: str, name: str, layer: Layer, problems: list[str]) -> HostSettings:
    path = f"stages.{stage}.hosts.{name}"
    if not layer.root:
        problems.append(f"{path}.root: required, here or at a wider level: an absolute path such as /srv/NAME")
    if layer.allow_root and not layer.build_user and not layer.local and stage != SANDBOX:
        problems.append(f"{path}.build_user: required where allow_root is true: builds and hooks never run as root")
    return HostSettings(
        name=name,
        stage=stage,
        address=layer.address or name,
        port=layer.port,
        user=layer.user,
        identity=layer.identity,
        known_hosts=layer.known_hosts or KNOWN_HOSTS,
        groups=layer.groups or (),
        root=layer.root or "",
        python=layer.python or (f"python{settings.python}" if settings.python else "python3"),
        local=layer.local or False,
        restart=layer.restart,
        stop=layer.stop,
        health=health_of(layer.health, path, problems),
        service=layer.service,
        keep=layer.keep or 5,
        deadlines=Deadlines(**layer.deadlines),
        allow_root=layer.allow_root or False,
        build_user=layer.build_user,
        accept_seal=layer.accept_seal or "kernel",
    )


def _anchored(host: HostSettings, project: Path) -> HostSettings:
    return replace(
        host,
        identity=host.identity and _absolute(host.identity, project),
        known_hosts=tuple(_absolute(path, project) for path in host.known_hosts),
    )


def _absolute(path: str, project: Path) -> str:
    return str(project / os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown ~user


def _narrowed(
    stage: str, hosts: Sequence[HostSettings], names: Sequence[str] | None, groups: Sequence[str] | None
) -> tuple[HostSettings, ...]:
    known = [host.name for host in hosts]
    known_groups = sorted({group for host in hosts for group in host.groups})
    problems = _unknown("host", names, known) + _unknown("group", groups, known_groups)
    chosen = tuple(
        host
        for host in hosts
        if (names is None or host.name in names) and (groups is None or set(groups) & set(host.groups))
    )
    if problems or not chosen:
        raise Refused(
            "No host was contacted; the service is unchanged.",
            f"stage {stage} narrowed to nothing that exists" if problems else f"no host of stage {stage} remains",
            f"name hosts of: {', '.join(known)}" + (f"; groups of: {', '.join(known_groups)}" if known_groups else ""),
            problems=problems,
        )
    return chosen


def _unknown(word: str, names: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    every = list(known)
    return [f"no {word} {name!a}{did_you_mean(name, every)}" for name in names or () if name not in every]
