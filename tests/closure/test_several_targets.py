"""One lock for several Pythons and platforms, also ones that no machine here has; its short markers; format 1."""

from __future__ import annotations

import itertools
import os
import platform
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from virtualenv.seed.wheels.embed import get_embed_wheel

from deploy.closure import WorkTree, check, fetch, lock, lockfile, toolchain
from deploy.closure.backends import Backends
from deploy.closure.target import TargetRules, declared, marker_of
from deploy.errors import Refused
from deploy.events import Event, Notice
from tests.closure.conftest import PYTHON, Folder, ask, silent

OLD = "3.9"
"""Older than any Python that this library runs on, so that it never is the one that runs the tests."""
MACHINE = platform.machine()
ELSEWHERE = "linux_riscv64" if MACHINE != "riscv64" else "linux_aarch64"
KNOWN = list(itertools.product(("3.9", "3.10", "3.11", "3.12"), ("aarch64", "x86_64")))


@pytest.fixture
def targets(index: Folder, make_wheel: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two targets: the Python of the tests, and one that is not here, older and on another processor."""
    pip = get_embed_wheel("pip", OLD)
    assert pip is not None
    index.offer((pip.path.name, pip.path.read_bytes()))
    monkeypatch.setitem(toolchain.TOOLCHAIN, OLD, {"pip": str(pip.version), "virtualenv": "21.0"})
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.delenv("SEALED_DEPLOY_PYTHONS", raising=False)
    return (PYTHON, f"{OLD}-{ELSEWHERE}")


@pytest.mark.slow
def test_one_lock_serves_a_target_that_is_not_here(
    index: Folder, root: Path, tmp_path: Path, targets: tuple[str, str], make_sdist: Any, make_wheel: Any
) -> None:
    """Markers and wheels are the target's own; what fits both is vendored once; the same input gives the same bytes."""
    short, machine = PYTHON.replace(".", ""), ELSEWHERE.removeprefix("linux_")
    here = f"cp{short}-cp{short}-linux_{MACHINE}"
    index.offer(
        make_sdist(
            "lib",
            "1.0",
            [f"old-only; python_version < '{PYTHON}'", f"here-only; platform_machine != '{machine}'", "native"],
            ["minibackend"],
        ),
        make_sdist("lib", "0.9", [], ["minibackend"]),
        make_wheel("old-only", "1.0"),
        make_wheel("here-only", "1.0"),
        make_wheel("native", "1.0", tag=here),
        make_wheel("native", "1.0", tag=f"cp39-cp39-{ELSEWHERE}"),
    )
    ask(root, "lib\n")
    locked = lock(root, "app", targets, silent).lock
    old, new = locked.targets
    assert [old.name, new.name] == [f"python{OLD}-{ELSEWHERE}", f"python{PYTHON}-linux_{MACHINE}"]
    native = f"native-1.0-cp39-cp39-{ELSEWHERE}.whl", f"native-1.0-{here}.whl"
    assert set(old.install) == {"lib-1.0.tar.gz", "old_only-1.0-py3-none-any.whl", native[0]}
    assert set(new.install) == {"lib-1.0.tar.gz", "here_only-1.0-py3-none-any.whl", native[1]}
    assert old.builds == new.builds
    fetch(root, "app", silent)
    assert check(WorkTree(root), "app", targets) == locked
    pins = (root / "requirements/app.txt").read_text()
    assert f'./vendor/{native[0]} ; python_version < "{PYTHON}" and platform_machine == "{machine}" --hash' in pins
    assert "./vendor/lib-1.0.tar.gz --hash" in pins
    assert not lock(root, "app", targets, silent).changed
    again = tmp_path / "again"
    (again / "requirements").mkdir(parents=True)
    ask(again, "lib\n")
    lock(again, "app", tuple(reversed(targets)), silent)
    for name in ("app.txt", "pylock.app.toml"):
        assert (again / "requirements" / name).read_bytes() == (root / "requirements" / name).read_bytes()


@pytest.mark.slow
def test_a_version_that_leaves_one_target_behind_is_not_taken_for_it(
    index: Folder, root: Path, targets: tuple[str, str], make_sdist: Any, make_wheel: Any
) -> None:
    """Newest for all first; where none serves all, two versions, each with its target."""
    newer = f"Requires-Python: >={PYTHON}\n"
    index.offer(
        make_wheel("one", "1.0"),
        make_wheel("one", "2.0", extra=newer),
        make_wheel("two", "1.0", tag="py2.cp39-none-any"),
        make_wheel("two", "2.0", extra=newer),
    )
    ask(root, "one\ntwo\n")
    done = lock(root, "app", targets, silent)
    assert done.changes == ("one (new) -> 1.0", "two (new) -> 1.0 and 2.0")
    fetch(root, "app", silent)
    check(WorkTree(root), "app", targets)


@pytest.mark.slow
def test_locks_tell_whose_backends_were_asked_by_another_python(
    index: Folder, root: Path, make_sdist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python that is nowhere here is resolved for all the same, and the operator is told what that leaves open."""
    monkeypatch.setitem(toolchain.TOOLCHAIN, "3.99", toolchain.TOOLCHAIN[PYTHON])
    index.offer(make_sdist("lib", "1.0", ["new; python_version >= '3.99'"]), make_sdist("new", "1.0"))
    ask(root, "lib\n")
    told: list[Event] = []
    locked = lock(root, "app", ("3.99",), told.append).lock
    assert set(locked.targets[0].install) == {"lib-1.0.tar.gz", "new-1.0.tar.gz"}
    assert locked.targets[0].python_full == "3.99.0"
    assert any(isinstance(event, Notice) and "not on this machine: Python 3.99" in event.text for event in told)


@pytest.mark.slow
def test_a_new_package_moves_no_build_tool(
    index: Folder, root: Path, make_sdist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small change is a small diff and little work: what stays as it was is neither moved nor asked again."""
    asked: list[str] = []
    needs = Backends.needs

    def noted(backends: Backends, chosen: Any, environment: Path) -> tuple[str, ...]:
        asked.append(chosen.metadata.name)
        return needs(backends, chosen, environment)

    monkeypatch.setattr(Backends, "needs", noted)
    lib = make_sdist("lib", "1.0", [], ["minibackend"], files={"build-needs.txt": "tool\n"})
    index.offer(lib, make_sdist("tool", "1.0", [], ["minibackend"], files={"tool.py": ""}))
    ask(root, "lib\n")
    before = lock(root, "app", (PYTHON,), silent).lock.targets[0].builds
    assert sorted(asked) == ["lib", "minibackend", "tool"]
    asked.clear()
    index.offer(make_sdist("tool", "2.0", [], ["minibackend"], files={"tool.py": ""}))
    index.offer(make_sdist("other", "1.0", [], ["minibackend"]))
    ask(root, "lib\nother\n")
    after = lock(root, "app", (PYTHON,), silent).lock.targets[0].builds
    assert {file: after[file] for file in before} == before
    assert asked == ["other"]
    newest = lock(root, "app", (PYTHON,), silent, let_go=["tool"]).lock
    assert "tool-2.0.tar.gz" in newest.archives
    assert {"lib", "tool"} <= set(asked)


def test_two_targets_that_a_host_cannot_tell_apart_are_refused() -> None:
    """One Python on one processor has one closure, whatever its libc."""
    with pytest.raises(Refused, match="are one target to a host"):
        declared(["3.11-manylinux_2_28_x86_64", "3.11-musllinux_1_2_x86_64"])
    with pytest.raises(Refused, match="is no target"):
        declared(["3.11-windows"])
    assert [str(one) for one in declared(["3.12", "3.9.2-linux_x86_64"])] == ["3.9.2-linux_x86_64", "3.12"]


def test_declared_platforms_bound_the_wheels() -> None:
    """A platform tag names the newest libc that wheels may ask for (PEP 600, PEP 656)."""
    glibc, musl = declared(["3.11-manylinux_2_34_x86_64", "3.12-musllinux_1_2_x86_64"])
    fits = TargetRules(glibc.python, "3.11.0", glibc.platform, glibc.libc).wheel_rank
    assert fits("a-1-cp311-cp311-manylinux_2_34_x86_64.whl") is not None
    assert fits("a-1-cp311-cp311-manylinux_2_35_x86_64.whl") is None
    assert fits("a-1-cp311-cp311-musllinux_1_1_x86_64.whl") is None
    fits = TargetRules(musl.python, "3.12.0", musl.platform, musl.libc).wheel_rank
    assert fits("a-1-cp312-cp312-musllinux_1_1_x86_64.whl") is not None
    assert fits("a-1-cp312-cp312-manylinux_2_17_x86_64.whl") is None


@pytest.mark.parametrize("size", range(1, 5))
def test_short_markers_mean_exactly_their_targets(size: int) -> None:
    """Every set of targets, said short, is true on each of its targets and on no other of the lock."""
    for users in itertools.combinations(KNOWN, size):
        marker = Marker(marker_of(users, KNOWN))
        meant = [
            target
            for target in KNOWN
            if marker.evaluate({"python_version": target[0], "platform_machine": target[1], "extra": ""})
        ]
        assert meant == list(users), str(marker)
    assert marker_of(KNOWN, KNOWN) == ""


def test_format_1_is_still_read(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """A lock that an earlier version of this library wrote, as tags hold it."""
    tool, lib = make_sdist("tool", "3.0"), make_sdist("lib", "1.0", ["dep>=1"], ["tool>=2"])
    now = project.lock("lib\n", [make_wheel("dep", "1.5"), lib], {lib[0]: [tool]})
    text = (Path(__file__).parent / "golden/pylock.format-1.toml").read_text()
    assert lockfile.read_lock(text.encode(), "pylock.app.toml").targets == now.targets


@pytest.mark.slow
def test_what_an_export_pins_for_each_python_is_locked_for_each(
    index: Folder, root: Path, targets: tuple[str, str], make_wheel: Any
) -> None:
    """Neither pin displaces the other, and the version of one target does not serve the other against its pin."""
    index.offer(make_wheel("web", "1.0", ["dep"]), *(make_wheel("dep", version) for version in ("1.0", "2.0", "3.0")))
    ask(root, "web\n")
    preferred = (f"dep==1.0 ; python_version < '{PYTHON}'", f"dep==2.0 ; python_version >= '{PYTHON}'", "dep<9")
    old, new = lock(root, "app", targets, silent, preferred=preferred).lock.targets
    assert "dep-1.0-py3-none-any.whl" in old.install
    assert "dep-2.0-py3-none-any.whl" in new.install


@pytest.mark.slow
def test_upgrading_keeps_the_target_of_the_earlier_lock(
    index: Folder, root: Path, targets: tuple[str, str], make_wheel: Any
) -> None:
    """Whoever upgrades on another machine than the one that locked first does not move the hosts' platform."""
    index.offer(make_wheel("web", "1.0"))
    ask(root, "web\n")
    before = lock(root, "app", (targets[1],), silent).lock
    index.offer(make_wheel("web", "2.0"))
    after = lock(root, "app", (OLD,), silent, upgrade=True).lock
    assert [archive.version for archive in after.run_time()] == ["2.0"]
    assert [target.name for target in after.targets] == [target.name for target in before.targets]
