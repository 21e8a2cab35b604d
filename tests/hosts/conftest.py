"""Real OpenSSH servers on loopback ports, real users, and small projects to deploy to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.fleet import Fleet, fleets, prepared_ground, stocked
from tests.hosts.openssh import SSHD, Ground
from tests.hosts.trap import trap

__all__ = ["trap"]


@pytest.fixture(scope="session")
def ground(pythons: dict[str, str]) -> Iterator[Ground]:
    """Users, keys and a Python that all hosts of the session share."""
    if not Path(SSHD).exists():
        pytest.skip(f"{SSHD} is not here: install openssh-server")
    with prepared_ground(pythons) as made:
        yield made


@pytest.fixture(scope="session")
def stocked_ground(ground: Ground) -> Ground:
    """The same, and hosts that have the toolchain and the tests' tiny closure in their store already."""
    return stocked(ground)


@pytest.fixture
def folder(ground: Ground) -> Path:
    """A folder for one test that every user can reach."""
    made = Path(tempfile.mkdtemp(dir=ground.base))
    made.chmod(0o755)
    return made


@pytest.fixture
def fleet(stocked_ground: Ground, folder: Path) -> Iterator[Callable[..., Fleet]]:
    """Make a project and hosts by name, with a stocked store."""
    yield from fleets(stocked_ground, folder)


@pytest.fixture
def bare_fleet(ground: Ground, folder: Path) -> Iterator[Callable[..., Fleet]]:
    """Make a project and hosts by name, with nothing on them."""
    yield from fleets(ground, folder)
