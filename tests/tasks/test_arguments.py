"""What the words on the command line become, through the real ``fab``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Fab = Callable[..., Any]


@pytest.mark.parametrize(
    "line",
    ["back:v1.0", "back:tag=v1.0", "back v1.0", "back --tag v1.0", "back --tag=v1.0"],
)
def test_every_form_of_a_tag_is_the_same_command(recording: Fab, line: str) -> None:
    """`back:v1.0`, `back v1.0` and `back --tag v1.0` reach the task alike."""
    ended = recording(*line.split())
    assert (ended.code, ended.out) == (0, "back | {'tag': 'v1.0'} | None | -\n"), ended.err


def test_no_tag_leaves_the_default(recording: Fab) -> None:
    """Plain `back` gives no tag."""
    assert recording("back").out == "back | {} | None | -\n"


def test_flags_follow_the_colon_form(recording: Fab) -> None:
    """`ship:v1 --stage production` gives both; the stage's name as a flag's value is no stage word."""
    ended = recording("ship:v1.1", "--stage", "production", "--restage", "--wait", "30")
    assert ended.out == "ship | {'tag': 'v1.1', 'stage': 'production', 'wait': 30, 'restage': True} | None | -\n"


def test_named_arguments_after_the_colon(recording: Fab) -> None:
    """`ship:v1,stage=staging,wait=5` is Fabric 1's way to give options."""
    ended = recording("ship:v1,stage=staging,wait=5")
    assert ended.out == "ship | {'tag': 'v1', 'stage': 'staging', 'wait': 5} | None | -\n"


def test_a_stage_word_holds_for_the_commands_after_it(recording: Fab) -> None:
    """`production ship:v1 back staging ship` runs two commands on production and one on staging."""
    ended = recording("production", "ship:v1", "back", "staging", "ship", "v2")
    assert ended.lines == [
        "ship | {'tag': 'v1'} | production | -",
        "back | {} | production | -",
        "ship | {'tag': 'v2'} | staging | -",
    ]


def test_a_stage_with_an_underscore_is_a_word_with_a_dash(recording: Fab) -> None:
    """Invoke spells task names with dashes; the stage keeps its own name."""
    assert recording("pre-prod", "ship").out == "ship | {} | pre_prod | -\n"


def test_several_tasks_on_a_line(recording: Fab) -> None:
    """A known task's name after a command is that task, never a tag; the user's tasks keep their arguments."""
    ended = recording("ship", "back:v1", "own", "v2", "--tag", "ship", "plain", "-n", "back", "ship", "v3")
    assert ended.lines == [
        "ship | {} | None | -",
        "back | {'tag': 'v1'} | None | -",
        "own | {'name': 'v2', 'tag': 'ship'} | None | -",
        "plain | {'note': 'back'} | None | -",
        "ship | {'tag': 'v3'} | None | -",
    ]


def test_required_positionals_of_the_users_tasks_are_left_alone(recording: Fab) -> None:
    """A required argument may be any word: a task's name, a word with a colon, a stage."""
    for word in ("ship", "a:b", "production", "own"):
        assert recording("own", word).out == f"own | {{'name': '{word}'}} | None | -\n"


def test_the_colon_form_works_for_the_users_tasks(recording: Fab) -> None:
    """`own:x,tag=y` fills the required argument and the named one; flags still follow."""
    assert recording("own:x,tag=y", "--loud").out == "own | {'name': 'x', 'tag': 'y', 'loud': True} | None | -\n"


def test_the_users_tasks_take_no_bare_tag(recording: Fab) -> None:
    """Only this library's commands read a bare word as a tag."""
    ended = recording("own", "x", "v1")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "no task 'v1'; see fab --list\n"


