"""Locking and fetching for real: pip's resolver, real backends, an index that is a folder of archives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.closure import WorkTree, add, check, fetch, lock, lockfile, plan, prune, read
from deploy.errors import Failed, Refused
from tests.closure.conftest import PYTHON, Folder, as_pages, ask, silent


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and modification time of everything in requirements/."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (root / "requirements").iterdir()}


@pytest.mark.slow
def test_lock_fetch_check_install(index: Folder, root: Path, make_sdist: Any, make_wheel: Any) -> None:
    """Lock, fetch and check close a set with dynamic build requirements, and plain pip installs its pins."""
    index.offer(
        make_sdist(
            "lib",
            "1.0",
            ["dep>=1", 'opt; extra == "fast_mode"', 'docs; extra == "docs"'],
            ["minibackend"],
            files={"lib.py": "", "build-needs.txt": "stamp\n"},
            extra="Provides-Extra: fast_mode\n",
            standard="2.1",
        ),
        make_wheel("opt", "1.0"),
        make_sdist("lib", "0.9"),
        make_sdist("dep", "1.2", [], ["minibackend"], files={"dep.py": ""}),
        make_sdist("stamp", "2.0", [], ["minibackend"], files={"stamp.py": ""}),
    )
    ask(root, "Lib[Fast-Mode]\n")
    locked = lock(root, "app", (PYTHON,), silent)
    assert locked.changes == ("dep (new) -> 1.2", "lib (new) -> 1.0", "opt (new) -> 1.0")
    done = fetch(root, "app", silent)
    assert "stamp-2.0.tar.gz" in done.fetched
    found = check(WorkTree(root), "app")
    target = found.targets[0]
    assert target.install == ("dep-1.2.tar.gz", "opt-1.0-py3-none-any.whl", "lib-1.0.tar.gz")
    # What old metadata cannot be trusted for is in the lock, without what only unused extras want.
    assert found.archives["lib-1.0.tar.gz"].requires == ("dep>=1", 'opt; extra == "fast_mode"')
    assert target.builds["lib-1.0.tar.gz"].dynamic == ("stamp",)
    assert target.builds["lib-1.0.tar.gz"].environment == ("minibackend-1.0.tar.gz", "stamp-2.0.tar.gz")
    assert str(index.folder) not in (root / "requirements/pylock.app.toml").read_text()
    assert [entry.name for entry in plan.targets(found)] == [f"python{PYTHON}-any"]
    _install(root)


def _install(root: Path) -> None:
    """Install the pins with plain pip in a new virtualenv, from vendor/ alone."""
    made = root.parent / "venv"
    subprocess.run([sys.executable, "-m", "virtualenv", "-q", "--no-download", str(made)], check=True)
    sealed = {"PATH": os.environ["PATH"], "HOME": str(root.parent), "PIP_CONFIG_FILE": "/dev/null"}
    argv = ["install", "-q", "--no-index", "--find-links", "vendor", "--require-hashes", "-r", "requirements/app.txt"]
    subprocess.run([str(made / "bin/python"), "-m", "pip", *argv], cwd=root, env=sealed, check=True)
    subprocess.run([str(made / "bin/python"), "-c", "import lib, dep"], check=True)


@pytest.mark.slow
def test_locking_again_touches_nothing(index: Folder, root: Path, make_sdist: Any) -> None:
    """The same input gives the same bytes, and an unchanged project is not written at all, without any index."""
    index.offer(make_sdist("lib", "1.0"))
    ask(root, "lib\n")
    lock(root, "app", (PYTHON,), silent)
    before = snapshot(root)
    index.offer(make_sdist("lib", "2.0"))
    assert not lock(root, "app", (PYTHON,), silent).changed
    assert snapshot(root) == before
    (root / "requirements/pylock.app.toml").unlink()
    (index.folder / "lib-2.0.tar.gz").unlink()
    lock(root, "app", (PYTHON,), silent)
    assert {name: data for name, (data, _) in snapshot(root).items()} == {
        name: data for name, (data, _) in before.items()
    }


@pytest.mark.slow
def test_a_change_keeps_other_versions_until_upgrade(index: Folder, root: Path, make_wheel: Any) -> None:
    """Adding a requirement leaves the pins of others alone; ``upgrade`` moves them."""
    index.offer(make_wheel("lib", "1.0"))
    ask(root, "lib\n")
    lock(root, "app", (PYTHON,), silent)
    index.offer(make_wheel("lib", "2.0"), make_wheel("new", "1.0"))
    ask(root, "lib\nnew\n")
    assert lock(root, "app", (PYTHON,), silent).changes == ("new (new) -> 1.0",)
    assert lock(root, "app", (PYTHON,), silent, upgrade=True).changes == ("lib 1.0 -> 2.0",)


@pytest.mark.slow
def test_conflicting_build_requirements_lie_side_by_side(
    index: Folder, root: Path, make_sdist: Any, make_wheel: Any
) -> None:
    """Where two builds want two versions of one tool, both are locked, each for its own."""
    for version in ("7.0", "8.0"):
        index.offer(make_sdist("tool", version, files={"tool.py": ""}), make_wheel("tool", version))
    for name, need in (("old", "tool<8"), ("new", "tool>=8")):
        index.offer(make_sdist(name, "1.0", [], ["minibackend", need]), make_wheel(name, "1.0"))
    ask(root, "old\nnew\n")
    target = lock(root, "app", (PYTHON,), silent).lock.targets[0]
    assert target.builds["old-1.0.tar.gz"].environment == ("minibackend-1.0.tar.gz", "tool-7.0.tar.gz")
    assert target.builds["new-1.0.tar.gz"].environment == ("minibackend-1.0.tar.gz", "tool-8.0.tar.gz")
    fetch(root, "app", silent)
    check(WorkTree(root), "app")


@pytest.mark.slow
def test_a_tool_without_a_wheel_is_built_with_all_it_wants(index: Folder, root: Path, make_sdist: Any) -> None:
    """What a tool's backend asks for only when asked is there when that tool is built to ask the next one."""
    index.offer(
        make_sdist("lib", "1.0", [], ["minibackend", "tool"]),
        make_sdist("tool", "1.0", [], ["minibackend"], files={"tool.py": "", "build-needs.txt": "stamp\n"}),
        make_sdist("stamp", "1.0", [], ["minibackend"], files={"stamp.py": ""}),
    )
    ask(root, "lib\n")
    builds = lock(root, "app", (PYTHON,), silent).lock.targets[0].builds
    assert builds["tool-1.0.tar.gz"].environment == ("minibackend-1.0.tar.gz", "stamp-1.0.tar.gz")
    assert builds["lib-1.0.tar.gz"].environment == ("minibackend-1.0.tar.gz", "tool-1.0.tar.gz")


