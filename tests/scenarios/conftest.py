"""Scenarios run on the same hosts as ``tests/hosts``: real OpenSSH servers and real users."""

from __future__ import annotations

from tests.hosts.conftest import bare_fleet, fleet, folder, ground, stocked_ground, trap

__all__ = ["bare_fleet", "fleet", "folder", "ground", "stocked_ground", "trap"]
