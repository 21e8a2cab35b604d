"""The bill of materials: valid by the standard's own schema, complete, and the same bytes each time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.closure import Application, WorkTree, bill, sbom
from deploy.errors import Refused

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TAGGED = Application("shop", "v1.2", "c0ffee", made_at=1_700_000_000)


@pytest.fixture
def folder(project: Any, make_sdist: Any, make_wheel: Any) -> Path:
    """A closure of a source archive that needs a package and a build tool, both wheels."""
    lib = make_sdist("lib", "1.0", ["dep"], ["tool"], extra="License-Expression: MIT OR Apache-2.0\n")
    dep = make_wheel("dep", "2.0", extra="License: mit\n")
    tool = make_wheel("tool", "3.0", extra="Classifier: License :: OSI Approved :: BSD License\n")
    project.lock("lib\n", [dep, lib], {lib[0]: [tool]})
    lock = project.lock_path.read_text()
    needs = f'[tool.sealed-deploy.needs]\n"{lib[0]}" = ["{dep[0]}"]\n'
    project.lock_path.write_text(lock.replace("[tool.sealed-deploy.needs]\n", needs))
    return project.folder


def test_it_is_valid_and_says_all_that_is_known(folder: Path) -> None:
    """CycloneDX 1.6; each archive with digest, licence, scope, purl and what it needs, the application on top."""
    text = sbom(WorkTree(folder), "app", ("3.11",), TAGGED)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert (document["specVersion"], document["metadata"]["timestamp"]) == ("1.6", "2023-11-14T22:13:20+00:00")
    application = document["metadata"]["component"]
    assert (application["name"], application["version"], application["type"]) == ("shop", "v1.2", "application")
    parts = {part["name"]: part for part in document["components"]}
    assert {name: part["scope"] for name, part in parts.items()} == {
        "lib": "required", "dep": "required", "tool": "excluded", "pip": "excluded", "virtualenv": "excluded",
    }  # fmt: skip
    assert parts["lib"]["purl"] == "pkg:pypi/lib@1.0"
    assert parts["lib"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert parts["dep"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert parts["tool"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert "licenses" not in parts["pip"]
    for part in parts.values():
        about = {one["name"]: one["value"] for one in part["properties"]}
        assert part["hashes"] == [{"alg": "SHA-256", "content": _sha256(folder, about["sealed-deploy:file"])}]
    uses = {(one["name"], one["value"]) for part in parts.values() for one in part["properties"]}
    assert {("sealed-deploy:use", use) for use in ("run-time", "build", "toolchain")} <= uses
    needs = {entry["ref"]: entry.get("dependsOn") for entry in document["dependencies"]}
    assert needs["application:shop"] == ["lib-1.0.tar.gz"]
    assert needs["lib-1.0.tar.gz"] == ["dep-2.0-py3-none-any.whl", "tool-3.0-py3-none-any.whl"]


def test_the_same_input_gives_the_same_bytes(folder: Path) -> None:
    """No random serial number, no present moment; another application or tag has a serial number of its own."""
    texts = [
        sbom(WorkTree(folder), "app", ("3.11",), about) for about in (Application("shop"), Application("shop"), TAGGED)
    ]
    assert texts[0] == texts[1]
    first, _, tagged = (json.loads(text) for text in texts)
    assert "timestamp" not in first["metadata"]
    assert "version" not in first["metadata"]["component"]
    assert first["serialNumber"] != tagged["serialNumber"]


def test_a_hole_is_refused(folder: Path) -> None:
    """A bill of what is not whole would be a wrong one."""
    (folder / "vendor/tool-3.0-py3-none-any.whl").unlink()
    with pytest.raises(Refused, match="1 break in the closure"):
        sbom(WorkTree(folder), "app", ("3.11",), TAGGED)


def test_without_the_library_the_command_that_brings_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this very environment."""
    monkeypatch.setitem(sys.modules, "cyclonedx.model.bom", None)
    with pytest.raises(Refused, match="CycloneDX library is not installed") as refused:
        sbom(WorkTree(folder), "app", ("3.11",), TAGGED)
    assert refused.value.next_step == f"{sys.executable} -m pip install '{bill.NEEDS}'"


def test_the_extra_brings_what_the_errors_name() -> None:
    """One place would be better; pyproject.toml cannot be read where the library is installed."""
    from deploy.closure import advisory_service

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["supply-chain"] == [bill.NEEDS, advisory_service.NEEDS]


def _sha256(folder: Path, file: str) -> str:
    import hashlib

    return hashlib.sha256((folder / "vendor" / file).read_bytes()).hexdigest()
