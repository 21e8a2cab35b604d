"""Release settings: what the tag's own fabric.yaml says, and how it enters the manifest. Ignores operator values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from deploy.errors import Refused
from deploy.settings.commands import hook_json, hooks_of
from deploy.settings.levels import Place, walk
from deploy.settings.schema import SHARED_KEYS
from deploy.settings.section import NAME, PRINTABLE, Section, plain
from deploy.settings.yaml_text import BadYaml, load
from deploy.wire.commands import Hook
from deploy.wire.manifest import is_safe_path

_TARGET = r"3\.[0-9]+(\.[0-9]+)?(-(linux|manylinux_2_[0-9]+|musllinux_1_[0-9]+)_[a-z0-9_]+)?"


@dataclass(frozen=True)
class ReleaseSettings:
    """What a release is made of and how it behaves, for good. ``environment`` and ``hooks`` are by level name."""

    app: str
    python: str
    targets: tuple[str, ...] = ()
    requirements: str = "app"
    subdirectory: str = ""
    exclude: tuple[str, ...] = ()
    shared_dirs: tuple[str, ...] = ()
    shared_files: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    site_packages: str = "link"
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, "dict[str, str]"])
    hooks: Mapping[str, Mapping[str, Sequence[Hook]]] = field(default_factory=dict[str, "dict[str, tuple[Hook, ...]]"])

    @property
    def locked_for(self) -> tuple[str, ...]:
        """The targets that the closure is locked for: those declared, else ``python`` alone."""
        return self.targets or (self.python,)

    def to_manifest(self) -> dict[str, Any]:
        """The manifest's ``settings``: plain JSON, every default filled in, levels that say nothing left out."""
        return {
            "requirements": self.requirements,
            "python": self.python,
            "shared": {"dirs": list(self.shared_dirs), "files": list(self.shared_files)},
            "env_files": list(self.env_files),
            "site_packages": self.site_packages,
            "environment": {level: dict(values) for level, values in self.environment.items()},
            "hooks": {
                level: {point: [hook_json(hook) for hook in hooks] for point, hooks in points.items()}
                for level, points in self.hooks.items()
            },
        }


def release_from_text(text: str, where: str = "fabric.yaml") -> ReleaseSettings:
    """Parse the text of a fabric.yaml. Raises Refused with every problem, each with ``where`` and its path."""
    try:
        loaded = load(text)
    except BadYaml as error:
        raise _refused(where, [str(error)]) from error
    if not isinstance(loaded, Mapping) or "deploy" not in loaded:
        raise _refused(where, ["there is no top-level key 'deploy'"])
    return release_of(cast("Mapping[str, object]", loaded)["deploy"], where)


def release_of(mapping: object, where: str = "fabric.yaml") -> ReleaseSettings:
    """Take the release settings out of the ``deploy`` mapping. Raises Refused with every problem."""
    problems: list[str] = []
    top = Section(plain(mapping), "", problems)
    places = walk(top)
    shared = top.section("shared")
    shared.only(name for name, *_ in SHARED_KEYS)
    settings = ReleaseSettings(
        app=_required(top, "app", NAME, "a word"),
        python=_required(top, "python", r"3\.(?:[89]|[1-9][0-9])", 'a version such as "3.11", in quotes'),
        targets=_targets(top),
        requirements=top.text("requirements", NAME, says="a word") or "app",
        subdirectory=_path(top, "subdirectory"),
        exclude=top.words("exclude", says="a list of globs") or (),
        shared_dirs=_paths(shared, "dirs"),
        shared_files=_paths(shared, "files"),
        env_files=_env_files(top),
        site_packages=top.choice("site_packages", ("link", "copy")) or "link",
        environment={place.label: found for place in places if (found := _environment(place.section))},
        hooks=_hooks(places),
    )
    problems += _nested(settings.shared_dirs + settings.shared_files)
    if problems:
        raise _refused(where, problems)
    return settings


def _hooks(places: Sequence[Place]) -> dict[str, dict[str, tuple[Hook, ...]]]:
    return {place.label: found for place in places if (found := hooks_of(place.section))}


def _targets(top: Section) -> tuple[str, ...]:
    says = 'Pythons and platforms such as "3.11", "3.12-linux_aarch64", "3.12-manylinux_2_34_x86_64"'
    found = top.words("targets", _TARGET, says=says) or ()
    python = top.data.get("python")
    if (
        found
        and isinstance(python, str)
        and not any(f"{text}.".startswith((f"{python}.", f"{python}-")) for text in found)
    ):
        top.note("targets", f"`python` is {python!a}, which is none of them")
    return found


def _required(top: Section, key: str, pattern: str, says: str) -> str:
    if not top.has(key):
        top.note(key, f"required: {says}")
    return top.text(key, pattern, says=says) or ""


def _path(section: Section, key: str) -> str:
    path = (section.text(key, PRINTABLE[:-1] + "*", says="a relative path") or "").removeprefix("./").rstrip("/")
    if path in ("", "."):
        return ""
    if not is_safe_path(path):
        section.note(key, f"expected a path inside the repository, got {path!a}")
    return path


def _paths(section: Section, key: str) -> tuple[str, ...]:
    found = tuple(path.removeprefix("./").rstrip("/") for path in section.words(key, says="a list of paths") or ())
    for path in found:
        if not is_safe_path(path):
            section.note(key, f"expected a path inside src/, got {path!a}")
    return found


def _env_files(top: Section) -> tuple[str, ...]:
    found = top.words("env_files", says="a list of paths") or ()
    for path in found:
        if not is_safe_path(path.removeprefix("/")):
            top.note("env_files", f"expected a path below ROOT or an absolute one, got {path!a}")
        elif not path.startswith(("/", "shared/")):
            top.note("env_files", f"{path!a} must lie in shared/ or be absolute: releases hold no secrets")
    return found


def _environment(section: Section) -> dict[str, str]:
    body = section.section("environment")
    found: dict[str, str] = {}
    for name, value in body.data.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            body.note(ascii(name), "not a variable name")
        elif not isinstance(value, str) or "\0" in value:
            # 1.10, 010, 12:30, on and no are not in YAML what they look like; only text is certain.
            body.note(name, f"expected text, got {ascii(value)[:80]}; put it in quotes")
        else:
            found[name] = value
    return found


def _nested(paths: Sequence[str]) -> list[str]:
    problems = [f"shared: {path!r} is listed twice" for path in sorted({p for p in paths if paths.count(p) > 1})]
    for path in sorted(set(paths)):
        problems += [f"shared: {path!r} lies in {outer!r}" for outer in paths if path.startswith(outer + "/")]
    return problems


def _refused(where: str, problems: Sequence[str]) -> Refused:
    return Refused(
        "No host was contacted; the service is unchanged.",
        f"{where}: {len(problems)} problem{'s' if len(problems) > 1 else ''} in the release settings",
        "correct the file, commit, tag the commit and deploy the new tag",
        problems=[f"{where}: {problem}" for problem in problems],
    )
