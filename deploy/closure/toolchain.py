"""The pinned toolchain of each target Python: what installs a closure. A table, and nothing that resolves.

pip and virtualenv are the declared exception to "source": pure wheels, run from the archive, since something must
be there before anything can be built. The newest of each leaves old Pythons behind, hence one row a Python; the
hashes are in the lock. Each row is itself a closed set, which ``check`` proves from the wheels' metadata.
"""

from __future__ import annotations

from deploy.errors import Refused

TOOLCHAIN: dict[str, dict[str, str]] = {
    "3.8": {
        "pip": "25.0.1",
        "virtualenv": "20.35.4",
        "distlib": "0.4.4",
        "filelock": "3.16.1",
        "platformdirs": "4.3.6",
        "typing-extensions": "4.13.2",
    },
    "3.9": {
        "pip": "26.0.1",
        "virtualenv": "20.35.4",
        "distlib": "0.4.4",
        "filelock": "3.19.1",
        "platformdirs": "4.4.0",
        "typing-extensions": "4.16.0",
    },
    "3.10": {
        "pip": "26.3",
        "virtualenv": "21.15.8",
        "distlib": "0.4.4",
        "filelock": "4.1.0",
        "packaging": "26.3",
        "platformdirs": "4.12.4",
        "python-discovery": "1.9.5",
        "typing-extensions": "4.16.0",
    },
}
_NEWEST = {
    "pip": "26.3",
    "virtualenv": "21.15.8",
    "distlib": "0.4.4",
    "filelock": "4.2.11",
    "packaging": "26.3",
    "platformdirs": "4.14.7",
    "python-discovery": "1.9.5",
}
TOOLCHAIN.update(dict.fromkeys(("3.11", "3.12", "3.13", "3.14"), _NEWEST))


def toolchain(python: str) -> dict[str, str]:
    """Give names and versions of the toolchain for one Python (``3.11``). Raises Refused for one without a row."""
    if python in TOOLCHAIN:
        return TOOLCHAIN[python]
    raise Refused(
        "Nothing was locked.",
        f"no toolchain is known for Python {python!r}",
        f"set `python` in fabric.yaml to one of {', '.join(TOOLCHAIN)}",
    )