@pytest.mark.slow
def test_policy_and_reasons(index: Folder, root: Path, make_sdist: Any, make_wheel: Any) -> None:
    """Source is the rule; a wheel is taken for a foreign toolchain, a policy comment, or where there is no source."""
    index.offer(make_sdist("plain", "1.0"), make_wheel("plain", "1.0"))
    index.offer(make_sdist("rusty", "1.0", [], ["maturin>=1"]), make_wheel("rusty", "1.0"))
    index.offer(make_sdist("asked", "1.0"), make_wheel("asked", "1.0"), make_wheel("binary", "1.0"))
    ask(root, "plain\nrusty\nasked\nbinary\n# policy: Asked wheel\n")
    archives = lock(root, "app", (PYTHON,), silent).lock.archives
    assert archives["plain-1.0.tar.gz"].reason == ""
    assert "Rust" in archives["rusty-1.0-py3-none-any.whl"].reason
    assert "policy comment" in archives["asked-1.0-py3-none-any.whl"].reason
    assert "no source archive" in archives["binary-1.0-py3-none-any.whl"].reason


@pytest.mark.slow
def test_build_loop_is_refused_with_the_way_out(index: Folder, root: Path, make_sdist: Any, make_wheel: Any) -> None:
    """Tools that need each other are shown as a loop, and the policy comment that breaks it works."""
    for name, other in (("egg", "hen"), ("hen", "egg")):
        index.offer(make_sdist(name, "1.0", [], [other]), make_wheel(name, "1.0"))
    ask(root, "egg\n")
    with pytest.raises(Refused, match="egg -> hen -> egg") as refused:
        lock(root, "app", (PYTHON,), silent)
    assert not (root / "requirements/app.txt").exists()
    comment = refused.value.next_step.split("'")[1]
    ask(root, f"egg\n{comment}\n")
    lock(root, "app", (PYTHON,), silent)


@pytest.mark.slow
def test_what_cannot_be_resolved_writes_nothing(index: Folder, root: Path, make_wheel: Any) -> None:
    """A conflict and an absent package are refused with pip's words; nothing is written."""
    index.offer(make_wheel("lib", "1.0"))
    ask(root, "lib>=2\n")
    with pytest.raises(Refused) as refused:
        lock(root, "app", (PYTHON,), silent)
    assert any("lib>=2" in problem for problem in refused.value.problems)
    assert [path.name for path in (root / "requirements").iterdir()] == ["app.in"]


