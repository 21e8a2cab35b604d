"""What a manifest is told of a lock: order, exact build environments, platform; and the lock's own bytes."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.utils import canonicalize_name

from deploy.closure import lockfile, plan, toolchain
from deploy.closure.model import Loop, dependency_order
from deploy.closure.target import TargetRules


def test_manifest_gets_digests_in_install_order(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """Install order is kept, build environments are exact, every archive has its name and size."""
    tool, dep = make_sdist("tool", "3.0"), make_wheel("dep", "1.5")
    lib = make_sdist("lib", "1.0", ["dep"], ["tool"])
    lock = project.lock("lib\n", [dep, lib], {lib[0]: [tool]})
    (target,) = plan.targets(lock)
    archives = plan.archives(lock)
    assert [archives[digest].name for digest in target.install] == [dep[0], lib[0]]
    package = target.packages[target.install[1]]
    assert (package.name, package.kind, [archives[need].name for need in package.build]) == ("lib", "sdist", [tool[0]])
    assert {archives[digest].name.split("-")[0] for digest in target.toolchain} == {"pip", "virtualenv"}
    assert set(target.packages) == set(archives)
    assert archives[target.install[1]].size == len(lib[1])
    assert target.name == "python3.11-any"


def test_platform_is_named_where_it_matters(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """A platform wheel, or a marker that asks for the processor, ties the target to it."""
    binary = make_wheel("lib", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    assert plan.targets(project.lock("lib\n", [binary]))[0].platform == "linux_x86_64"
    source = make_sdist("lib", "1.0")
    recorded = {source[0]: ('dep; platform_machine == "aarch64"',)}
    assert plan.targets(project.lock("lib\n", [source], recorded=recorded))[0].platform == "linux_x86_64"


def test_lock_reads_back_and_writes_the_same_bytes(project: Any, make_sdist: Any) -> None:
    """Reading a lock and writing it again gives the same bytes, odd characters included."""
    lib = make_sdist("lib", "1.0", [], ["tool"])
    lock = project.lock("lib\n", [lib], {lib[0]: [make_sdist("tool", "1.0")]}, recorded={lib[0]: ('a; b == "\\"ü"',)})
    text = project.lock_path.read_text()
    assert lockfile.read_lock(text.encode(), "x") == lock
    assert lockfile.write_lock(lock) == text


def test_dependencies_come_first_and_run_time_loops_are_cut_the_same_way() -> None:
    """Order is by need, then by name; a run-time loop is cut deterministically, a build loop is an error."""
    needs = {"a": ["c"], "b": ["a"], "x": ["y"], "y": ["x"]}
    assert dependency_order(["x", "y", "b", "a", "c"], needs, loops_allowed=True) == ["c", "a", "b", "y", "x"]
    with pytest.raises(Loop) as loop:
        dependency_order(["x", "y", "b", "a", "c"], needs, loops_allowed=False)
    assert loop.value.path == ("x", "y", "x")


@pytest.mark.parametrize("python", sorted(toolchain.TOOLCHAIN))
def test_every_toolchain_row_is_spelled_well(python: str) -> None:
    """Each row has pip and virtualenv and normalised names."""
    row = toolchain.TOOLCHAIN[python]
    assert {"pip", "virtualenv"} <= set(row)
    assert all(canonicalize_name(name) == name for name in row)


def test_platform_tags_stop_at_the_target_glibc() -> None:
    """Manylinux tags go from the target's glibc down to the first the processor had."""
    tags = TargetRules("3.11", "3.11.7", "linux_aarch64", "glibc 2.28").platforms()
    assert tags[0] == "manylinux_2_28_aarch64"
    assert "manylinux2014_aarch64" in tags
    assert "manylinux1_aarch64" not in tags
    assert tags[-2:] == ["manylinux2014_aarch64", "linux_aarch64"]
