"""Rollbacks on real hosts: with nothing but SSH, to what a host has lost, across the migrations of a real Django."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.fleet import Fleet, is_whole
from tests.hosts.openssh import Host

pytestmark = pytest.mark.hosts
ARCHIVES = Path(__file__).parents[2] / "demo/vendor"


def deployed(made: Fleet, *tags: str) -> None:
    """Make these tags live, one after the other."""
    for tag in tags:
        made.project.release(tag)
        made.deploy(tag)


def lose(host: Host, tag: str) -> None:
    """Delete a release behind our back, as somebody does who needs room."""
    (folder,) = host.root.glob(f"releases/{tag}-*")
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_with_nothing_but_ssh(fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """No repository, no vendor/, no requirements/, no git on this machine: back, and back again, in one exec each."""
    made = fleet("web-1")
    (host,) = made.hosts
    deployed(made, "v1", "v2", "v3")
    for name in (".git", "vendor", "requirements", "app.py"):
        path = made.project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    execs = host.execs
    alone = {"PATH": str(tmp_path)}
    for words, tag in ((["rollback"], "v2"), (["rollback:v3"], "v3"), (["rollback:v1"], "v1")):
        ended = made.fab(*words, environment=alone)
        assert ended.code == 0, ended.text
        assert made.live() == [tag]
    assert host.execs == execs + 3
    is_whole(host)


def test_what_one_host_lost_comes_from_the_tag(fleet: Callable[..., Fleet]) -> None:
    """Sent and built on that host alone, sealed as by a deploy; then both hosts go back together."""
    made = fleet("web-1", "web-2")
    one, two = made.hosts
    deployed(made, "v1", "v2")
    lose(two, "v1")
    ended = made.fab("rollback:v1")
    assert ended.code == 0, ended.text
    assert made.live() == ["v1", "v1"]
    assert [host.current for host in (one, two)] == [one.current] * 2
    assert "mark" in ended.steps("web-2")
    assert "mark" not in ended.steps("web-1")
    assert made.fab("verify").code == 0


def test_what_is_lost_and_cannot_be_had_is_refused_with_candidates(fleet: Callable[..., Fleet]) -> None:
    """The tag was deleted, then moved: told which, nothing changed, and the command that works is there to copy."""
    made = fleet("web-1")
    (host,) = made.hosts
    deployed(made, "v1", "v2", "v3")
    lose(host, "v2")
    commit = made.project.git("rev-parse", "v2^{commit}")
    made.project.git("tag", "-d", "v2")
    ended = made.fab("rollback")
    assert ended.code == 1, ended.text
    assert "cannot be staged again from its tag" in ended.problems
    assert "fab rollback:v1 --stage test" in ended.problems
    made.project.git("tag", "-a", "v2", "-m", "moved", "HEAD")
    moved = made.fab("rollback:v2")
    assert moved.code == 1, moved.text
    assert f"commit {made.project.git('rev-parse', 'HEAD')[:12]}" in moved.problems
    assert made.live() == ["v3"]
    made.project.git("tag", "-f", "-a", "v2", "-m", "release v2", commit)
    assert made.fab("rollback:v1").code == 0
    assert made.live() == ["v1"]


MANAGE = """\
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """\
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}}
USE_TZ = True
"""
FIRST = """\
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = []
    operations = [migrations.CreateModel("Thing", [("id", models.AutoField(primary_key=True))])]
"""
SECOND = """\
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.AddField("thing", "name", models.TextField(default=""))]
"""


def django(folder: Path) -> Path:
    """Put Django and what it needs into a folder, from the demo's archives; they are pure Python."""
    for name, package in (("django-*", "django"), ("asgiref-*", "asgiref"), ("sqlparse-*", "sqlparse")):
        (archive,) = ARCHIVES.glob(name + ".tar.gz")
        with tarfile.open(archive) as packed:
            top = archive.name.removesuffix(".tar.gz")
            members = [member for member in packed if member.name.startswith(f"{top}/{package}/")]
            for member in members:
                member.name = member.name.removeprefix(f"{top}/")
            packed.extractall(folder, members=members)
    return folder


def test_line_56_across_a_migration_of_a_real_django(fleet: Callable[..., Fleet], folder: Path) -> None:
    """Shown at the deploy; refused with the list and the command that undoes it, which works; or allowed by a flag."""
    made = fleet("web-1")
    (host,) = made.hosts
    made.project.settings(
        env_files=["shared/.env"],
        environment={"PYTHONPATH": str(django(folder / "lib"))},
        hooks={
            "migrations": {"run": "python manage.py showmigrations --plan", "once": True},
            "before_activate": {"run": "python manage.py migrate --noinput", "once": True},
        },
    )
    env_file = host.root / "shared/.env"
    env_file.parent.mkdir(exist_ok=True)
    env_file.write_text(f"DATABASE={host.root}/shared/data/db.sqlite3\nNAME=shop\n")
    data = host.root / "shared/data"
    data.mkdir(exist_ok=True)
    for path in (env_file.parent, env_file, data):
        shutil.chown(path, host.account.uid)
    project = {"manage.py": MANAGE, "site_settings.py": SETTINGS, "shop/__init__.py": "", "shop/models.py": ""}
    made.project.release(
        "v1", **project, **{"shop/migrations/__init__.py": "", "shop/migrations/0001_initial.py": FIRST}
    )
    first = made.fab("deploy:v1")
    assert first.code == 0, first.text
    assert "v1 applies 1 migration: shop.0001_initial" in first.text
    made.project.release("v2", **{"shop/migrations/0002_thing_name.py": SECOND})
    second = made.fab("deploy:v2")
    assert second.code == 0, second.text
    assert "v2 applies 1 migration: shop.0002_thing_name" in second.text

    refused = made.fab("rollback:v1")
    assert refused.code == 1, refused.text
    assert "does not know 1 applied migration: shop.0002_thing_name" in refused.problems
    assert made.live() == ["v2"]
    allowed = made.fab("rollback:v1", "--allow-migrations")
    assert allowed.code == 0, allowed.text
    assert made.live() == ["v1"]

    made.deploy("v2")
    refused = made.fab("rollback")
    (undo,) = [line for line in refused.end["next_step"].splitlines() if "manage.py migrate shop 0001_initial" in line]
    command = undo.partition("  # on web-1")[0]
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, **host.account.as_child)
    assert done.returncode == 0, done.stderr
    assert "Unapplying shop.0002_thing_name" in done.stdout
    back = made.fab("rollback")
    assert back.code == 0, back.text
    assert made.live() == ["v1"]
    is_whole(host)
