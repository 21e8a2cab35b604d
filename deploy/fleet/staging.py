"""Stage a release on one host by itself: offer, send, stage. A deploy does these on all hosts, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deploy.closure import HostNeed
from deploy.fleet import preflight
from deploy.fleet.host import Host
from deploy.wire.manifest import Manifest
from deploy.wire.names import Sha256


def stage_alone(
    host: Host,
    manifest: Manifest,
    host_needs: Sequence[HostNeed],
    read: Callable[[Sha256], bytes],
    *,
    restage: bool = False,
) -> tuple[int, dict[str, Any]]:
    """Give the target that serves the host, and the facts of the release there. Raises HostFailed."""
    number = preflight.target_for(host, manifest, restage=restage)
    needed = preflight.offered(host, manifest, number, host_needs)
    host.send(needed, manifest.sizes, read)
    return number, host.stage()
