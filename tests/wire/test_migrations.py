"""Lists of migrations as commands print them, and what one release knows that another does not."""

from __future__ import annotations

import pytest

from deploy.wire.migrations import MOST, Listing, last_known, read, union, unknown_to

PLAN = """\
[X]  contenttypes.0001_initial
[X]  auth.0001_initial ... (contenttypes.0001_initial)
[ ]  shop.0001_initial
"""
GROUPED = """\
System check identified some issues:
auth
 [X] 0001_initial
 [X] 0002_squashed_0004 (3 squashed migrations)
empty
 (no migrations)
shop
 [ ] 0001_initial
"""


def test_the_plan_of_django() -> None:
    """In its order, with or without dependencies behind the name."""
    assert read(PLAN) == Listing(
        ["contenttypes.0001_initial", "auth.0001_initial", "shop.0001_initial"], ["shop.0001_initial"]
    )


def test_the_list_of_django_without_plan() -> None:
    """Names are told below their app: as they stand, one app's 0001_initial would be another's."""
    assert read(GROUPED) == Listing(
        ["auth.0001_initial", "auth.0002_squashed_0004", "shop.0001_initial"], ["shop.0001_initial"]
    )


def test_bare_names_say_nothing_of_what_is_applied() -> None:
    """What is no single word is talk, and a secret that the app prints is no name."""
    listing = read("loading the app\nae1027a6acf\n  1975ea83b712 \nhunter2\n\n", leave_out={"hunter2"})
    assert listing == Listing(["ae1027a6acf", "1975ea83b712"], None)


def test_talk_between_marked_lines_is_left_out() -> None:
    """A warning of one word does not become a migration."""
    assert read("Warning\n[X]  shop.0001\ndone\n") == Listing(["shop.0001"], [])
    assert read("[X]  \x1b[1mshop.0001\n[X]  $(reboot)\n") == Listing([], None)
    assert read("") == Listing([], None)


def test_a_list_without_end_is_refused() -> None:
    """Rather than carried into the journal."""
    with pytest.raises(ValueError, match="more than"):
        read("".join(f"m{number}\n" for number in range(MOST + 1)))


def test_several_lists_are_one() -> None:
    """Two databases of one release: applied where one of them says so."""
    one, two = Listing(["a", "b"], ["a", "b"]), Listing(["b", "c"], [])
    assert union([one, two]) == Listing(["a", "b", "c"], ["a"])
    assert union([one, Listing(["d"], None)]) == Listing(["a", "b", "d"], None)


def test_going_back_across_is_told_from_what_was_passed_before() -> None:
    """Across: the live release knows it, the target does not. Where nothing is recorded all counts as gone across."""
    applied = ["a", "b", "c"]
    assert unknown_to(["a"], ["a", "b"], applied) == (["b"], ["c"])
    assert unknown_to(["a"], None, applied) == (["b", "c"], [])
    assert unknown_to(["a", "b", "c", "d"], ["a"], applied) == ([], [])


def test_where_an_app_is_taken_back_to() -> None:
    """The last one that the target lists, or zero where it knows nothing of the app."""
    target = ["auth.0001", "shop.0001", "shop.0002", "shopping.0009"]
    assert last_known(["shop.0004", "shop.0003", "news.0001"], target) == {"shop": "0002", "news": "zero"}
