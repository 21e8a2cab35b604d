"""Which archive of a version is vendored: source is the rule, a wheel the exception, with its reason. No I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .index import IndexFile
from .model import SDIST_SUFFIXES
from .native import LIBRARIES
from .target import TargetRules

FOREIGN_TOOLS = {
    "cffi": "libffi's headers and a C compiler",
    "cmake": "CMake and a compiler",
    "cython": "Cython and a C compiler",
    "maturin": "a Rust toolchain",
    "meson-python": "Meson and a compiler",
    "mypy": "mypyc and a C compiler",
    "nanobind": "a C++ compiler",
    "ninja": "Ninja and a compiler",
    "numpy": "NumPy's headers and a compiler",
    "puccinialin": "a Rust toolchain",
    "pybind11": "a C++ compiler",
    "scikit-build": "CMake and a compiler",
    "scikit-build-core": "CMake and a compiler",
    "setuptools-rust": "a Rust toolchain",
}
"""Build requirements that tell that a build needs more than Python; a host has none of it by rule."""


def sdist(files: Iterable[IndexFile], version: str) -> IndexFile | None:
    """Pick the source archive of a version, ``.tar.gz`` first; the index's order decides between equals."""
    found = [file for file in files if file.version == version and file.file.endswith(SDIST_SUFFIXES)]
    return min(found, key=_suffix_rank, default=None)


def wheel(
    files: Iterable[IndexFile], version: str, rules: TargetRules, everyone: Sequence[TargetRules] = ()
) -> IndexFile | None:
    """Pick the wheel of a version that fits the target, and most others of ``everyone``; then by tag rank and name."""
    ranked = [
        (-sum(other.wheel_rank(file.file) is not None for other in everyone), rank, file.file, file)
        for file in files
        if file.version == version and file.file.endswith(".whl") and (rank := rules.wheel_rank(file.file)) is not None
    ]
    return min(ranked, key=lambda entry: entry[:3])[3] if ranked else None


def foreign(name: str, build_requires: Sequence[str], rules: TargetRules) -> str:
    """Say why a build needs more than Python, or nothing where Python is enough."""
    if name in LIBRARIES:
        return f"its build needs {LIBRARIES[name]}"
    for tool in sorted(_tools(build_requires, rules)):
        if tool in FOREIGN_TOOLS:
            return f"its build needs {FOREIGN_TOOLS[tool]} ({tool})"
    return ""


def _tools(build_requires: Iterable[str], rules: TargetRules) -> Iterator[str]:
    """Name what counts on the target; what cannot be read is refused where environments are closed."""
    for text in build_requires:
        with contextlib.suppress(InvalidRequirement):
            need = Requirement(text)
            if rules.applies(need):
                yield canonicalize_name(need.name)


def _suffix_rank(file: IndexFile) -> int:
    return next(rank for rank, suffix in enumerate(SDIST_SUFFIXES) if file.file.endswith(suffix))
