"""What the running sandbox says of its hosts, as one more host layer. Reads .sandbox/hosts.json and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from deploy.errors import Refused
from deploy.settings.commands import Command
from deploy.settings.declared import Layer

FORMAT = 1


def sandbox_layers(project: Path, declared: Layer) -> dict[str, Layer]:
    """The layer of every sandbox host, by name. Raises Refused where no sandbox is up or its file is unreadable.

    A host's own URL takes the place of the configured one, so that one ``health`` serves sandbox and real hosts.
    """
    path = project / ".sandbox" / "hosts.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}; this version reads {FORMAT}")
        layers = {str(host["name"]): _layer(host, declared) for host in value["hosts"]}
    except FileNotFoundError as error:
        raise _refused("the stage is sandbox, and no sandbox is up here", "fab sandbox.up --hosts 3") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{path} cannot be read: {type(error).__name__}: {error}"
        raise _refused(why, "fab sandbox.down && fab sandbox.up") from error
    if not layers:
        raise _refused(f"{path} lists no host", "fab sandbox.up --hosts 3")
    return layers


def _layer(host: dict[str, Any], declared: Layer) -> Layer:
    known_hosts = host.get("known_hosts")
    return Layer(
        root=str(host["root"]),
        address=str(host["address"]),
        port=int(host["port"]),
        user=None if host.get("user") is None else str(host["user"]),
        identity=None if host.get("identity") is None else str(host["identity"]),
        known_hosts=None if known_hosts is None else (str(known_hosts),),
        python=None if host.get("python") is None else str(host["python"]),
        groups=tuple(str(group) for group in cast("list[Any]", host.get("groups") or [])),
        restart=Command(str(host["restart"])) if host.get("restart") else None,
        stop=Command(str(host["stop"])) if host.get("stop") else None,
        allow_root=bool(host.get("allow_root")) or None,
        health=_health(host.get("url"), declared),
    )


def _health(url: str | None, declared: Layer) -> dict[str, Any]:
    if not url or not declared.health or "command" in declared.health:
        return {}
    configured = urlsplit(str(declared.health.get("url", "")))
    query = f"?{configured.query}" if configured.query else ""
    return {"url": url.rstrip("/") + configured.path + query}


def _refused(why: str, next_step: str) -> Refused:
    return Refused("No host was contacted; the service is unchanged.", why, next_step)
