"""Newer versions on a real index (PEP 503): what fits the target, what the bounds allow, what was yanked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from deploy.closure import outdated
from deploy.errors import Failed, Refused
from tests.closure.conftest import Reply

Pages = Mapping[str, list[tuple[str, str]]]


@pytest.fixture
def serve(listening: Callable[[Reply], str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Pages], None]:
    """Start an index with a page per package: files, and the attributes of their links."""

    def start(pages: Pages) -> None:
        def reply(path: str, _: bytes) -> tuple[int, bytes]:
            links = pages.get(path.strip("/").rpartition("/")[2])
            page = "".join(f'<a href="{file}" {about}>{file}</a>\n' for file, about in links or [])
            return 200 if links else 404, f"<!DOCTYPE html>{page}".encode()

        monkeypatch.setenv("PIP_INDEX_URL", f"http://{listening(reply)}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")

    return start


def sources(name: str, *versions: str) -> list[tuple[str, str]]:
    """Links to the source archives of some versions."""
    return [(f"{name}-{version}.tar.gz", "") for version in versions]


def test_newest_that_fits_and_newest_within_bounds(serve: Any, project: Any, make_sdist: Any) -> None:
    """Bounds come from the .in file and from what is locked; yanked, too new and pre-releases are passed over."""
    lib, dep = make_sdist("lib", "1.0", ["dep<3"]), make_sdist("dep", "2.0")
    beta = make_sdist("beta", "1.0b1")
    asked = 'lib<2\nbeta>=0.1a0\nlib<1.5; python_version < "3.9"\n'
    project.lock(asked, [dep, lib, beta], recorded={lib[0]: ("dep<3", 'dep<2.1; python_version < "3"')})
    serve(
        {
            "lib": [
                *sources("lib", "1.0", "1.9", "2.0", "3.0a1"),
                ("lib-1.9.5.tar.gz", 'data-yanked="broken"'),
                ("lib-2.5.tar.gz", 'data-requires-python="&gt;=3.12"'),
                ("lib-2.4-cp311-cp311-win_amd64.whl", ""),
                ("lib-2.1-py3-none-any.whl", 'data-requires-python="&gt;=3.8"'),
            ],
            "dep": sources("dep", "1.0", "2.0", "2.5", "3.0"),
            "beta": sources("beta", "1.0b1", "1.0b2"),
        }
    )
    found = {one.name: (one.locked, one.within, one.newest) for one in outdated(project.folder, "app")}
    assert found == {
        "lib": ("1.0", "1.9", "2.1"),
        "dep": ("2.0", "2.5", "3.0"),
        "beta": ("1.0b1", "1.0b2", "1.0b2"),
    }


def test_an_extra_in_use_bounds_too(serve: Any, project: Any, make_sdist: Any) -> None:
    """The lock records of a package's extras those that are asked for."""
    lib, dep = make_sdist("lib", "1.0", ['dep<3; extra == "fast"']), make_sdist("dep", "2.0")
    project.lock("lib[fast]\n", [dep, lib], recorded={lib[0]: ('dep<3; extra == "fast"',)})
    serve({"lib": sources("lib", "1.0"), "dep": sources("dep", "2.0", "3.0")})
    dep_found, lib_found = outdated(project.folder, "app")
    assert (dep_found.within, dep_found.newest, dep_found.behind) == ("2.0", "3.0", True)
    assert not lib_found.behind


def test_an_index_without_a_package_is_a_failure(serve: Any, project: Any, make_sdist: Any) -> None:
    """What was not looked up is not up to date; without a lock there is nothing to ask."""
    with pytest.raises(Refused, match="nothing is locked"):
        outdated(project.folder, "app")
    project.lock("lib\ndep\n", [make_sdist("lib", "1.0"), make_sdist("dep", "1.0")])
    serve({"lib": sources("lib", "1.0")})
    with pytest.raises(Failed, match="dep"):
        outdated(project.folder, "app")
