"""``vendor.prove`` on hosts: the whole closure built and installed there, beside what is live, and removed again.

The host program is started on a ROOT of its own below the host's (``ROOT/.deploy/prove``), with its own lock and an
empty store: a deploy may go on meanwhile, and nothing built earlier stands in for what the closure lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from deploy.closure import HostNeed
from deploy.fleet.host import Host, HostFailed
from deploy.fleet.staging import stage_alone
from deploy.settings import Stage
from deploy.wire.manifest import Manifest
from deploy.wire.names import Sha256


@dataclass(frozen=True)
class HostProof:
    """What building everything on one host showed: packages, the seal, and what builds tried on a network, by wheel."""

    target: str
    packages: int
    sealed: str
    attempts: dict[str, list[str]]


def tried(attempts: Mapping[str, Sequence[str]]) -> list[str]:
    """Say of each wheel what its build tried on a network."""
    return [
        f"{wheel}: its build tried to reach the network, and was refused: {'; '.join(what)}"
        for wheel, what in attempts.items()
    ]


def aside(stage: Stage) -> Stage:
    """Give the same hosts, each with its ROOT for proof."""
    return replace(stage, hosts=tuple(replace(host, root=f"{host.root}/.deploy/prove") for host in stage.hosts))


def prove(host: Host, manifest: Manifest, host_needs: Sequence[HostNeed], read: Callable[[Sha256], bytes]) -> HostProof:
    """Build the closure on a host that is locked, and leave nothing. Raises HostFailed with the step that failed."""
    host.empty()
    try:
        number, facts = stage_alone(host, manifest, host_needs, read)
    finally:
        with contextlib.suppress(HostFailed):  # the next proof empties it, too
            host.empty()
    return HostProof(manifest.targets[number].name, len(facts["packages"]), facts["sealed"], facts["attempts"])
