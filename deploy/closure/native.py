"""What building an sdist asks of a host besides Python: compilers by what its files declare, libraries by a table.

No I/O, and no package code is run. What this cannot see is a build that compiles without saying so in ``setup.py``,
``pyproject.toml`` or its choice of a backend; ``fab vendor.prove`` finds that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

COMPILERS = {
    "c": "a C compiler and Python's headers (Debian: gcc python3-dev)",
    "c++": "a C++ compiler and Python's headers (Debian: g++ python3-dev)",
    "rust": "a Rust toolchain (Debian: cargo)",
}
LIBRARIES = {
    "cffi": "libffi's headers (Debian: libffi-dev)",
    "confluent-kafka": "librdkafka's headers (Debian: librdkafka-dev)",
    "cryptography": "OpenSSL's headers and pkg-config (Debian: libssl-dev pkg-config)",
    "dbus-python": "D-Bus's headers and pkg-config (Debian: libdbus-1-dev libglib2.0-dev pkg-config)",
    "fiona": "gdal-config (Debian: libgdal-dev)",
    "gdal": "gdal-config (Debian: libgdal-dev)",
    "gssapi": "krb5-config (Debian: libkrb5-dev)",
    "h5py": "HDF5's headers (Debian: libhdf5-dev)",
    "kerberos": "krb5-config (Debian: libkrb5-dev)",
    "lxml": "xml2-config and xslt-config (Debian: libxml2-dev libxslt1-dev)",
    "m2crypto": "OpenSSL's headers and SWIG (Debian: libssl-dev swig)",
    "mysqlclient": "MySQL's headers and pkg-config (Debian: default-libmysqlclient-dev pkg-config)",
    "netcdf4": "nc-config (Debian: libnetcdf-dev)",
    "pillow": "image libraries' headers (Debian: libjpeg-dev zlib1g-dev)",
    "pillow-heif": "libheif's headers (Debian: libheif-dev)",
    "psycopg-c": "pg_config (Debian: libpq-dev)",
    "psycopg2": "pg_config (Debian: libpq-dev)",
    "psycopg2-binary": "pg_config (Debian: libpq-dev)",
    "pycairo": "cairo's headers and pkg-config (Debian: libcairo2-dev pkg-config)",
    "pycurl": "curl-config (Debian: libcurl4-openssl-dev libssl-dev)",
    "pygobject": "GObject's headers and pkg-config (Debian: libgirepository1.0-dev pkg-config)",
    "pygraphviz": "Graphviz's headers (Debian: libgraphviz-dev)",
    "pymssql": "FreeTDS's headers (Debian: freetds-dev)",
    "pynacl": "make (Debian: make)",
    "pyodbc": "unixODBC's headers (Debian: unixodbc-dev)",
    "pyproj": "PROJ's headers (Debian: libproj-dev proj-bin)",
    "python-ldap": "OpenLDAP's and SASL's headers (Debian: libldap2-dev libsasl2-dev)",
    "python-snappy": "Snappy's headers (Debian: libsnappy-dev)",
    "rasterio": "gdal-config (Debian: libgdal-dev)",
    "scipy": "BLAS, LAPACK and a Fortran compiler (Debian: libopenblas-dev gfortran)",
    "shapely": "geos-config (Debian: libgeos-dev)",
    "systemd-python": "systemd's headers and pkg-config (Debian: libsystemd-dev pkg-config)",
    "xmlsec": "xmlsec1's headers and pkg-config (Debian: libxmlsec1-dev pkg-config)",
}
"""Libraries and their tools that a build looks for on the host, by package; nothing inside an archive states them."""

_PROGRAMS = {
    "a C compiler": ("cc", "gcc", "clang"),
    "a C++ compiler": ("c++", "g++", "clang++"),
    "a Rust toolchain": ("cargo",),
    "a Fortran compiler": ("gfortran", "flang", "ifx"),
    "SWIG": ("swig",),
}
"""How to see that the words above are met: one of these is on PATH."""

_SUFFIXES = {
    ".c": "c",
    ".pyx": "c",
    ".cc": "c++",
    ".cpp": "c++",
    ".cxx": "c++",
    ".rs": "rust",
}
_ASIDE = re.compile(r"(^|/)(bench(mark)?s?|docs?|examples?|tests?|testing)/")
_BACKENDS = re.compile(r"maturin|mesonpy|scikit_build_core|skbuild|setuptools[-_.]rust")
_RUST = re.compile(r"maturin|setuptools[-_.]rust")
_EXTENSIONS = re.compile(r"\bext_modules\b|\bExtension\(|\bcffi_modules\b|\brust_extensions\b|\bcythonize\(")
_CPLUSPLUS = re.compile(r"c\+\+|\.(cc|cpp|cxx)\b")
_OPTIONAL = re.compile(r"\boptional\s*=\s*(?!False)|\bBuildFailed\b|\bCCompilerError\b")
"""An Extension that may fail (setuptools), and the two names under which projects catch a build that did."""


@dataclass(frozen=True)
class Native:
    """The languages an sdist is compiled from (keys of COMPILERS); ``optional`` where it builds without, too."""

    languages: tuple[str, ...] = ()
    optional: bool = False


NOTHING = Native()
KNOWN = {
    "charset-normalizer": NOTHING,
    "frozenlist": Native(("c",)),
    "gevent": Native(("c",)),
    "propcache": Native(("c",)),
    "setproctitle": Native(("c",), optional=True),
    "sqlalchemy": Native(("c",), optional=True),
    "uwsgi": Native(("c",)),
    "yarl": Native(("c",)),
}
"""Packages whose files mislead: they compile in ways of their own or only when told to, or say "optional" otherwise."""


def needs(files: Collection[str], setup: bytes, pyproject: Mapping[str, Any]) -> Native:
    """Tell what an sdist compiles, from the names of its files (below its own folder), setup.py and pyproject.toml."""
    text = "\n".join(line.partition("#")[0] for line in setup.decode("utf-8", errors="replace").splitlines())
    system = str(pyproject.get("build-system", ""))
    declared = _EXTENSIONS.search(text) or _BACKENDS.search(system) or _in_table(pyproject)
    if not declared:
        return NOTHING
    found = {_SUFFIXES[suffix] for suffix in map(_suffix, files) if suffix in _SUFFIXES}
    if not _RUST.search(system):
        found.discard("rust")  # sources that another build of the same project uses
    if "c++" in found and "c" in found:
        # A C++ compiler brings a C compiler along; bundled libraries hold C++ files that no Python build compiles.
        found.discard("c" if _CPLUSPLUS.search(text) or _BACKENDS.search(system) else "c++")
    return Native(tuple(sorted(found)), optional=bool(found) and bool(_OPTIONAL.search(text)))


def programs(need: str) -> tuple[tuple[str, ...], ...]:
    """Groups of programs that one of the texts above asks for; of each group one will do. Libraries are not seen."""
    words = need.partition(" (Debian")[0]
    named = [group for text, group in _PROGRAMS.items() if text in words]
    return (*named, *((name,) for name in re.findall(r"[a-z0-9]+[_-]config|\bmake\b", words)))


def _suffix(file: str) -> str:
    name = file.rpartition("/")[2]
    return "" if _ASIDE.search(file) else name[name.rfind(".") :]


def _in_table(pyproject: Mapping[str, Any]) -> bool:
    try:
        return "ext-modules" in pyproject["tool"]["setuptools"]
    except (KeyError, TypeError):
        return False


def of(name: str, read: Native) -> Native:
    """Give what is known of a package, else what was read from its archive."""
    return KNOWN.get(name, read)
