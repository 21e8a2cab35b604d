"""The page of guarantees is complete: every fault has a test named after it, and every test it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs/reference/guarantees.md"
LAST = 59


def rows() -> dict[int, list[str]]:
    """The tests that the page names, by line."""
    found = re.findall(r"^\| (\d+) \| [^|]+ \| [^|]+ \|([^|]*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): re.findall(r"`([^`]+)`", tests) for number, tests in found}


@cache
def functions(file: str) -> frozenset[str]:
    """Every test that a file defines."""
    path = TESTS / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef))


def test_every_line_has_a_test_named_after_it() -> None:
    """All lines are there, in order, and none has only words."""
    found = rows()
    assert list(found) == list(range(1, LAST + 1))
    without = [n for n, tests in found.items() if not any(f"::test_line_{n}_" in test for test in tests)]
    assert without == []


def test_every_test_exists() -> None:
    """A test that was renamed or removed is noticed here."""
    named = {test for tests in rows().values() for test in tests}
    missing = [test for test in sorted(named) if test.partition("::")[2] not in functions(test.partition("::")[0])]
    assert missing == []
