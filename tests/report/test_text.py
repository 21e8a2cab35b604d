"""Foreign text on a screen: shown, never obeyed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.report.text import duration, escape, hosts, lines, moment, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with Umläute and 漢字", "plain, with Umläute and 漢字"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\nc\td\x00", "a\\x0db\\x0ac\\x09d\\x00"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028break", "line\\u2028break"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
    ],
)
def test_escapes_are_visible(text: str, shown: str) -> None:
    """Control sequences, bidi overrides, invisible characters and broken UTF-8 are spelled out; the rest stays."""
    assert escape(text) == shown


@given(st.text(), st.integers(min_value=4, max_value=50))
def test_whatever_comes_one_printable_line_goes_out(text: str, limit: int) -> None:
    """No input reaches the terminal as anything but printable characters on one line, of bounded length."""
    shown = escape(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit * len("\\U0010ffff")
    assert shown.encode("utf-8").decode("utf-8") == shown


def test_long_logs_keep_their_end() -> None:
    """Of a long detail the last lines are shown, where causes stand, and the number left out is said."""
    shown = lines("\n".join(f"line {n}" for n in range(100)) + "\n\n", limit=3)
    assert shown == ["... 97 lines before, in the log", "line 97", "line 98", "line 99"]
    assert lines("") == []
    assert lines("one\r\ntwo") == ["one", "two"]


def test_words_for_numbers() -> None:
    """Durations, sizes, hosts and times are short and carry their units."""
    assert [duration(0.04), duration(59.9), duration(125)] == ["0.0 s", "59.9 s", "2 min 5 s"]
    assert [size(0), size(999), size(48_000_000), size(3_000_000_000)] == ["0 B", "999 B", "48.0 MB", "3.0 GB"]
    assert [hosts([]), hosts(["a"])] == ["no host", "1 host: a"]
    assert hosts([f"w{n}" for n in range(12)], limit=2) == "12 hosts: w0, w1 and 10 more"
    assert moment("2026-11-23T09:30:00+01:00") == "2026-11-23 08:30 UTC"
    assert [moment(None), moment("yesterday\x1b[2J")] == ["", "yesterday\\x1b[2J"]
