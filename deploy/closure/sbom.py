"""The bill of materials of a closure: CycloneDX 1.6 JSON, by the library of that standard. Offline.

One component for each archive of ``vendor/``; its ``bom-ref`` is its file name. What is installed has the scope
``required``, what only builds or installs it ``excluded``. The same lock, archives and application give the same bytes.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.errors import Refused

from . import lockfile, proof
from .metadata import Metadata
from .model import Archive, Lock, Use
from .source import Source

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

NEEDS = "cyclonedx-python-lib>=11,<12"
_PREFIX = "sealed-deploy"


@dataclass(frozen=True)
class Application:
    """What the closure is for. ``tag`` and ``commit`` are '' for the working tree; ``made_at`` in seconds, or None."""

    name: str
    tag: str = ""
    commit: str = ""
    made_at: int | None = None


def sbom(source: Source, requirements: str, python: str, application: Application) -> str:
    """Give the bill of materials of a closure as text, a line break at its end.

    Raises Refused where the library is not installed or the closure is not closed: half a bill would be a wrong one.
    """
    try:
        import cyclonedx.model.bom as _  # noqa: F401
    except ImportError:
        step = f"{sys.executable} -m pip install '{NEEDS}'"
        raise Refused("Nothing was written.", "the CycloneDX library is not installed here", step) from None
    lock = proof.check(source, requirements, python)
    bom = _bom(lock, proof.contents(source, lock), application)
    return _text(bom, application.made_at)


def _bom(lock: Lock, known: Mapping[str, Metadata], application: Application) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType

    uses = lock.uses()
    about = _properties({"commit": application.commit, "requirements": lock.requirements})
    app = Component(
        name=application.name,
        version=application.tag or None,
        type=ComponentType.APPLICATION,
        bom_ref=f"application:{application.name}",
        properties=about,
    )
    tool = Component(name=_PREFIX, version=_own_version(), type=ComponentType.APPLICATION)
    components = {file: _component(archive, known[file], uses[file], lock) for file, archive in lock.archives.items()}
    bom = Bom(
        serial_number=_serial(lock, application),
        metadata=BomMetaData(component=app, tools=_tools(tool)),
        components=components.values(),
    )
    asked = {canonicalize_name(Requirement(text).name) for text in lock.roots}
    bom.register_dependency(app, [components[archive.file] for archive in lock.run_time() if archive.name in asked])
    for file, component in components.items():
        bom.register_dependency(component, [components[need] for need in sorted(_needs(lock, file))])
    return bom


def _component(archive: Archive, known: Metadata, use: Use, lock: Lock) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    return Component(
        name=archive.name,
        version=archive.version,
        type=ComponentType.LIBRARY,
        bom_ref=archive.file,
        purl=PackageURL("pypi", None, archive.name, archive.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=archive.sha256)],
        licenses=[LicenseFactory().make_from_string(known.license)] if known.license else [],
        scope=ComponentScope.REQUIRED if use == "run-time" else ComponentScope.EXCLUDED,
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
    from cyclonedx.model import Property

    return [Property(name=f"{_PREFIX}:{name}", value=value) for name, value in values.items() if value]


def _tools(*tools: Component) -> Any:
    from cyclonedx.model.tool import ToolRepository

    return ToolRepository(components=tools)


def _serial(lock: Lock, application: Application) -> uuid.UUID:
    """A serial number that is the bill's own and the same each time (RFC 9562, version 5)."""
    about: Iterable[str] = (application.name, application.tag, application.commit, lockfile.write_lock(lock))
    return uuid.uuid5(uuid.NAMESPACE_URL, "\0".join((_PREFIX, *about)))


def _text(bom: Bom, made_at: int | None) -> str:
    """Write the bill; the library stamps it with the present moment, which is taken out where none is known."""
    from cyclonedx.output.json import JsonV1Dot6

    if made_at is not None:
        bom.metadata.timestamp = dt.datetime.fromtimestamp(made_at, tz=dt.timezone.utc)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if made_at is None:
        del document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _own_version() -> str:
    from deploy import __version__

    return __version__
