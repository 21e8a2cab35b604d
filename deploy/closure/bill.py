"""The bill of materials of a closure: CycloneDX 1.6 JSON, by the library of that standard. Offline.

One component for each archive of ``vendor/``; its ``bom-ref`` is its file name. What is installed has the scope
``required``, what only builds or installs it ``excluded``. The same lock, archives and application give the same bytes.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import __version__
from deploy.errors import Refused

from . import lockfile, proof
from .metadata import Metadata
from .model import Archive, Lock, Use
from .source import Source

NEEDS = "cyclonedx-python-lib>=11,<12"
_PREFIX = "sealed-deploy"


@dataclass(frozen=True)
class Application:
    """What the closure is for. ``tag`` and ``commit`` are '' for the working tree; ``made_at`` in seconds, or None."""

    name: str
    tag: str = ""
    commit: str = ""
    made_at: int | None = None


def sbom(source: Source, requirements: str, targets: Sequence[str], application: Application) -> str:
    """Give the bill of materials of a closure as text, a line break at its end.

    Raises Refused where the library is not installed or the closure is not closed: half a bill would be a wrong one.
    """
    try:
        _part("model.bom")
    except ImportError as error:
        step = f"{sys.executable} -m pip install '{NEEDS}'"
        raise Refused("Nothing was written.", f"the CycloneDX library is not installed here: {error}", step) from None
    closed = proof.examine(source, requirements, targets)
    bom = _bom(closed.lock, closed.known, application)
    document: dict[str, Any] = json.loads(_part("output.json").JsonV1Dot6(bom).output_as_string())
    if application.made_at is None:
        del document["metadata"]["timestamp"]  # the library's own: the present moment
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _part(name: str) -> Any:
    """A module of the library, untyped: its class decorators hide from pyright what its classes take."""
    return importlib.import_module(f"cyclonedx.{name}")


def _bom(lock: Lock, known: Mapping[str, Metadata], application: Application) -> Any:
    bom, component = _part("model.bom"), _part("model.component")
    uses = lock.uses()
    app = component.Component(
        name=application.name,
        version=application.tag or None,
        type=component.ComponentType.APPLICATION,
        bom_ref=f"application:{application.name}",
        properties=_properties({"commit": application.commit, "requirements": lock.requirements}),
    )
    tool = component.Component(name=_PREFIX, version=__version__, type=component.ComponentType.APPLICATION)
    tools = _part("model.tool").ToolRepository(components=[tool])
    components = {file: _component(archive, known[file], uses[file], lock) for file, archive in lock.archives.items()}
    made_at = application.made_at
    timestamp = None if made_at is None else dt.datetime.fromtimestamp(made_at, tz=dt.timezone.utc)
    made = bom.Bom(
        serial_number=_serial(lock, application),
        metadata=bom.BomMetaData(component=app, tools=tools, timestamp=timestamp),
        components=components.values(),
    )
    asked = {canonicalize_name(Requirement(text).name) for text in lock.roots}
    made.register_dependency(app, [components[archive.file] for archive in lock.run_time() if archive.name in asked])
    for file, dependent in components.items():
        made.register_dependency(dependent, [components[need] for need in sorted(_needs(lock, file))])
    return made


def _component(archive: Archive, known: Metadata, use: Use, lock: Lock) -> Any:
    model, component = _part("model"), _part("model.component")
    licences = _part("contrib.license.factories").LicenseFactory()
    scopes = component.ComponentScope
    return component.Component(
        name=archive.name,
        version=archive.version,
        type=component.ComponentType.LIBRARY,
        bom_ref=archive.file,
        purl=importlib.import_module("packageurl").PackageURL("pypi", None, archive.name, archive.version),
        hashes=[model.HashType(alg=model.HashAlgorithm.SHA_256, content=archive.sha256)],
        licenses=[licences.make_from_string(known.license)] if known.license else [],
        scope=scopes.REQUIRED if use == "run-time" else scopes.EXCLUDED,
        properties=[
            *_properties({"use": use, "file": archive.file, "kind": archive.kind, "reason": archive.reason}),
            *(one for file in sorted(_built_with(lock, archive.file)) for one in _properties({"built-with": file})),
        ],
    )


def _needs(lock: Lock, file: str) -> set[str]:
    """What an archive needs at run time and to be built, on any target."""
    return {need for target in lock.targets for need in target.needs.get(file, ())} | _built_with(lock, file)


def _built_with(lock: Lock, file: str) -> set[str]:
    builds = (target.builds[file] for target in lock.targets if file in target.builds)
    return {need for build in builds for need in build.environment}


def _properties(values: Mapping[str, str]) -> list[Any]:
    made = _part("model").Property
    return [made(name=f"{_PREFIX}:{name}", value=value) for name, value in values.items() if value]


def _serial(lock: Lock, application: Application) -> uuid.UUID:
    """A serial number that is the bill's own and the same each time (RFC 9562, version 5)."""
    about = (_PREFIX, application.name, application.tag, application.commit, lockfile.write_lock(lock))
    return uuid.uuid5(uuid.NAMESPACE_URL, "\0".join(about))
