"""``fab vendor.sbom``, ``licences``, ``audit``, ``outdated`` and ``upgrade`` as an operator meets them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deploy
from tests.hosts.projects import toolchain_wheels

pytestmark = pytest.mark.slow
PYTHON = sysconfig.get_python_version()
ADVISORY: dict[str, Any] = {
    "id": "PYSEC-2024-1",
    "modified": "2024-05-01T00:00:00Z",
    "summary": "A flaw \x1b[31mshown safely",
    "affected": [
        {
            "package": {"name": "tool", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.5"}]}],
        }
    ],
}
Fab = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fab(project: Any) -> Fab:
    """The stock fab in a project with a fabfile and settings, in a git repository."""
    (project.folder / "fabfile.py").write_text('"""Tasks."""\nfrom deploy.tasks import namespace\nns = namespace()\n')
    (project.folder / "fabric.yaml").write_text('deploy:\n  app: shop\n  python: "3.11"\n')

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(deploy.__file__).parent.parent), **more}
        argv = [sys.executable, "-m", "fabric", *words]
        return subprocess.run(argv, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def tagged(project: Any, make_sdist: Any, make_wheel: Any) -> Any:
    """v1 is tagged with lib 1.0; the working tree has lib 2.0 without its archive."""
    lib = make_sdist("lib", "1.0", [], ["tool"], extra="License-Expression: MIT\n")
    project.lock("lib\n", [lib], {lib[0]: [make_wheel("tool", "1.0")]})
    return project


def tag_and_move_on(project: Any, make_sdist: Any) -> None:
    """Tag what is there, then lock something else that is not whole."""
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"], ["tag", "-a", "v1", "-m", "v1"]):
        subprocess.run(["git", *words], cwd=project.folder, check=True)
    project.lock("lib\n", [make_sdist("lib", "2.0")])
    (project.vendor / "lib-2.0.tar.gz").unlink()


def test_a_bill_of_the_work_tree_and_of_a_tag(tagged: Any, fab: Fab, make_sdist: Any) -> None:
    """The tag's own tree, whatever the working tree holds now; twice the same, dated by its commit."""
    done = fab("vendor.sbom", SOURCE_DATE_EPOCH="1700000000")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["metadata"]["timestamp"].startswith("2023-11-14")
    tag_and_move_on(tagged, make_sdist)
    done = fab("vendor.sbom:v1", "--output", "v1.json")
    assert (done.returncode, done.stdout) == (0, "wrote v1.json\n")
    document = json.loads((tagged.folder / "v1.json").read_text())
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%H %cI"], cwd=tagged.folder, capture_output=True, text=True, check=True
    ).stdout.split()
    application = document["metadata"]["component"]
    assert (application["name"], application["version"]) == ("shop", "v1")
    assert {"name": "sealed-deploy:commit", "value": commit[0]} in application["properties"]
    assert document["metadata"]["timestamp"] == commit[1].replace("Z", "+00:00")
    assert "lib-1.0.tar.gz" in {part["bom-ref"] for part in document["components"]}
    assert fab("vendor.sbom", "--tag", "v1").stdout == (tagged.folder / "v1.json").read_text()
    assert fab("vendor.sbom").returncode == 2
    unknown = fab("vendor.sbom:v2")
    assert (unknown.returncode, "no tag v2" in unknown.stderr) == (2, True)
    unwritable = fab("vendor.sbom:v1", "--output", "absent/v1.json")
    assert (unwritable.returncode, "was not written" in unwritable.stderr) == (2, True)


def test_licences_as_a_table_and_as_a_document(tagged: Any, fab: Fab, make_sdist: Any) -> None:
    """Of a tag, too."""
    done = fab("vendor.licences")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (0, "licences of requirements/app")
    assert [line.split() for line in lines[1:3]] == [
        ["PACKAGE", "VERSION", "LICENCE", "FOR", "KIND"],
        ["lib", "1.0", "MIT", "run-time", "sdist"],
    ]
    assert lines[-1] == "4 packages; their own metadata states no licence: 3"
    tag_and_move_on(tagged, make_sdist)
    document = json.loads(fab("vendor.licences:v1", "--json").stdout)
    assert document["of"] == "requirements/app of v1"
    assert document["packages"][0] == {
        "name": "lib", "version": "1.0", "licence": "MIT", "used": "run-time", "kind": "sdist",
    }  # fmt: skip
    assert fab("vendor.licences").returncode == 2


