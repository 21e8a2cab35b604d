"""Reads what a project says of itself in ``pyproject.toml`` (PEP 621, PEP 735), and locks of PEP 751. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from packaging.markers import Marker, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.errors import Refused

from . import toml
from .adoptable import Adoptable, Pinned, bare, is_pin, unreadable
from .index import redacted

Table = dict[str, Any]
_EXPORT = {
    "uv.lock": "uv export --no-dev --no-emit-project -o locked.txt",
    "poetry.lock": "poetry export -f requirements.txt -o locked.txt",
    "pdm.lock": "pdm export -f requirements -o locked.txt",
    "Pipfile.lock": "pipenv requirements --hash > locked.txt",
}
"""How each tool writes its lock as a requirements file."""
_ELSEWHERE = ("git", "path", "url", "workspace")
_OTHERS = {
    **_EXPORT,
    "Pipfile": _EXPORT["Pipfile.lock"],
    "setup.py": "pip freeze > locked.txt in an environment where it works",
    "setup.cfg": "pip freeze > locked.txt in an environment where it works",
    "environment.yml": "pip freeze > locked.txt in an environment where it works",
}


def refuse_others(source: Path, shown: str) -> None:
    """Raise Refused for a file of a tool that exports what can be read, and say how."""
    if source.name in _OTHERS:
        raise unreadable(shown, "is not read itself", f"{_OTHERS[source.name]}, then: fab vendor.adopt locked.txt")


def read_pyproject(source: Path, shown: str, extras: Sequence[str] = ()) -> Adoptable:
    """Take the dependencies of ``[project]``, and those of some of its extras. Raises Refused where there are none."""
    table = _project(source, shown)
    asked = _dependencies(table, shown, extras)
    told = [
        f"{lock} lies beside {shown}; to keep its versions: {command}, then: fab vendor.adopt locked.txt"
        for lock, command in _EXPORT.items()
        if (source.parent / lock).is_file()
    ]
    others = sorted({canonicalize_name(extra) for extra in table["optional-dependencies"]} - _names(extras))
    if others:
        told.append(f"{shown}: extras left out: {', '.join(others)} (--extra NAME takes one)")
    problems = [problem for text in asked if (problem := _problem(shown, text))]
    kept = [text for text in asked if not _problem(shown, text)]
    pinned = [Pinned(shown, bare(found)) for found in map(Requirement, kept) if is_pin(found)]
    return Adoptable(shown, tuple(kept), tuple(pinned), told=tuple(told), problems=tuple(problems))


def own_requirements(root: Path, extras: Sequence[str]) -> list[str]:
    """Give what the project in ``root`` needs, which ``pip install -e .`` would install. Raises Refused."""
    path = root / "pyproject.toml"
    if path.is_file():
        return _dependencies(_project(path, path.name), path.name, extras)
    legacy = [name for name in ("setup.py", "setup.cfg") if (root / name).is_file()]
    if legacy:
        refuse_others(root / legacy[0], legacy[0])
    return []


def spelled(folder: Path, root: Path, via: Mapping[str, Sequence[str]]) -> list[str]:
    """Give the requirements of the pyproject.toml that ``# via`` names, for the packages that it wants directly."""
    path = next((at / "pyproject.toml" for at in (folder, root) if (at / "pyproject.toml").is_file()), None)
    if path is None:
        return []
    try:
        table = _project(path, path.name)
    except Refused:
        return []
    name = canonicalize_name(str(table.get("name", "")))
    mine = {
        package
        for package, words in via.items()
        if any(canonicalize_name(word.partition(" ")[0].partition(":")[0]) == name for word in words)
    }
    if not mine:
        return []
    optional = [text for texts in table["optional-dependencies"].values() for text in texts]
    wanted = [text for text in optional if not _problem("", text) and canonicalize_name(Requirement(text).name) in mine]
    return [*(text for text in table["dependencies"] if not _problem("", text)), *wanted]


def read_pylock(source: Path, shown: str, environment: Mapping[str, str], extras: Sequence[str] = ()) -> Adoptable:
    """Read a ``pylock.toml`` (PEP 751): every package is pinned; what no other one needs is asked for."""
    document = _document(source, shown)
    try:
        packages: list[Table] = document["packages"]
        chosen = {"extras": _names(extras), "dependency_groups": _names(document.get("default-groups", ()))}
        found = _Packages(shown, {**environment, **chosen})
        for number, package in enumerate(packages, 1):
            found.take(package, f"{shown}: package {number}, {package['name']}")
        return found.adoptable(packages)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"not a lock as PEP 751 has it: {type(error).__name__}: {error}"
        raise unreadable(shown, why, "export it again") from None