def test_flags_of_fab_itself_stay_where_they_are(recording: Fab) -> None:
    """Core flags before and after a command, long, short and by alias, are not tags and eat their own values."""
    for words in (["-H", "web-1", "ship", "v1"], ["ship", "-H", "web-1", "v1"], ["ship:v1", "-t", "5", "-H", "web-1"]):
        assert recording(*words).out == "ship | {'tag': 'v1', 'hosts': 'web-1'} | None | -\n"
    assert recording("plain", "--hosts", "web-1").out == "plain | {'note': 'x'} | None | web-1\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("bakc:v1", "no task 'bakc'; did you mean 'back:v1'?"),
        ("bakc", "no task 'bakc'; did you mean 'back'?"),
        ("zzz", "no task 'zzz'; see fab --list"),
        ("ship:v1 --restge", "ship has no option --restge; did you mean '--restage'?"),
        ("ship:tga=v1", "ship has no option 'tga'; did you mean 'tag'?"),
        ("ship:v1,v2", "ship takes no value 'v2'; see fab --help ship"),
        ("ship:v1,restage=yes", "--restage of ship is a switch and takes no value; write ship --restage"),
        ("ship:", "nothing after the colon of 'ship:'; write ship:TAG or plain ship"),
        ("ship:tag=", "ship: nothing given for tag"),
        ("ship v1 v2", "ship already has its tag, and there is no task 'v2'"),
        ("ship v1 bakc", "ship already has its tag, and there is no task 'bakc'; did you mean 'back'?"),
        ("ship:v1 --tag v2", "ship: tag is given twice"),
        ("ship --stage staging --stage production", "ship: stage is given twice"),
        ("production ship --stage staging", "ship: stage is both 'production' and 'staging'; name one"),
        ("production", "stage 'production' has no command after it; write fab production COMMAND"),
        ("ship production", "stage 'production' has no command after it; write fab production COMMAND"),
        (
            "staging production ship",
            "stage 'staging' is followed by stage 'production'; write the command between them",
        ),
        ("--help bakc", "no task 'bakc'; did you mean 'back'?"),
        ("--dry ship", "--dry is for deploy; ship has none, and `fab check` changes nothing"),
        ("-f none.yaml ship", "no such settings file: 'none.yaml' (-f)"),
        ("ship -H a --hosts b", "ship: hosts are named twice, by -H and by --hosts"),
        ("own", "'own' did not receive required positional arguments: 'name'"),
    ],
)
def test_a_line_that_cannot_be_read_is_one_line_and_exit_2(recording: Fab, line: str, error: str) -> None:
    """Nothing runs, exit 2, one line that says what to write instead."""
    ended = recording(*line.split())
    assert (ended.code, ended.out, ended.err) == (2, "", error + "\n")


@pytest.mark.parametrize(
    "tag",
    [
        "-rf",
        "$(touch${IFS}/x)",
        "`id`",
        "a;b",
        "a b",
        "a'b",
        'a"b',
        "../x",
        "a..b",
        "current",
        "HEAD",
        "é",
        "x" * 101,
        "a\nb",
    ],
)
@pytest.mark.parametrize("form", [["back:{}"], ["back", "--tag={}"], ["back:tag={}"]])
def test_hostile_tags_are_refused_before_anything(recording: Fab, tag: str, form: list[str]) -> None:
    """A name that is no deployable tag ends with exit 2 in every form: no task runs, nothing is echoed raw."""
    ended = recording(*[word.format(tag) for word in form])
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.isascii()
    assert ended.err.count("\n") == 1


def test_an_option_of_the_wrong_kind_is_no_traceback(recording: Fab) -> None:
    """`--wait soon` is exit 2."""
    ended = recording("ship", "--wait", "soon")
    assert (ended.code, ended.out) == (2, "")
    assert "wrong kind" in ended.err


def test_help_of_a_task_in_the_colon_form(recording: Fab) -> None:
    """`--help back:v1` and `back:v1 --help` are about `back`."""
    for words in (["--help", "back:v1"], ["back:v1", "--help"], ["back", "--help"]):
        ended = recording(*words)
        assert ended.code == 0
        assert ended.out.startswith("Usage: fab [--core-opts] back ")
