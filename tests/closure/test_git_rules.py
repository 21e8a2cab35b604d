"""What git does to vendored archives, asked of real git, and taken back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.closure import mend, traps

WHEEL, SOURCE = b"PK\x03\x04\x00wheel", b"no NUL in this\r\none: text to git\r\n"


def git(root: Path, *words: str) -> bytes:
    """Run git in a project."""
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True).stdout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project two folders below the top of a repository, with a wheel and a source archive; HOME has no settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    root = tmp_path / "top/sub/project"
    (root / "vendor").mkdir(parents=True)
    (root / "vendor/a-1.0-py3-none-any.whl").write_bytes(WHEEL)
    (root / "vendor/b-1.0.tar.gz").write_bytes(SOURCE)
    git(tmp_path / "top", "init", "-q")
    return root


def stored(root: Path) -> dict[str, bytes]:
    """Add everything, and give what git then holds of vendor/."""
    git(root, "add", "-A")
    names = git(root, "ls-files", "vendor").decode().split()
    return {name: git(root, "cat-file", "blob", f":./{name}") for name in names if "/.git" not in name}


WHOLE = {"vendor/a-1.0-py3-none-any.whl": WHEEL, "vendor/b-1.0.tar.gz": SOURCE}
RULES = {
    "files": ({".gitignore": "# mine\n*.whl\n"}, ["sub/project/.gitignore:2: *.whl"]),
    "the folder": ({".gitignore": "vendor/\n"}, ["sub/project/.gitignore:1: vendor/"]),
    "folder and files": ({".gitignore": "vendor\n*.gz\n*.whl\n"}, ["sub/project/.gitignore:1: vendor"]),
    "all but": ({".gitignore": "/*\n!/requirements/\n"}, ["sub/project/.gitignore:1: /*"]),
    "from above": ({"../../.gitignore": "*.gz\n"}, [".gitignore:1: *.gz"]),
    "the clone's own": ({"../../.git/info/exclude": "vendor/\n"}, ["/info/exclude:1: vendor/"]),
    "the user's own": ({"../../../.config/git/ignore": "*.gz\n"}, ["/git/ignore:1: *.gz"]),
    "line endings": (
        {".gitattributes": "*.txt text\n*.gz text eol=crlf\n"},
        ["sub/project/.gitattributes:2: *.gz text eol=crlf"],
    ),
    "eol alone": ({"../../.gitattributes": "sub/**/*.gz eol=lf\n"}, [".gitattributes:1: sub/**/*.gz eol=lf"]),
    "filter": (
        {"vendor/.gitattributes": "*.gz filter=upper\n"},
        ["sub/project/vendor/.gitattributes:1: *.gz filter=upper"],
    ),
    "both": (
        {".gitattributes": "* text\n", ".gitignore": "*.whl"},
        ["sub/project/.gitignore:1: *.whl", "sub/project/.gitattributes:1: * text"],
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_a_rule_is_named_and_taken_back(root: Path, case: str) -> None:
    """Each trap is told with file and line; mended, git holds every file byte for byte, and mending again is idle."""
    written, named = RULES[case]
    for path, text in written.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    git(root, "config", "filter.upper.clean", "tr a-z A-Z")
    for trap, rule in zip(traps(root), named, strict=True):
        # What lies outside the tree is told by its whole path.
        assert trap.rule == rule or (rule.startswith("/") and trap.rule.endswith(rule))
    assert mend(root)
    assert traps(root) == ()
    assert stored(root) == WHOLE
    assert mend(root) == ()


def test_autocrlf_is_a_trap_for_what_looks_like_text(root: Path) -> None:
    """An archive with NULs is left alone by git; one without is converted, and that is told."""
    git(root, "config", "core.autocrlf", "input")
    assert [str(trap) for trap in traps(root)] == ["git converts vendor/b-1.0.tar.gz, by core.autocrlf"]
    assert mend(root) == ("vendor/.gitattributes",)
    assert stored(root) == WHOLE


def test_what_is_tracked_or_harmless_is_no_trap(root: Path) -> None:
    """Rules that change nothing: files tracked already, text=auto, Git LFS, a rule for other files."""
    git(root, "add", "-A")
    (root / ".gitignore").write_text("*.whl\n")
    (root / ".gitattributes").write_text("*.txt text\n* text=auto\n*.whl filter=lfs diff=lfs merge=lfs -text\n")
    assert traps(root) == ()
    assert mend(root) == ()


def test_a_rule_with_the_last_word_stays_told(root: Path) -> None:
    """Nothing in the tree overrides .git/info/attributes; what a person wrote before is kept."""
    (root / "../../.git/info/attributes").write_text("*.gz text\n")
    (root / "vendor/.gitattributes").write_text("# mine")
    mend(root)
    assert (root / "vendor/.gitattributes").read_text().startswith("# mine\n* -text")
    assert [trap.rule.endswith("/info/attributes:1: *.gz text") for trap in traps(root)] == [True]
    assert mend(root) == ()


def test_no_repository_no_traps(tmp_path: Path) -> None:
    """A folder that git does not know, and none at all."""
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/a.whl").write_bytes(b"x")
    assert traps(tmp_path) == traps(tmp_path / "absent") == ()