class _Packages:
    """The packages of one lock, sorted into what can be taken and what cannot."""

    def __init__(self, shown: str, environment: Mapping[str, str | frozenset[str]]) -> None:
        self._shown = shown
        self._environment = environment
        self._pinned: list[Pinned] = []
        self._told: list[str] = []
        self._problems: list[str] = []

    def take(self, package: Table, where: str) -> None:
        """Sort in one package."""
        elsewhere = next((kind for kind in ("vcs", "directory", "archive") if kind in package), "")
        if package.get("directory", {}).get("path") in {".", "./"}:
            self._told.append(f"{where}: the project itself is left out: a deploy ships its files, installs nothing")
            return
        if elsewhere or "version" not in package:
            why = f"comes from a {elsewhere}" if elsewhere else "has no version"
            self._problems.append(f"{where}: {why}")
            return
        marker = str(package.get("marker", ""))
        if "extras" in marker or "dependency_groups" in marker:
            if not self._holds(marker):
                self._told.append(f"{where}: left out, {marker} is not chosen (--extra NAME chooses an extra)")
                return
            marker = ""
        text = f"{package['name']}=={package['version']}" + (f" ; {marker}" if marker else "")
        self._pinned.append(Pinned(where, Requirement(text), files=_files(package)))

    def adoptable(self, packages: Sequence[Table]) -> Adoptable:
        """Ask for what no other package needs, or for everything where the lock does not tell."""
        needed = {
            canonicalize_name(str(need["name"]))
            for package in packages
            for need in package.get("dependencies", ())
            if canonicalize_name(str(need["name"])) != canonicalize_name(str(package["name"]))
        }
        roots = [pin for pin in self._pinned if pin.name not in needed] or self._pinned
        why = f"{len(roots)} of {len(self._pinned)} packages are needed by no other, and asked for"
        if not needed:
            why = f"does not say who needs whom: all {len(roots)} packages are asked for"
        self._told.append(f"{self._shown}: {why}")
        return Adoptable(
            self._shown,
            tuple(pin.text for pin in roots),
            tuple(self._pinned),
            told=tuple(self._told),
            problems=tuple(self._problems),
        )

    def _holds(self, marker: str) -> bool:
        try:
            return Marker(marker).evaluate(cast("dict[str, Any]", dict(self._environment)), context="lock_file")
        except UndefinedEnvironmentName:
            return False


def _document(source: Path, shown: str) -> Table:
    try:
        return toml.loads(source.read_bytes())
    except OSError as error:
        raise unreadable(shown, f"cannot be read: {error.strerror}", "correct the path") from None
    except ValueError as error:
        raise unreadable(shown, f"is not TOML in UTF-8: {error}", f"correct {shown}") from None


def _project(source: Path, shown: str) -> Table:
    """Give the ``[project]`` table. Raises Refused where it does not say what the project needs.

    What uv takes from git or a path (``[tool.uv.sources]``) is spelled as an address: a package of that name on the
    index may be somebody else's.
    """
    document = _document(source, shown)
    table = _table(document, "project")
    if "dependencies" in table or ("dependencies" not in _texts(table.get("dynamic")) and "name" in table):
        return _with_sources(table, _table(_table(_table(document, "tool"), "uv"), "sources"))
    if "poetry" in _table(document, "tool"):
        export = _EXPORT["poetry.lock"]
        raise unreadable(
            shown, "has Poetry's dependencies and none in [project]", f"{export}, then: fab vendor.adopt locked.txt"
        )
    if table:
        why, step = "leaves its dependencies to its build backend (dynamic)", "fab vendor.adopt the file they lie in"
        raise unreadable(shown, why, step)
    step = "write what the project needs into requirements/NAME.in, or fab vendor.adopt a requirements.txt"
    raise unreadable(shown, "has no [project] dependencies", step)


def _with_sources(table: Table, sources: Table) -> Table:
    elsewhere: dict[str, str] = {}
    for name, value in sources.items():
        for entry in cast("list[Table]", value if isinstance(value, list) else [value]):
            elsewhere.update((canonicalize_name(name), f"{kind}:{entry[kind]}") for kind in _ELSEWHERE if kind in entry)

    def spelled(text: str) -> str:
        name = "" if _problem("", text) else canonicalize_name(Requirement(text).name)
        return f"{name} @ {elsewhere[name]}" if name in elsewhere else text

    optional = {
        extra: list(map(spelled, _texts(texts))) for extra, texts in _table(table, "optional-dependencies").items()
    }
    dependencies = list(map(spelled, _texts(table.get("dependencies"))))
    return {**table, "dependencies": dependencies, "optional-dependencies": optional}


def _dependencies(table: Table, shown: str, extras: Sequence[str]) -> list[str]:
    """List the dependencies with those of some extras; an extra that names the project itself is followed."""
    optional: Table = {canonicalize_name(name): texts for name, texts in table["optional-dependencies"].items()}
    found = [*table["dependencies"]]
    queue = sorted(_names(extras))
    mine = canonicalize_name(str(table.get("name", "")))
    for extra in queue:
        if extra not in optional:
            has = f"it has {', '.join(sorted(optional))}" if optional else "it has none"
            raise unreadable(shown, f"has no extra {extra!r}; {has}", "name one that it has")
        for text in optional[extra]:
            own = not _problem("", text) and canonicalize_name(Requirement(text).name) == mine
            if own:
                queue += sorted(_names(Requirement(text).extras) - set(queue))
            else:
                found.append(text)
    return found


def _problem(shown: str, text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        return f"{shown}: {text!r} is not a requirement: {str(error).splitlines()[0]}"
    if requirement.url is None:
        return ""
    return f"{shown}: {redacted(text)}: an address"


def _files(package: Table) -> dict[str, str]:
    """File name to sha256 of a package's archives, as far as the lock tells."""
    archives: list[Table] = [*([package["sdist"]] if "sdist" in package else []), *package.get("wheels", ())]
    found: dict[str, str] = {}
    for archive in archives:
        place = str(archive.get("name") or archive.get("path") or archive.get("url", ""))
        sha256 = archive.get("hashes", {}).get("sha256")
        if sha256:
            found[unquote(place.rpartition("/")[2])] = str(sha256).lower()
    return found


def _table(table: Table, key: str) -> Table:
    found = table.get(key)
    return cast("Table", found) if isinstance(found, dict) else {}


def _texts(value: object) -> list[str]:
    return [str(entry) for entry in cast("list[object]", value)] if isinstance(value, list) else []


def _names(value: Iterable[object]) -> frozenset[str]:
    return frozenset(canonicalize_name(str(entry)) for entry in value)
