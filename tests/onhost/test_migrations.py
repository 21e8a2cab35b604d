"""A release's own command lists its migrations, on a real ROOT; the journal keeps what was heard, shortly."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from deploy.onhost import migrations
from deploy.onhost.history import fold
from deploy.onhost.hooks import Context
from deploy.onhost.journal import read
from deploy.onhost.session import Session, StepFailed
from deploy.wire.migrations import Listing
from deploy.wire.names import ReleaseId
from tests.onhost.test_readiness import hook

Make = Callable[..., ReleaseId]


def lists(*commands: str, **other: Any) -> dict[str, Any]:
    """Hooks of the app that list migrations."""
    return {"app": {"migrations": [hook(command, **other) for command in commands]}}


def test_a_release_lists_its_own(session: Session, context: Context, release: Make) -> None:
    """Several commands are one list, those that are asked for only; without one there is none."""
    first, second = "echo '[X] a.1'", "echo '[ ] b.1'"
    name = release("v1", hooks=lists(first, second))
    assert migrations.ask(session, context, name) == Listing(["a.1", "b.1"], ["b.1"])
    assert migrations.ask(session, context, name, [second]) == Listing(["b.1"], ["b.1"])
    assert migrations.ask(session, context, release("v2")) is None


@pytest.mark.parametrize(
    ("run", "timeout_s", "cause"),
    [
        ("echo ImportError: shop; exit 3", 30, "exit status 3"),
        ("sleep 60", 0.3, "no end within its deadline"),
        ("yes m.0001 | head -c 200000", 30, "prints too much"),
    ],
)
def test_a_command_that_fails_hangs_or_floods(
    session: Session, context: Context, release: Make, run: str, timeout_s: float, cause: str
) -> None:
    """It is told with the end of what it said; no list is made of half of one."""
    with pytest.raises(StepFailed, match=cause) as failed:
        migrations.ask(session, context, release("v1", hooks=lists(run, timeout_s=timeout_s)))
    assert len(failed.value.log) <= 20


def test_names_that_hold_a_secret_stay_whole_and_secrets_stay_out(
    session: Session, context: Context, release: Make
) -> None:
    """DB_NAME=shop is in env_files: shop.0001 keeps its name. A password that the app prints is never written down."""
    (session.layout.shared / ".env").write_text("DB_NAME=shop\nDB_PASSWORD=hunter2\n")
    run = 'echo "$DB_PASSWORD"; echo shop.0001'
    name = release("v1", env_files=["shared/.env"], hooks=lists(run))
    listing = migrations.ask(session, context, name)
    assert listing == Listing(["shop.0001"], None)
    assert listing is not None
    migrations.record(session, name, listing.known, [])
    bad = release("v2", env_files=["shared/.env"], hooks=lists('echo "$DB_PASSWORD"; exit 1'))
    with pytest.raises(StepFailed) as failed:
        migrations.ask(session, context, bad)
    assert failed.value.log == ["[redacted]"]
    assert "hunter2" not in session.layout.journal.read_text()


def test_the_journal_keeps_names_once(session: Session, release: Make) -> None:
    """A release that knows the same as an earlier one costs a line; what is not applied after all is taken out."""
    one, two, three = release("v1"), release("v2"), release("v3")
    migrations.record(session, one, ["a.1", "a.2"], [])
    migrations.record(session, two, ["a.1", "a.2"], [])
    migrations.record(session, three, ["a.1", "a.2", "a.3"], [])
    migrations.record(session, None, None, ["a.3", "never.heard"])
    migrations.record(session, None, None, ["a.3"])
    told = [record for record in read(session.layout.journal) if record["what"] == "migrations"]
    assert [record.get("known") for record in told] == [["a.1", "a.2"], None, ["a.1", "a.2", "a.3"], None]
    assert (told[1]["as"], told[3]["unapplied"]) == (one, ["a.3"])
    session.layout.current.symlink_to(f"releases/{three}")
    assert migrations.recorded(session, two) == {
        "known": ["a.1", "a.2"], "current": ["a.1", "a.2", "a.3"], "applied": ["a.1", "a.2"],
    }  # fmt: skip
    session.book.append("pruned", release=one)
    assert fold(session.book.records).known[two] == ["a.1", "a.2"]


def test_a_journal_without_a_word_of_migrations(session: Session, release: Make) -> None:
    """As older versions wrote it: nothing is known, nothing counts as applied."""
    one = release("v1")
    assert migrations.recorded(session, one) == {"known": None, "current": None, "applied": []}


def test_how_to_undo_is_a_command_that_a_shell_takes(session: Session, context: Context, release: Make) -> None:
    """In the live release, with its virtualenv and variables; secrets are read where they lie, and not shown."""
    (session.layout.shared / ".env").write_text("DB_PASSWORD=hunter2\n")
    run = "python manage.py showmigrations --plan"
    settings = {"env_files": ["shared/.env"], "environment": {"app": {"SETTINGS": "shop two"}}, "hooks": lists(run)}
    name = release("v1", **settings)
    session.layout.current.symlink_to(f"releases/{name}")
    shop, news = migrations.undo(session, context, ["shop.3", "shop.4", "news.1"], ["shop.2"])[::-1]
    assert shop.endswith("SETTINGS='shop two' python manage.py migrate shop 2")
    assert news.endswith("python manage.py migrate news zero")
    assert "hunter2" not in shop
    said = subprocess.run(
        ["/bin/sh", "-c", shop.replace("python manage.py", "echo $DB_PASSWORD; command -v python; echo")],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert said[0] == "hunter2"
    assert said[1].endswith(f"releases/{name}/src/../venv/bin/python") or "current/src/../venv" in said[1]
    assert said[2] == "migrate shop 2"


@pytest.mark.parametrize("run", ["alembic history", "cd x && python manage.py showmigrations", "it's"])
def test_what_is_no_plain_django_command_is_undone_by_people(
    session: Session, context: Context, release: Make, run: str
) -> None:
    """No command is made up."""
    name = release("v1", hooks=lists(run))
    session.layout.current.symlink_to(f"releases/{name}")
    assert migrations.undo(session, context, ["shop.3"], []) == []


def test_a_damaged_live_release_is_no_reason_to_stay_with_it(session: Session, context: Context, release: Make) -> None:
    """It can neither list nor say how to undo: an answer, not a failure."""
    name = release("v1", hooks=lists("echo '[X] a.1'"))
    session.layout.current.symlink_to(f"releases/{name}")
    session.layout.release(name).chmod(0o755)
    session.layout.marker(name).unlink()
    told = migrations.answer(session, context, name, {"texts": None, "undo": ["a.1"], "target": []})
    assert (told["known"], told["undo"]) == (None, [])
    assert "release.json" in told["failed"]


def test_as_another_user_the_whole_line_is_that_users(session: Session, context: Context, release: Make) -> None:
    """Who lists them is who may write the database."""
    name = release("v1", hooks=lists("python manage.py showmigrations --plan", user="shop"))
    session.layout.current.symlink_to(f"releases/{name}")
    (line,) = migrations.undo(session, context, ["shop.3"], [])
    assert shlex.split(line)[:5] == ["sudo", "-u", "shop", "sh", "-c"]
