"""One target as packaging rules see it: marker environment (PEP 508), wheel tags (PEP 425, 600), Python version.

Judges for the target, never for the machine it runs on.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

DEFAULT_GLIBC = "2.28"
"""Assumed where nothing is known: manylinux_2_28 is Debian 10, RHEL 8, Ubuntu 20.04 and newer."""
_FIRST_GLIBC = {"x86_64": 5, "i686": 5}
_LEGACY = {"manylinux2014": (17, None), "manylinux2010": (12, "x86_64"), "manylinux1": (5, "x86_64")}


class TargetRules:
    """What holds on one target."""

    def __init__(self, python: str, python_full: str, platform: str, glibc: str = DEFAULT_GLIBC) -> None:
        self.python = python
        self.python_full = python_full
        self.platform = platform
        self.glibc = glibc

    @cached_property
    def markers(self) -> dict[str, str]:
        """The marker environment of CPython on Linux there. Kernel release and version are left empty: unknown."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python_full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python_full,
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def machine(self) -> str:
        return self.platform.partition("_")[2]

    def platforms(self) -> list[str]:
        """List the platform tags that wheels may carry there, best first: no newer glibc than the target's."""
        machine = self.machine
        newest = int(self.glibc.split(".")[1])
        found: list[str] = []
        for minor in range(newest, _FIRST_GLIBC.get(machine, 17) - 1, -1):
            found.append(f"manylinux_2_{minor}_{machine}")
            found += [
                f"{legacy}_{machine}"
                for legacy, (at, only) in _LEGACY.items()
                if at == minor and only in (None, machine)
            ]
        return [*found, self.platform]

    @cached_property
    def tags(self) -> dict[Tag, int]:
        """Every wheel tag that fits, with its rank: lower is better."""
        version = (int(self.python.split(".")[0]), int(self.python.split(".")[1]))
        interpreter = f"cp{version[0]}{version[1]}"
        platforms = self.platforms()
        fitting = [
            # Without ABIs named, packaging asks the Python it runs on whether it is a debug or free-threaded build.
            *cpython_tags(python_version=version, abis=[interpreter], platforms=platforms),
            *compatible_tags(python_version=version, interpreter=interpreter, platforms=platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(fitting)))}

    def wheel_rank(self, file: str) -> int | None:
        """Rank a wheel by its file name, lower is better; None where it does not fit."""
        _, _, _, tags = parse_wheel_filename(file)
        return min((self.tags[tag] for tag in tags if tag in self.tags), default=None)

    def fits_python(self, requires_python: str) -> bool:
        """Tell whether a Requires-Python lets this target's interpreter in. Unreadable ones let nobody in."""
        try:
            return SpecifierSet(requires_python).contains(Version(self.python_full), prereleases=True)
        except InvalidSpecifier:
            return False

    def applies(self, requirement: Requirement, extras: Iterable[str] = ()) -> bool:
        """Tell whether a requirement counts on this target, for these extras of the package that states it."""
        marker = requirement.marker
        if marker is None:
            return True
        try:
            return any(marker.evaluate({**self.markers, "extra": extra}) for extra in ("", *extras))
        except UndefinedEnvironmentName:
            return False


def is_pure(file: str) -> bool:
    """Tell whether a wheel runs on any platform and Python build, by its file name."""
    _, _, _, tags = parse_wheel_filename(file)
    return all(tag.platform == "any" and tag.abi == "none" for tag in tags)
