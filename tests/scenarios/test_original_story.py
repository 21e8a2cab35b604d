"""The story that this library began with: Django 1.0 is pinned, a dependency wants any ``django``, the index has 1.2.

With old tools letter case and the order of lines decided which one was installed, and a rollback brought back a tag
that no longer meant what it had meant. Here the wrong version never gets in, and an old tag is what it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, check, fetch, lock
from deploy.errors import Refused
from tests.closure.conftest import PYTHON, Folder, ask, index, root, silent
from tests.hosts.fab import Ended
from tests.hosts.fleet import Fleet
from tests.hosts.openssh import Host
from tests.hosts.projects import SERVICE, TINYBUILD, Packed, sdist, toolchain_wheels, wheel
from tests.hosts.trap import Trap, hostile

__all__ = ["index", "root"]
pytestmark = pytest.mark.slow
APP = SERVICE.replace("import greeting", "import django, tagging").replace("greeting.TEXT", "django.VERSION")
ORDERS = ("Django==1.0\ndjango-tagging\n", "django-tagging\nDjango==1.0\n")


def django(version: str, note: str = "") -> Packed:
    """Django as a tiny source archive that knows its version; ``note`` makes other bytes of the same version."""
    numbers = tuple(int(part) for part in version.split("."))
    return sdist("Django", version, build=["tinybuild"], files={"django.py": f"VERSION = {numbers!r}\n{note}"})


def tagging(need: str, version: str = "0.3") -> Packed:
    """The dependency that asks for Django in its own spelling."""
    return sdist("django-tagging", version, [need], build=["tinybuild"], files={"tagging.py": "import django\n"})


def offered(need: str) -> list[Packed]:
    """What the index has: both Djangos, and everything as a wheel too, as indexes do."""
    wheels = [wheel("Django", version, {"django.py": ""}) for version in ("1.0", "1.2")]
    wheels.append(wheel("django_tagging", "0.3", {"tagging.py": ""}, [need]))
    return [TINYBUILD, django("1.0"), django("1.2"), tagging(need), *wheels]


@pytest.mark.parametrize("asked", ORDERS, ids=["Django first", "Django last"])
@pytest.mark.parametrize("need", ["django", "DJANGO", "Django>=1.0"])
def test_line_41_any_order_and_letter_case_give_the_pinned_version(
    index: Folder, root: Path, asked: str, need: str
) -> None:
    """One Django is locked and fetched, and it is the pinned one."""
    index.offer(*offered(need))
    ask(root, asked)
    locked = lock(root, "app", (PYTHON,), silent).lock
    assert [archive.label for archive in locked.run_time()] == ["django 1.0", "django-tagging 0.3"]
    fetch(root, "app", silent)
    check(WorkTree(root), "app")
    assert {path.name for path in (root / "vendor").glob("*.tar.gz")} == {
        "Django-1.0.tar.gz", "django_tagging-0.3.tar.gz", "tinybuild-1.0.tar.gz",
    }  # fmt: skip
    for path in (root / "requirements").iterdir():
        assert "Django-1.2" not in path.read_text()


@pytest.mark.parametrize("asked", ORDERS, ids=["Django first", "Django last"])
def test_a_dependency_that_wants_the_newer_one_is_refused(index: Folder, root: Path, asked: str) -> None:
    """Both who disagree are named, whoever comes first; nothing is written."""
    index.offer(*offered("django>=1.1"))
    ask(root, asked)
    with pytest.raises(Refused) as refused:
        lock(root, "app", (PYTHON,), silent)
    said = "\n".join(refused.value.problems)
    assert "Django==1.0" in said
    assert "django>=1.1" in said
    assert [path.name for path in (root / "requirements").iterdir()] == ["app.in"]


class Story:
    """One project of the story on real hosts, and an index that moves on."""

    def __init__(self, fleet: Fleet, offers: Path) -> None:
        self.fleet, self.offers = fleet, offers
        self.project = fleet.project
        shutil.rmtree(self.project.folder / "vendor")
        self.project.write("app.py", APP)
        offers.mkdir()
        offers.chmod(0o755)
        self.offer(*offered("django"))
        for path in toolchain_wheels(self.project.version):
            (offers / path.name).symlink_to(path)

    def offer(self, *packed: Packed) -> None:
        for file, data in packed:
            (self.offers / file).write_bytes(data)

    def tag(self, tag: str, asked: str) -> None:
        """Lock, fetch, commit and tag, as a person does; the index is asked here and never again."""
        self.project.write("requirements/app.in", asked)
        where = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.offers.as_uri()}
        for words in (["vendor.lock"], ["vendor.fetch", "--prune"]):
            ended = self.fleet.fab(*words, json=False, environment=where)
            assert ended.code == 0, ended.text
        self.project.release(tag)


@pytest.fixture
def story(bare_fleet: Callable[..., Fleet], folder: Path) -> Callable[..., Story]:
    """Make hosts with nothing on them, and the project."""

    def make(*hosts: str, **host: Any) -> Story:
        return Story(bare_fleet(*hosts, **host), folder / "offers")

    return make


def facts(host: Host) -> dict[str, Any]:
    """What release.json of the live release says of its packages."""
    return json.loads((host.root / "current/release.json").read_text())["facts"]


def serves(host: Host) -> list[int]:
    """The version of Django in the process that answers."""
    return host.answer()["says"]


def installed(host: Host) -> list[list[str]]:
    """Path, kind and sha256 of every file of the packages that the live release uses."""
    key = json.loads((host.root / "current/release.json").read_text())["selection"]["env_key"]
    return json.loads((host.root / f".deploy/store/envs/{key}/env.json").read_text())["inventory"]


@pytest.mark.hosts
def test_deploy_upgrade_and_roll_back_in_a_hostile_environment(story: Callable[..., Story], trap: Trap) -> None:
    """The pinned Django runs, whatever else is offered to pip on either side; a rollback runs it again."""
    environment = hostile(trap)
    made = story("web-1", extra=["SetEnv " + " ".join(f"{name}={value}" for name, value in environment.items())])
    made.tag("v1", ORDERS[1])
    (host,) = made.fleet.hosts
    configuration = made.offers.parent / "pip.conf"
    configuration.write_text(f"[global]\nindex-url = {trap.url}/simple\nfind-links = {made.offers.as_uri()}\n")
    environment |= {"PIP_CONFIG_FILE": str(configuration), "PIP_FIND_LINKS": made.offers.as_uri()}

    def run(words: str) -> Ended:
        ended = made.fleet.fab(words, environment=environment)
        assert ended.code == 0, ended.text
        return ended

    assert "build" in run("deploy:v1").steps("web-1")
    assert facts(host)["packages"] == {"django": "1.0", "django-tagging": "0.3"}
    assert serves(host) == [1, 0]
    made.tag("v2", ORDERS[0].replace("1.0", "1.2"))
    run("deploy:v2")
    assert facts(host)["packages"] == {"django": "1.2", "django-tagging": "0.3"}
    assert serves(host) == [1, 2]
    shutil.rmtree(made.offers)
    run("rollback:v1")
    assert facts(host)["packages"] == {"django": "1.0", "django-tagging": "0.3"}
    assert serves(host) == [1, 0]
    assert trap.caught == []


@pytest.mark.hosts
def test_an_old_tag_deploys_again_byte_for_byte_after_the_index_moved_on(story: Callable[..., Story]) -> None:
    """On a host that never had it: the same release, the same wheels, every installed file the same."""
    made = story("web-1", "web-2")
    made.tag("v1", ORDERS[0])
    made.fleet.deploy("v1", "--hosts", "web-1")
    made.offer(django("1.0", "VERSION = (6, 6)\n"), wheel("Django", "1.0", {"django.py": "VERSION = (6, 6)\n"}))
    ended = made.fleet.fab("deploy:v1", environment={"PIP_FIND_LINKS": made.offers.as_uri()})
    assert ended.code == 0, ended.text
    first, fresh = made.fleet.hosts
    assert "build" in ended.steps("web-2")
    assert first.current == fresh.current
    assert facts(first)["wheels"] == facts(fresh)["wheels"]
    assert installed(first) == installed(fresh)
    source = hashlib.sha256(b"VERSION = (1, 0)\n").hexdigest()
    assert ["site-packages/django.py", "f", source] in installed(fresh)
    assert serves(first) == serves(fresh) == [1, 0]


@pytest.mark.hosts
def test_a_new_nested_dependency_fails_with_its_chain(fleet: Callable[..., Fleet]) -> None:
    """django-tagging 2 needs south, and somebody pinned it by hand without: exit 2, and no host hears of it."""
    made = fleet("web-1", serve=False)
    builds = {"Django": [TINYBUILD], "django_tagging": [TINYBUILD]}
    made.project.closure(ORDERS[0], [django("1.0"), tagging("django", "0.3")], builds)
    made.project.release("v1")
    made.deploy("v1")
    logins = made.hosts[0].logins
    newer = sdist("django-tagging", "2.0", ["django", "south>=0.7"], build=["tinybuild"], files={"tagging.py": ""})
    made.project.closure(ORDERS[0], [django("1.0"), newer], builds)
    made.project.release("v2")
    for word in ("vendor.check", "deploy:v2"):
        ended = made.fab(word, json=False)
        assert ended.code == 2, ended.text
        assert "django-tagging 2.0 -> south >=0.7: not in vendor/" in ended.text
    assert made.hosts[0].logins == logins
    assert str(made.hosts[0].current).startswith("v1-")
