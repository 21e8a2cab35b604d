"""release.json: manifest + selection + facts + inventory. Written last: no marker, no release. Read here only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from deploy.wire import manifest as manifests
from deploy.wire.manifest import Manifest, canonical
from deploy.wire.names import ReleaseId

from . import envs, inventory
from .layout import MARKER, Layout, read_json, write_durably

FORMAT = 1


class NotARelease(Exception):
    """No marker, or one that contradicts itself: BROKEN, never activated."""


@dataclass(frozen=True)
class Release:
    """A complete release as its marker tells it."""

    id: ReleaseId
    manifest: Manifest
    selection: Mapping[str, Any]
    facts: Mapping[str, Any]
    inventory: List[inventory.Entry]


def write(layout: Layout, manifest: Manifest, selection: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """List the release as it now is and write its marker, durably. Raises OSError."""
    folder = layout.release(manifest.release_id)
    inventory.take_write_bits(folder)
    folder.chmod(0o755)
    value: Dict[str, Any] = {
        "format": FORMAT,
        "release": manifest.release_id,
        "manifest": manifest.to_json(),
        "selection": dict(selection),
        "facts": dict(facts),
        "inventory": inventory.take(folder),
    }
    write_durably(layout.marker(manifest.release_id), canonical(value), 0o444)
    folder.chmod(0o555)


def read(layout: Layout, release: ReleaseId) -> Release:
    """Read a marker and check that it speaks of this release. Raises NotARelease."""
    try:
        value = read_json(layout.marker(release))
        if value["format"] != FORMAT:
            raise NotARelease("release.json has format %r; upgrade sealed-deploy" % value["format"])
        manifest = manifests.from_bytes(json.dumps(value["manifest"]).encode("ascii"))
        found = Release(release, manifest, value["selection"], value["facts"], value["inventory"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotARelease("%s: %s" % (release, error)) from error
    if value["release"] != release or manifest.release_id != release:
        raise NotARelease("%s: its marker speaks of %s" % (release, manifest.release_id))
    return found


def is_complete(layout: Layout, release: ReleaseId) -> bool:
    """Whether the marker is there: the cheap question that ``status`` asks of every release."""
    return layout.marker(release).is_file()


def complete(layout: Layout) -> List[ReleaseId]:
    """Every release that has its marker, in no meaningful order."""
    return [release for release in layout.present() if is_complete(layout, release)]


def differences(layout: Layout, release: Release) -> List[str]:
    """Re-hash a release and what it links to; empty where every byte is as it was staged."""
    found = inventory.differences(layout.release(release.id), release.inventory, leave_out=(MARKER,))
    env = release.selection.get("env_shared")
    if env:
        found += envs.differences(layout, str(release.selection["env_key"]))
    return found
