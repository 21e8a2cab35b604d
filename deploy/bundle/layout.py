"""Where things lie in a tag's tree, and which of its files may be shipped. Reads blobs, starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.bundle.git import NO_HOST
from deploy.bundle.globs import excluder
from deploy.bundle.tree import SUBMODULE, Blobs, Entry, GitSource
from deploy.errors import Refused
from deploy.settings.release import ReleaseSettings, release_from_text
from deploy.wire.manifest import is_safe_path

SETTINGS_FILES = ("fabric.yaml", "fabric.yml")


@dataclass(frozen=True)
class Layout:
    """Folders of the tree, '' for its top: what is shipped, and where ``requirements/`` and ``vendor/`` are."""

    shipped: str
    closure: str


def find_layout(tree: Mapping[str, Entry], blobs: Blobs, project: str, tag: str) -> tuple[Layout, ReleaseSettings]:
    """Read the tag's own settings from the project's folder and find the rest from there.

    ``subdirectory`` counts from the folder of fabric.yaml. ``requirements/`` and ``vendor/`` are the subdirectory's own
    where it has a ``requirements/`` folder, else they lie beside fabric.yaml. Raises Refused.
    """
    source = GitSource(tree, blobs, project)
    name = next((name for name in SETTINGS_FILES if source.exists(name)), None)
    at = _join(project, SETTINGS_FILES[0])
    if name is None:
        raise Refused(
            NO_HOST, f"tag {tag} has no {at}", f"commit {at}, then tag the commit (`python -m deploy init` writes one)"
        )
    where = f"{_join(project, name)} of tag {tag}"
    settings = release_from_text(_text(source.read(name), where), where)
    ships = _join(project, settings.subdirectory)
    if settings.subdirectory and not source.names(settings.subdirectory):
        raise Refused(NO_HOST, f"tag {tag} has no folder {ships!a}", f"correct `subdirectory` in {at}, commit and tag")
    own = bool(source.names(_join(settings.subdirectory, "requirements")))
    return Layout(ships, ships if own else project), settings


def shipped(tree: Mapping[str, Entry], layout: Layout, settings: ReleaseSettings) -> dict[str, Entry]:
    """Choose the entries to ship, by path below the shipped folder: not the closure's ``vendor/``, not ``exclude``.

    Raises Refused where submodules, unsafe paths or files in the place of shared paths remain.
    """
    prefix = f"{layout.shipped}/" if layout.shipped else ""
    vendor = _join(layout.closure, "vendor") + "/"
    is_excluded = excluder(settings.exclude)
    chosen = {
        path[len(prefix) :]: entry
        for path, entry in tree.items()
        if path.startswith(prefix) and not path.startswith(vendor) and not is_excluded(path[len(prefix) :])
    }
    problems = [
        f"{path!a} is a submodule: a tag does not hold its files" for path, e in chosen.items() if e.mode == SUBMODULE
    ]
    problems += [f"{path!a} is no path that may be shipped" for path in chosen if not is_safe_path(path)]
    problems += _shared_problems(chosen, settings)
    if not chosen:
        problems.append("no file remains to ship")
    if problems:
        step = "remove them from the tree or add them to `exclude` in fabric.yaml, commit and tag again"
        raise Refused(NO_HOST, "the tag's tree cannot be shipped as it is", step, problems=problems)
    return chosen


def _shared_problems(chosen: Mapping[str, Entry], settings: ReleaseSettings) -> list[str]:
    """A shared path is a link in every release: a file at, below or above its place would be in the way."""
    found: list[str] = []
    for shared in settings.shared_dirs + settings.shared_files:
        above = {shared[:at] for at, char in enumerate(shared) if char == "/"}
        for path in chosen:
            if path == shared or path.startswith(shared + "/") or path in above:
                found.append(f"{path!a} is in the place of the shared path {shared!a}")
    return found


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder and path else folder or path


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(NO_HOST, f"{where} is not UTF-8: {error}", "save it as UTF-8, commit and tag again") from error
