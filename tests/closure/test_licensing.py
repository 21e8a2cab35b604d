"""The licence that an archive states, from wherever its metadata says it; what says nothing is said to be unknown."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.closure import WorkTree, contents, licences, metadata
from deploy.errors import Refused

OSI = "Classifier: License :: OSI Approved"


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        (f"License-Expression: MIT OR Apache-2.0\nLicense: all mine\n{OSI} :: BSD License\n", "MIT OR Apache-2.0"),
        (f"License: all mine\n{OSI} :: BSD License\n{OSI} :: MIT License\n", "BSD License, MIT License"),
        (f"{OSI}\nLicense: Zlib\n", "Zlib"),
        ("License: The text of it\n        over lines\n", "The text of it"),
        ("License: UNKNOWN\n", ""),
        ("License: " + "x" * 500 + "\n", "x" * 100),
        ("", ""),
    ],
)
def test_the_most_exact_statement_counts(stated: str, licence: str, make_sdist: Any, make_wheel: Any) -> None:
    """An expression (PEP 639), else classifiers, else the first line of License; in sdists and wheels alike."""
    for file, data in (make_sdist("lib", "1.0", extra=stated), make_wheel("lib", "1.0", extra=stated)):
        assert metadata.read(file, data).license == licence


def test_every_package_is_listed_once_with_what_it_is_for(project: Any, make_sdist: Any, make_wheel: Any) -> None:
    """Run-time packages first; the same answer when it is remembered; two versions of a tool are two lines."""
    lib = make_sdist("lib", "1.0", [], ["tool"], extra="License-Expression: MIT\n")
    lock = project.lock("lib\n", [lib], {lib[0]: [make_wheel("tool", "1.0"), make_wheel("pip", "20.0")]})
    for _ in range(2):
        found = licences(lock, contents(WorkTree(project.folder), lock))
        assert [(one.name, one.version, one.licence, one.used, one.kind) for one in found] == [
            ("lib", "1.0", "MIT", "run-time", "sdist"),
            ("pip", "20.0", "unknown", "build", "wheel"),
            ("tool", "1.0", "unknown", "build", "wheel"),
            ("pip", "26.3", "unknown", "toolchain", "wheel"),
            ("virtualenv", "21.15.8", "unknown", "toolchain", "wheel"),
        ]


def test_an_archive_that_is_not_there_is_refused(project: Any, make_sdist: Any) -> None:
    """A table without it would look complete."""
    lock = project.lock("lib\n", [make_sdist("lib", "1.0")])
    (project.vendor / "lib-1.0.tar.gz").unlink()
    with pytest.raises(Refused) as refused:
        contents(WorkTree(project.folder), lock)
    assert refused.value.problems == ("vendor/lib-1.0.tar.gz: missing (lib 1.0 is pinned)",)
