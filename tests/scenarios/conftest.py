"""Scenarios run on the same hosts as ``tests/hosts``: real OpenSSH servers and real users."""

from __future__ import annotations

from tests.hosts.conftest import fleet, folder, ground, stocked_ground, trap

__all__ = ["fleet", "folder", "ground", "stocked_ground", "trap"]