@pytest.mark.slow
def test_fetch_repairs_prunes_and_never_shows_wrong_bytes(index: Folder, root: Path, make_wheel: Any) -> None:
    """A damaged file is fetched again, a stray is only removed when asked, other bytes on the index never land."""
    index.offer(make_wheel("lib", "1.0"))
    ask(root, "lib\n")
    lock(root, "app", (PYTHON,), silent)
    fetch(root, "app", silent)
    file = root / "vendor/lib-1.0-py3-none-any.whl"
    right = file.read_bytes()
    file.write_bytes(right + b"x")
    (root / "vendor/stray.tar.gz").write_bytes(b"x")
    done = fetch(root, "app", silent)
    assert (done.fetched, done.strays, done.pruned) == ((file.name,), ("stray.tar.gz",), ())
    assert file.read_bytes() == right
    assert fetch(root, "app", silent, prune=True).pruned == ("stray.tar.gz",)
    check(WorkTree(root), "app")
    file.unlink()
    (index.folder / file.name).write_bytes(right + b"swapped")
    with pytest.raises(Failed, match="other bytes"):
        fetch(root, "app", silent)
    (index.folder / file.name).unlink()
    with pytest.raises(Failed, match="no such file"):
        fetch(root, "app", silent)
    assert not file.exists()
    assert [path.name for path in (root / "vendor").iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_stray_folder_is_named_and_left(index: Folder, root: Path, make_wheel: Any) -> None:
    """A folder in vendor/ may hold anything: a person removes it."""
    index.offer(make_wheel("lib", "1.0"))
    ask(root, "lib\n")
    lock(root, "app", (PYTHON,), silent)
    (root / "vendor/more").mkdir(parents=True)
    assert fetch(root, "app", silent, prune=True).strays == ("more",)
    assert prune(root, "app") == ()
    assert (root / "vendor/more").is_dir()


def test_bad_lines_are_refused_before_anything_runs(root: Path) -> None:
    """Every bad line of the .in file is named, and no index is asked."""
    ask(root, "-i https://index.example\nlib @ https://x.example/y.zip\nnot a requirement\n# policy: lib sometimes\n")
    with pytest.raises(Refused) as refused:
        lock(root, "app", (PYTHON,), silent)
    assert [problem.split(": ")[0] for problem in refused.value.problems] == [
        f"requirements/app.in:{number}" for number in (1, 2, 3, 4)
    ]


def test_unknown_python_is_refused(root: Path) -> None:
    """A Python that this machine lacks, or that no toolchain is known for, is named."""
    ask(root, "lib\n")
    with pytest.raises(Refused, match=r"3\.99"):
        lock(root, "app", ("3.99",), silent)


def vendored(root: Path) -> list[str]:
    """What lies in vendor/, the toolchain apart."""
    return sorted(
        path.name for path in (root / "vendor").iterdir() if not path.name.startswith(("pip-", "virtualenv-"))
    )


@pytest.mark.slow
def test_one_more_package_is_asked_for_in_one_step(index: Folder, root: Path, make_wheel: Any) -> None:
    """The .in file keeps its comments, another version of the same package replaces its line, old archives go."""
    index.offer(make_wheel("lib", "1.0"), make_wheel("lib", "2.0"), make_wheel("app", "1.0", ["dep"]))
    index.offer(make_wheel("dep", "1.0"))
    ask(root, "# mine\nLib<2  # until the summer\n")
    lock(root, "app", (PYTHON,), silent)
    fetch(root, "app", silent)
    locked = add(root, "app", (PYTHON,), "app>=1", silent)
    assert (locked.new, locked.superseded) == (("app", "dep"), ())
    fetch(root, "app", silent, superseded=locked.superseded)
    (root / "vendor/mine.txt").write_text("not theirs to remove")
    again = add(root, "app", (PYTHON,), "lib>=2", silent)
    assert (root / "requirements/app.in").read_text() == "# mine\nlib>=2  # until the summer\napp>=1\n"
    done = fetch(root, "app", silent, superseded=again.superseded)
    assert (done.pruned, done.strays) == (("lib-1.0-py3-none-any.whl",), ("mine.txt",))
    assert vendored(root) == [
        "app-1.0-py3-none-any.whl", "dep-1.0-py3-none-any.whl", "lib-2.0-py3-none-any.whl", "mine.txt",
    ]  # fmt: skip
    (root / "vendor/stray-1.0.zip").write_bytes(b"x")
    assert prune(root, "app") == ("stray-1.0.zip",)
    with pytest.raises(Refused) as refused:
        check(WorkTree(root), "app")
    assert refused.value.problems == ("vendor/mine.txt: not an archive; vendor/ holds nothing else",)
    assert refused.value.next_step == "move what is not an archive out of vendor/ (git mv)"


@pytest.mark.slow
def test_what_cannot_be_locked_is_not_left_in_the_file(index: Folder, root: Path, make_wheel: Any) -> None:
    """Nobody has to clean up after a name that no index has; what is no requirement never gets in."""
    index.offer(make_wheel("lib", "1.0"))
    ask(root, "lib\n")
    lock(root, "app", (PYTHON,), silent)
    before = snapshot(root)
    with pytest.raises((Refused, Failed)):
        add(root, "app", (PYTHON,), "no-such-thing>=1", silent)
    for text in ("lib @ https://example.org/lib.tar.gz", "-r more.txt", "lib\nmore", ""):
        with pytest.raises(Refused):
            add(root, "app", (PYTHON,), text, silent)
    after = snapshot(root)
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}