def test_an_audit_is_exit_1_until_what_it_found_is_accepted(tagged: Any, fab: Fab, make_sdist: Any) -> None:
    """Each finding with who needs it, and the way out; foreign text cannot act on the terminal."""
    (tagged.folder / "advisories.json").write_text(json.dumps([ADVISORY]))
    done = fab("vendor.audit", "--advisories", "advisories.json")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "audit of requirements/app | advisories.json, advisories: 1, newest: 2024-05-01T00:00:00Z | FAILED (exit 1)",
        r"tool 1.0: PYSEC-2024-1: fixed in 1.5: A flaw \x1b[31mshown safely",
        "  needed by requirements/app.in:1 -> lib 1.0 [build] -> tool: 1.0",
        "pins: 4; advisories about them: 1, and accepted ones: 0",
        "next: fab vendor.upgrade; or accept one by a line in requirements/app.in: # audit: PYSEC-2024-1 WHY",
    ]
    tag_and_move_on(tagged, make_sdist)
    assert fab("vendor.audit", "--advisories", "advisories.json").returncode == 0
    assert fab("vendor.audit:v1", "--advisories", "advisories.json").returncode == 1
    tagged.asked_path.write_text("# audit: PYSEC-2024-1 builds our own sources alone\nlib\n")
    done = fab("vendor.audit:v1", "--advisories", "advisories.json", "--json")  # a tag cannot know what comes later
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (0, 0)
    assert document["findings"][0]["accepted"] == "builds our own sources alone"
    silent = fab("vendor.audit", "--service", "osv", PIP_AUDIT_OSV_URL="http://127.0.0.1:9/")
    assert (silent.returncode, silent.stdout) == (1, "")
    assert "osv does not answer" in silent.stderr


@pytest.fixture
def index(tmp_path: Path, make_wheel: Any) -> dict[str, str]:
    """A folder of archives as the whole index: the real toolchain, and two versions of one package."""
    folder = tmp_path / "index"
    folder.mkdir()
    for wheel in toolchain_wheels(PYTHON):
        shutil.copy(wheel, folder)
    packed = [make_wheel("lib", "1.0", extra="License: MIT\n"), make_wheel("lib", "3.0")]
    packed.append(make_wheel("lib", "2.0", ["dep"], extra="License: BUSL-1.1\n", files={"more.py": "x = 1\n" * 900}))
    for file, data in (*packed, make_wheel("dep", "1.0")):
        (folder / file).write_bytes(data)
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder.as_uri()}


def test_newer_versions_are_shown_and_an_upgrade_says_what_it_brings(project: Any, fab: Fab, index: Any) -> None:
    """Size and licence of each change, and what vendor/ weighs; an upgrade stays within bounds."""
    (project.folder / "fabric.yaml").write_text(f'deploy:\n  app: shop\n  python: "{PYTHON}"\n')
    project.asked_path.write_text("lib==1.0\n")
    assert fab("vendor.lock", **index).returncode == 0
    assert fab("vendor.fetch", **index).returncode == 0
    project.asked_path.write_text("lib<3\n")
    assert fab("vendor.lock", **index).returncode == 0
    done = fab("vendor.outdated", **index)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()[1:3]] == [
        ["PACKAGE", "LOCKED", "WITHIN", "BOUNDS", "NEWEST"],
        ["lib", "1.0", "2.0", "3.0"],
    ]
    assert "1 of 1 run-time packages have newer versions, 1 of them within bounds" in done.stdout
    document = json.loads(fab("vendor.outdated", "--json", **index).stdout)
    assert document["packages"] == [{"name": "lib", "locked": "1.0", "within": "2.0", "newest": "3.0"}]
    done = fab("vendor.upgrade", **index)
    assert done.returncode == 0
    index_folder = Path(index["PIP_FIND_LINKS"].removeprefix("file://"))
    old, new = ((index_folder / f"lib-{one}-py3-none-any.whl").stat().st_size for one in ("1.0", "2.0"))
    told = done.stdout
    assert f"note: lib 1.0 -> 2.0: {old} B -> {new / 1000:.1f} kB; licence: MIT -> BUSL-1.1" in told
    assert "note: dep (new) -> 1.0: " in told
    assert "note: vendor/: " in told
