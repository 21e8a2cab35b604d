"""``fab vendor.check`` as an operator meets it: the stock command, its words and its exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import deploy


def fab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the stock fab in a project."""
    environment = {**os.environ, "PYTHONPATH": str(Path(deploy.__file__).parent.parent)}
    argv = [sys.executable, "-m", "fabric", *words]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def described(project: Any) -> Any:
    """A project with a fabfile and settings."""
    (project.folder / "fabfile.py").write_text('"""Tasks."""\nfrom deploy.tasks import namespace\nns = namespace()\n')
    (project.folder / "fabric.yaml").write_text('deploy:\n  app: demo\n  python: "3.11"\n')
    return project


@pytest.mark.slow
def test_hole_is_exit_2_with_its_chain(described: Any, make_sdist: Any) -> None:
    """A nested hole ends the command with 2, the chain and the next command; a closed set with 0."""
    described.lock("lib\n", [make_sdist("lib", "1.0", ["dep"])])
    done = fab(described.folder, "vendor.check")
    assert done.returncode == 2
    assert "  - lib 1.0 -> dep: not in vendor/" in done.stderr
    assert "next: fab vendor.lock && fab vendor.fetch" in done.stderr
    compiled = {"setup.py": "setup(ext_modules=[Extension('x', ['x.c'])])", "x.c": ""}
    described.lock("lib\n", [make_sdist("lib", "1.0", files=compiled)])
    done = fab(described.folder, "vendor.check")
    assert (done.returncode, done.stderr) == (0, "")
    needs, closed = done.stdout.splitlines()
    assert needs.endswith("hosts need a C compiler and Python's headers (Debian: gcc python3-dev) for: lib 1.0")
    assert "closed: requirements/app for python3.11-linux_x86_64" in closed


@pytest.mark.slow
def test_bad_in_file_stops_lock(described: Any) -> None:
    """``vendor.lock`` refuses an option line with its place, exit 2."""
    described.asked_path.write_text("--index-url https://index.example\n")
    done = fab(described.folder, "vendor.lock")
    assert done.returncode == 2
    assert "requirements/app.in:1: option lines are refused (--index-url)" in done.stderr


@pytest.mark.slow
def test_fetch_tells_of_a_rule_that_git_has_and_mends_it_when_told_to(described: Any, make_wheel: Any) -> None:
    """Without a terminal nobody is asked: the rule is named with the option that overrides it."""
    described.lock("lib\n", [make_wheel("lib", "1.0")])
    (described.folder / ".gitignore").write_text("*.whl\n")
    subprocess.run(["git", "init", "-q"], cwd=described.folder, check=True)
    done = fab(described.folder, "vendor.fetch")
    assert "git ignores vendor/lib-1.0-py3-none-any.whl, " in done.stdout
    assert "by .gitignore:1: *.whl" in done.stdout
    assert "fab vendor.fetch --mend" in done.stdout
    assert not (described.vendor / ".gitignore").exists()
    done = fab(described.folder, "vendor.fetch", "--mend")
    assert "wrote vendor/.gitignore; next: git add vendor/.gitignore vendor/, and commit" in done.stdout
    assert "git ignores" not in fab(described.folder, "vendor.check").stdout


@pytest.mark.slow
def test_store_fills_the_folder_that_the_settings_name(described: Any, make_wheel: Any) -> None:
    """Counted from the project; without the setting the command says what to write."""
    described.lock("lib\n", [make_wheel("lib", "1.0")])
    assert "vendor_store: FOLDER" in fab(described.folder, "vendor.store").stderr
    (described.folder / "archives").mkdir()
    with (described.folder / "fabric.yaml").open("a") as settings:
        settings.write("  vendor_store: archives\n")
    done = fab(described.folder, "vendor.store")
    assert (done.returncode, "archives added: 3" in done.stdout) == (0, True)
    for path in described.vendor.iterdir():
        path.unlink()
    assert "archives fetched: 3" in fab(described.folder, "vendor.fetch").stdout


@pytest.mark.slow
def test_adopting_what_no_index_gives_is_exit_2(described: Any) -> None:
    """``vendor.adopt`` lists what it would have to drop, with the way out, and writes nothing."""
    python = sysconfig.get_python_version()
    (described.folder / "fabric.yaml").write_text(f'deploy:\n  app: demo\n  python: "{python}"\n')
    (described.folder / "old.txt").write_text("six\ngit+https://x.example/lib.git\n./lib\n")
    done = fab(described.folder, "vendor.adopt", "old.txt")
    assert done.returncode == 2
    assert "  - old.txt:2: git+https://x.example/lib.git: a VCS requirement" in done.stderr
    assert "  - old.txt:3: ./lib: an address or a path" in done.stderr
    assert "--force leaves them out" in done.stderr
    assert not described.asked_path.exists()


@pytest.mark.slow
def test_interrupted_lock_says_what_is_true(described: Any) -> None:
    """Ctrl-C while the index does not answer: exit 130, nothing was written, and nothing is said of hosts."""
    described.asked_path.write_text("lib\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        index = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        library = str(Path(deploy.__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": library, "PIP_INDEX_URL": index, "PIP_NO_INDEX": "0"}
        running = subprocess.Popen(
            [sys.executable, "-m", "fabric", "vendor.lock"],
            cwd=described.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        connection, _ = server.accept()
        with connection:
            os.killpg(running.pid, signal.SIGINT)
            _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "No host was contacted. Pins are as they were, or whole" in told
    assert "Traceback" not in told
    assert not described.pins_path.exists()