@pytest.mark.slow
def test_one_package_is_upgraded_and_the_others_stay(index: Folder, root: Path, make_wheel: Any) -> None:
    """Newer within the bounds of the .in file; a name that is not pinned is told with the nearest."""
    index.offer(make_wheel("lib", "1.0"), make_wheel("other", "1.0"))
    ask(root, "lib<3\nother\n")
    lock(root, "app", (PYTHON,), silent)
    index.offer(make_wheel("lib", "2.0"), make_wheel("lib", "3.0"), make_wheel("other", "2.0"))
    assert lock(root, "app", (PYTHON,), silent, let_go=("Lib",)).changes == ("lib 1.0 -> 2.0",)
    assert lock(root, "app", (PYTHON,), silent, upgrade=True).changes == ("other 1.0 -> 2.0",)
    with pytest.raises(Refused, match="libb is no package of requirements/app; did you mean 'lib'"):
        lock(root, "app", (PYTHON,), silent, let_go=("libb",))


@pytest.mark.slow
def test_yanked_files_are_recorded_with_their_reason(
    index: Folder, root: Path, make_wheel: Any, make_sdist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the index says of a withdrawn file (PEP 592) is in the lock, for an exact pin of one; else nothing is."""
    as_pages(
        root.parent / "simple",
        monkeypatch,
        (make_sdist("lib", "1.0"), 'data-yanked="breaks on 3.11"'),
        (make_wheel("dep", "1.0"), 'data-yanked=""'),
        (make_wheel("fine", "1.0"), ""),
    )
    ask(root, "lib==1.0\ndep==1.0\nfine\n")
    lock(root, "app", (PYTHON,), silent)
    found = read(WorkTree(root), "app").run_time()
    assert {archive.name: archive.yanked for archive in found} == {
        "dep": "no reason given",
        "fine": "",
        "lib": "breaks on 3.11",
    }


@pytest.mark.slow
def test_locking_mends_a_lock_that_has_a_hole(index: Folder, root: Path, make_sdist: Any) -> None:
    """A lock that forgot an archive (a merge of two branches) is made anew, though the .in file did not change."""
    index.offer(make_sdist("lib", "1.0", ["dep"]), make_sdist("dep", "1.0"))
    ask(root, "lib\n")
    whole = lock(root, "app", (PYTHON,), silent).lock
    fetch(root, "app", silent)
    target = whole.targets[0]
    install = tuple(file for file in target.install if not file.startswith("dep"))
    builds = {file: build for file, build in target.builds.items() if not file.startswith("dep")}
    archives = {file: archive for file, archive in whole.archives.items() if not file.startswith("dep")}
    torn = replace(whole, archives=archives, targets=(replace(target, install=install, needs={}, builds=builds),))
    (root / "requirements/pylock.app.toml").write_text(lockfile.write_lock(torn))
    (root / "requirements/app.txt").write_text(lockfile.write_pins(torn))
    with pytest.raises(Refused) as refused:
        check(WorkTree(root), "app")
    assert "lib 1.0 -> dep: not in vendor/" in refused.value.problems
    assert lock(root, "app", (PYTHON,), silent).changed
    assert check(WorkTree(root), "app") == whole


@pytest.mark.slow
def test_bad_archive_of_the_index_is_refused_with_a_way_out(index: Folder, root: Path, make_sdist: Any) -> None:
    """Nothing is written, and the member that pip let through is named."""
    index.offer(make_sdist("lib", "1.0", files={"pkg-info": ""}))
    ask(root, "lib\n")
    with pytest.raises(Refused, match=r"bad archive: lib-1.0.tar.gz: holds .* differ in case alone") as refused:
        lock(root, "app", (PYTHON,), silent)
    assert "another version" in refused.value.next_step
    assert not (root / "requirements/app.txt").exists()
