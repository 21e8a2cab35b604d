"""A target is judged by packaging's rules for it alone, whatever machine asks."""

from __future__ import annotations

import sysconfig

import pytest

from deploy.closure import target
from deploy.closure.target import TargetRules


def rules(python: str = "3.11", machine: str = "x86_64", libc: str = "glibc 2.28") -> TargetRules:
    """A target."""
    return TargetRules(python, f"{python}.7", f"linux_{machine}", libc)


def fits(rules: TargetRules, tags: str) -> bool:
    """Whether a wheel with these tags fits."""
    return rules.wheel_rank(f"lib-1.0-{tags}.whl") is not None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("py2-none-any", False),
        ("py311-none-any", True),
        ("py312-none-any", False),
        ("cp311-none-any", True),
        ("cp312-none-any", False),
        ("cp311-cp311-manylinux1_x86_64", True),
        ("cp311-cp311-manylinux2010_x86_64", True),
        ("cp311-cp311-manylinux2014_x86_64", True),
        ("cp311-cp311-manylinux_2_5_x86_64", True),
        ("cp311-cp311-manylinux_2_28_x86_64", True),
        ("cp311-cp311-manylinux_2_29_x86_64", False),
        ("cp311-cp311-manylinux_2_34_x86_64", False),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux_2_34_x86_64", True),
        ("cp311-cp311-manylinux_2_17_aarch64", False),
        ("cp311-cp311-manylinux_2_17_i686", False),
        ("cp311-cp311-musllinux_1_1_x86_64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("py3-none-musllinux_1_2_x86_64", False),
        ("py3-none-manylinux_2_17_x86_64", True),
        ("cp311-cp311-linux_x86_64", True),  # no promise of any glibc, but the index takes none: built by hand
        ("cp311-cp311d-linux_x86_64", False),
        ("cp311-cp311t-manylinux_2_17_x86_64", False),
        ("cp311-abi3-manylinux_2_17_x86_64", True),
        ("cp38-abi3-manylinux_2_17_x86_64", True),
        ("cp312-abi3-manylinux_2_17_x86_64", False),
        ("cp310-cp310-manylinux_2_17_x86_64", False),
        ("cp312-cp312-manylinux_2_17_x86_64", False),
        ("pp311-pypy311_pp73-manylinux_2_17_x86_64", False),
        ("cp311-cp311-macosx_11_0_x86_64", False),
        ("cp311-cp311-win_amd64", False),
        ("py3-none-win_amd64", False),
    ],
)
def test_which_wheels_fit(tags: str, *, expected: bool) -> None:
    """Python, ABI, processor and libc must all fit CPython 3.11 on x86_64 with glibc 2.28 (PEP 425, 600, 656)."""
    assert fits(rules(), tags) is expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("cp311-cp311-manylinux_2_17_aarch64", True),
        ("cp311-cp311-manylinux2014_aarch64", True),
        ("cp311-cp311-manylinux2010_aarch64", False),
        ("cp311-cp311-manylinux_2_12_aarch64", False),
        ("cp311-cp311-manylinux2014_x86_64", False),
    ],
)
def test_first_glibc_of_other_processors(tags: str, *, expected: bool) -> None:
    """On arm64 there was no manylinux before glibc 2.17."""
    assert fits(rules(machine="aarch64"), tags) is expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("py3-none-any", True),
        ("cp311-cp311-musllinux_1_1_x86_64", True),
        ("cp311-cp311-musllinux_1_2_x86_64", True),
        ("cp311-abi3-musllinux_1_2_x86_64", True),
        ("py3-none-musllinux_1_2_x86_64", True),
        ("cp311-cp311-musllinux_1_3_x86_64", False),
        ("cp311-cp311-musllinux_1_2_aarch64", False),
        ("cp311-cp311-manylinux_2_17_x86_64", False),
        ("cp311-cp311-manylinux2014_x86_64.musllinux_1_2_x86_64", True),
        ("py3-none-manylinux1_x86_64", False),
    ],
)
def test_musl_takes_no_wheel_of_glibc(tags: str, *, expected: bool) -> None:
    """On musl 1.2 (PEP 656) only its own wheels fit, none newer, and what needs no libc."""
    assert fits(rules(libc="musl 1.2"), tags) is expected


def test_another_python_takes_stable_abi_and_pure_wheels_only() -> None:
    """What was built for 3.11 alone does not fit 3.12; its stable ABI and anything pure do."""
    newer = rules("3.12")
    assert not fits(newer, "cp311-cp311-manylinux_2_17_x86_64")
    assert not fits(newer, "cp311-none-any")
    assert fits(newer, "cp311-abi3-manylinux_2_17_x86_64")
    assert fits(newer, "py311-none-any")


def test_own_builds_of_this_python_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a debug or free-threaded Python here, the target takes the same wheels: hosts run the ordinary build."""
    ordinary = rules("3.13").tags
    known = sysconfig.get_config_var
    monkeypatch.setattr(
        "packaging.tags.sysconfig.get_config_var",
        lambda name: 1 if name in ("Py_DEBUG", "Py_GIL_DISABLED") else known(name),
    )
    assert rules("3.13").tags == ordinary


def test_best_wheel_ranks_lowest() -> None:
    """Its own ABI before the stable one, a newer glibc before an older one, compiled before pure."""
    files = [
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-abi3-manylinux_2_28_x86_64",
        "cp38-abi3-manylinux_2_28_x86_64",
        "py3-none-any",
    ]
    ranks = [rules().wheel_rank(f"lib-1.0-{tags}.whl") or 0 for tags in files]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (">=3.8", True),
        (">=3.11.7", True),
        (">=3.11.8", False),
        ("<3.11", False),
        ("!=3.11.*", False),
        ("nonsense", False),
    ],
)
def test_requires_python(asked: str, *, expected: bool) -> None:
    """Judged for the target's whole version; what cannot be read lets nobody in."""
    assert rules().fits_python(asked) is expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("lib-1.0-py3-none-any.whl", True),
        ("lib-1.0-cp311-none-any.whl", True),
        ("lib-1.0-py3-none-linux_x86_64.whl", False),
        ("lib-1.0-cp311-abi3-any.whl", False),
    ],
)
def test_pure_wheels(file: str, *, expected: bool) -> None:
    """No ABI and no platform."""
    assert target.is_pure(file) is expected
