"""The exec line: the one line of shell there is, the same words under every login shell."""

from __future__ import annotations

import base64
import shutil
import subprocess
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.link import launch

DIGEST = "0" * 64
SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh", "busybox")
ROOTS = [
    "/srv/demo",
    "/srv/with space",
    "/srv/$(id)",
    "/srv/a'b\"c",
    "/srv/a!b",
    "/srv/é\n",
    "/srv/100%",
    "/srv/*?[a]~#&;|<>\\",
]


def words(line: str, shell: str) -> list[str]:
    """What a login shell would start: the line with a Python that prints its arguments."""
    say = 'import sys; print("\\0".join(sys.argv[1:]), end="")'
    head, loader, rest = line.partition(launch.loader())
    assert loader
    argv = [shell, "sh", "-c"] if shell.endswith("busybox") else [shell, "-c"]
    program = base64.b64encode(say.encode()).decode()
    stand_in = f'import base64;exec(base64.b64decode("{program}"))'
    answer = subprocess.run([*argv, head + stand_in + rest], capture_output=True, text=True, check=True)
    return answer.stdout.split("\0")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_sees_the_same_words(shell: str) -> None:
    """Odd characters of ROOT travel percent-encoded, so none of them ever needs quoting."""
    found = shutil.which(shell)
    if not found:
        pytest.skip(f"no {shell} here")
    for root in ROOTS:
        digest, encoded = words(launch.exec_line("python3", DIGEST, root), found)
        assert (digest, unquote(encoded)) == (DIGEST, root)


@pytest.mark.parametrize("shell", [name for name in ("sh", "fish", "csh") if shutil.which(name)])
def test_the_loader_itself_survives_the_shell(shell: str) -> None:
    """It arrives as it was written: it starts, waits for a greeting, and says so when there is none."""
    line = launch.exec_line("python3", DIGEST, "/nowhere")
    answer = subprocess.run([shell, "-c", line], input=b"", capture_output=True, check=False)
    assert answer.returncode == 1
    assert b"no greeting on stdin" in answer.stderr


@settings(deadline=None)
@given(
    st.text(min_size=1, max_size=60)
    .map(lambda text: "/" + text)
    .filter(lambda text: text.isprintable() or "\n" in text)
)
def test_any_root_becomes_a_word_of_the_safe_alphabet(root: str) -> None:
    """Letters, digits and a few signs; it comes back as it was."""
    word = launch.exec_line("python3", DIGEST, root).rsplit(" ", 1)[1]
    assert word.isascii()
    assert not set(word) & set(" \t\n'\"\\$`!*?[]{}()<>|&;#~=^")
    assert unquote(word) == root


@pytest.mark.parametrize(
    "python", ["python3; id", "python 3", "$PYTHON", "-c", "%x", "", "py'thon", "python3\n", "`x`", "a=b", "~/x"]
)
def test_a_python_that_is_no_single_word_is_refused(python: str) -> None:
    """It is the one word that is not encoded, since a shell must find it."""
    with pytest.raises(ValueError, match="not a safe word"):
        launch.exec_line(python, DIGEST, "/srv/demo")


@pytest.mark.parametrize("python", ["python3", "python3.11", "/opt/py-3.11+x/bin/python", "./venv/bin/python"])
def test_ordinary_pythons_are_taken(python: str) -> None:
    """Names on PATH and paths."""
    assert launch.exec_line(python, DIGEST, "/srv/demo").startswith(f"{python} -I -S -c '")


def test_the_line_fits_where_lines_are_short() -> None:
    """Some sshds and forced commands log or cut at eight kilobytes; csh has no newline and no exclamation mark."""
    line = launch.exec_line("python3", DIGEST, "/srv/demo")
    assert len(line) < 8000
    assert "\n" not in line
    assert "!" not in line
