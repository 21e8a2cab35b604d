"""Which paths `exclude` leaves out."""

from __future__ import annotations

import pytest

from deploy.bundle.globs import excluder


@pytest.mark.parametrize(
    ("glob", "out", "kept"),
    [
        ("tests", ["tests/a.py", "app/tests/b.py", "tests"], ["mytests/a", "tests.py"]),
        ("*.md", ["README.md", "docs/x.md"], ["x.mdx", "md"]),
        ("docs/*.md", ["docs/x.md"], ["docs/a/x.md", "a/docs/x.md", "README.md"]),
        ("docs/**", ["docs/a", "docs/a/b"], ["docs2/a"]),
        ("docs/**/x", ["docs/x", "docs/a/b/x"], ["docs/y"]),
        ("/docs", ["docs/a", "docs"], ["adocs/x", "a/docs/b"]),
        ("./a/b/", ["a/b/c", "a/b"], ["a/bc"]),
        ("a?c", ["abc"], ["a/c", "abbc"]),
        ("[ab]x", ["ax", "bx"], ["cx"]),
        ("[!ab]x", ["cx"], ["ax"]),
        ("a.b", ["a.b"], ["axb"]),
        ("(a|b)+", ["(a|b)+"], ["a", "ab"]),
        ("new\nline", ["new\nline"], ["new"]),
    ],
)
def test_globs(glob: str, out: list[str], kept: list[str]) -> None:
    """A glob leaves out what it fits, at any depth without a slash, and all below a folder it fits."""
    is_excluded = excluder([glob])
    assert [path for path in out if not is_excluded(path)] == []
    assert [path for path in kept if is_excluded(path)] == []


def test_no_globs_exclude_nothing() -> None:
    """Without globs everything ships."""
    assert not excluder([])("anything")
