"""Migrations on three real host programs: shown before a deploy, held against the policy before a rollback."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from deploy.errors import ExitCode
from deploy.events import Notice, RunEnded
from deploy.onhost import journal

Make = Callable[..., Any]
DATABASE = "$DEPLOY_ROOT/shared/database"


@dataclass
class App:
    """An application whose database is a file of names on each host; what asks it fails while the file `down` is there.

    Each test has one of its own name: what is applied for another one is written down for good.
    """

    name: str
    fleet: Any
    bundle: Make
    bundles: list[Any] = field(default_factory=list)

    def migrations(self, *numbers: int) -> list[str]:
        return [f"{self.name}.{number:04}" for number in numbers]

    def release(self, version: int, numbers: Sequence[int], *, once: bool = False, lists: bool = True) -> Any:
        """Make a release that knows these migrations, lists them, and applies them before it goes live."""
        names = " ".join(self.migrations(*numbers))
        asking = (
            f"set -e; echo $DEPLOY_TAG >> $DEPLOY_ROOT/shared/asked; touch {DATABASE}; "
            "test ! -e $DEPLOY_ROOT/shared/down || { echo no database; exit 1; }; "
            f'for m in {names}; do if grep -qx $m {DATABASE}; then echo "[X]  $m"; else echo "[ ]  $m"; fi; done'
        )
        hooks: dict[str, Any] = {
            "before_activate": f"for m in {names}; do grep -qx $m {DATABASE} || echo $m >> {DATABASE}; done"
        }
        if lists:
            hooks["migrations"] = {"run": asking, "once": once}
        made = self.bundle(f"{self.name}-{version}", **hooks)
        self.bundles.append(made)
        return made

    def deploy(self, version: int, numbers: Sequence[int], **other: Any) -> RunEnded:
        """Deploy a version that must come through."""
        self.fleet.events.clear()
        ended: RunEnded = self.fleet.deploy(self.release(version, numbers, **other))
        assert ended.exit_code == ExitCode.OK, ended.problems
        return ended

    def rollback(self, version: int, policy: str = "refuse") -> RunEnded:
        """Go back to a version of this application."""
        self.fleet.events.clear()
        for name in self.fleet.names:
            (self.fleet.root(name) / "shared/asked").unlink(missing_ok=True)
        stage = replace(self.fleet.stage(), migrations=policy)
        ended: RunEnded = self.fleet.rollback(f"{self.name}-{version}", stage=stage)
        return ended

    def undo(self, *numbers: int) -> None:
        """Take migrations back by hand, on every host."""
        for host in self.fleet.names:
            path = self.fleet.root(host) / "shared/database"
            kept = [line for line in path.read_text().splitlines() if line not in self.migrations(*numbers)]
            path.write_text("".join(f"{line}\n" for line in kept))

    def down(self) -> None:
        """Stop the database of every host."""
        for host in self.fleet.names:
            (self.fleet.root(host) / "shared/down").touch()

    def asked(self) -> dict[str, list[str]]:
        """Which releases were asked on which host by the last rollback."""
        found = {name: self.fleet.root(name) / "shared/asked" for name in self.fleet.names}
        return {name: path.read_text().split() for name, path in found.items() if path.exists()}

    def told(self) -> list[str]:
        """What was told of this application's migrations, with the host where it is one host's."""
        every = [event for event in self.fleet.events if isinstance(event, Notice)]
        return [f"{event.host or 'all'}: {event.text}" for event in every if f"{self.name}" in event.text]


@pytest.fixture
def app(fleet: Any, bundle: Make, request: pytest.FixtureRequest) -> Iterator[Callable[[str], App]]:
    """Make an application by name."""
    yield lambda name: App(name, fleet, bundle)
    for path in fleet.folder.glob("*/shared/down"):
        path.unlink()


def test_a_rollback_across_a_migration_is_shown_refused_and_allowed(fleet: Any, app: Callable[[str], App]) -> None:
    """The exact list, the exact next commands, exit 1 with nothing changed; and the way with the flag."""
    shop = app("shop")
    shop.deploy(1, (1,))
    assert shop.told() == ["all: shop-1 applies 1 migration: shop.0001"]
    shop.deploy(2, (1, 2, 3))
    assert shop.told() == ["all: shop-2 applies 2 migrations: shop.0002, shop.0003"]
    ended = shop.rollback(1)
    assert ended.exit_code == ExitCode.FAILED
    assert set(fleet.current().values()) == {"shop-2"}
    assert all(fleet.runs(name)[-1] == "shop-2" for name in fleet.names)
    release = shop.bundles[0].manifest.release_id
    listed = f"{release} does not know 2 applied migrations: shop.0002, shop.0003"
    assert ended.problems == tuple(f"{name}: migrations: {listed}" for name in fleet.names)
    assert "fab rollback:shop-1 --stage test  # when they are undone" in ended.next_step
    assert "fab rollback:shop-1 --stage test --allow-migrations" in ended.next_step
    ended = shop.rollback(1, "warn")
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert set(fleet.current().values()) == {"shop-1"}
    assert "all: shop-1 does not know 2 applied migrations: shop.0002, shop.0003" in shop.told()


def test_what_was_undone_by_hand_is_not_in_the_way(fleet: Any, app: Callable[[str], App]) -> None:
    """The live release is asked, and says so; it is written down, and never asked for again."""
    wiki = app("wiki")
    wiki.deploy(1, (1,))
    wiki.deploy(2, (1, 2))
    wiki.undo(2)
    ended = wiki.rollback(1)
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert wiki.asked() == {name: ["wiki-2"] for name in fleet.names}
    assert all("wiki.0002" not in fleet.history(name).applied for name in fleet.names)


def test_nothing_is_asked_where_nothing_is_crossed(fleet: Any, app: Callable[[str], App]) -> None:
    """The database is down, the live release is broken: a rollback to one that knows all of it needs neither."""
    blog = app("blog")
    blog.deploy(1, (1, 2))
    blog.deploy(2, (1, 2))
    blog.down()
    ended = blog.rollback(1)
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert (blog.asked(), blog.told()) == ({}, [])


def test_a_live_release_that_cannot_say_leaves_it_to_what_was_written_down(
    fleet: Any, app: Callable[[str], App]
) -> None:
    """Told with the reason, and refused by the list of the last deploy; one flag goes past it."""
    news = app("news")
    news.deploy(1, (1,))
    news.deploy(2, (1, 2))
    news.down()
    ended = news.rollback(1)
    assert ended.exit_code == ExitCode.FAILED
    assert "news.0002" in ended.problems[0]
    said = next(event.text for event in fleet.events if isinstance(event, Notice))
    assert "exit status 1: no database; going by what was written down at the last deploy" in said
    assert news.rollback(1, "allow").exit_code == ExitCode.OK
    assert news.asked() == {}


def test_once_is_one_question_for_the_fleet(fleet: Any, app: Callable[[str], App]) -> None:
    """The first host asks the one database; its answer counts for all, and every host writes it down."""
    mail = app("mail")
    mail.deploy(1, (1,), once=True)
    mail.deploy(2, (1, 2), once=True)
    known = mail.bundles[1].manifest.release_id
    assert all(fleet.history(name).known[known] == mail.migrations(1, 2) for name in fleet.names)
    ended = mail.rollback(1)
    assert ended.exit_code == ExitCode.FAILED
    assert len(ended.problems) == 3
    assert "undo them on web-1" in ended.next_step
    assert "web-2" not in ended.next_step
    assert mail.asked() == {"web-1": ["mail-2"]}
    mail.undo(2)
    ended = mail.rollback(1)
    assert ended.exit_code == ExitCode.OK, ended.problems
    assert mail.asked() == {"web-1": ["mail-2"]}
    assert all("mail.0002" not in fleet.history(name).applied for name in fleet.names)


def test_a_deploy_whose_list_fails_goes_on_and_says_so(fleet: Any, app: Callable[[str], App]) -> None:
    """Nothing is known then; a rollback to it asks the release itself, and compares after all."""
    docs = app("docs")
    docs.down()
    docs.deploy(1, (1,))
    told = [event.text for event in fleet.events if isinstance(event, Notice)]
    assert sum("no database; what it applies is not known" in text for text in told) == 3
    for path in fleet.folder.glob("*/shared/down"):
        path.unlink()
    docs.deploy(2, (1, 2))
    ended = docs.rollback(1)
    assert ended.exit_code == ExitCode.FAILED
    assert "docs.0002" in ended.problems[0]
    assert sum(asked[0] == "docs-1" for asked in docs.asked().values()) == 1


def test_a_release_from_before_that_lists_none_is_not_compared(fleet: Any, app: Callable[[str], App]) -> None:
    """Nobody can say what it knows: it is no reason to refuse the way back."""
    chat = app("chat")
    chat.deploy(1, (1,), lists=False)
    chat.deploy(2, (1, 2))
    assert chat.rollback(1).exit_code == ExitCode.OK


def test_what_neither_release_knows_is_told_and_no_reason_to_stay(fleet: Any, app: Callable[[str], App]) -> None:
    """It was crossed before, by a return or by an operator's word; the live release lives with it as well."""
    tube = app("tube")
    tube.deploy(1, (1,))
    tube.deploy(2, (1,))
    tube.deploy(3, (1, 2))
    assert tube.rollback(2, "warn").exit_code == ExitCode.OK
    ended = tube.rollback(1)
    assert ended.exit_code == ExitCode.OK, ended.problems
    told = [event.text for event in fleet.events if isinstance(event, Notice)]
    assert any(text.startswith("neither release knows ") for text in told)


def test_deploying_an_older_tag_across_a_migration_is_told(fleet: Any, app: Callable[[str], App]) -> None:
    """A deploy is an operator's plain word, so it goes on; what the tag does not know is named."""
    park = app("park")
    park.deploy(1, (1,))
    park.deploy(2, (1, 2))
    fleet.events.clear()
    assert fleet.deploy(park.bundles[0]).exit_code == ExitCode.OK
    assert any("park-1 does not know " in line and "park.0002" in line for line in park.told())


def test_without_a_command_nothing_is_said_and_nothing_is_written(fleet: Any, bundle: Make) -> None:
    """No line, no step, no record."""
    before = [record for record in journal.read(fleet.layout("web-1").journal) if record["what"] == "migrations"]
    assert fleet.deploy(bundle("plain")).exit_code == ExitCode.OK
    assert fleet.rollback("v1").exit_code == ExitCode.OK
    after = [record for record in journal.read(fleet.layout("web-1").journal) if record["what"] == "migrations"]
    assert before == after
    assert not any("migration" in str(event) for event in fleet.events)
