"""Which versions answer a set of requirements: pip's resolver, asked by the target's own interpreter.

``pip install --dry-run --report`` installs nothing. The target's interpreter runs it, from the pinned toolchain's
pip, because pip judges markers by the interpreter it runs on (its ``--python-version`` changes tags alone).
Which *archive* of a version is vendored is decided elsewhere.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .index import environment
from .target import TargetRules


class Unsolvable(ValueError):
    """pip found no set of versions, or did not get that far; the message is pip's own."""


@dataclass(frozen=True)
class Pin:
    """One resolved version, with what its metadata asked for."""

    name: str
    version: str
    requires: tuple[str, ...]
    requires_python: str


@dataclass(frozen=True)
class Interpreter:
    """The target's Python as found on this machine, the pinned pip that it runs, and the folders of both."""

    python: Path
    pip: Path
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reached:
    """What a walk through pins found of one name."""

    needs: frozenset[str]
    extras: frozenset[str]


def solve(
    interpreter: Interpreter, requirements: Sequence[str], work: Path, *, constraints: Sequence[str] = ()
) -> tuple[Pin, ...]:
    """Resolve requirements to one version of each package, sorted by name. Raises Unsolvable."""
    if not requirements:
        return ()
    asked, limits, report = work / "asked.txt", work / "constraints.txt", work / "report.json"
    asked.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    limits.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    report.unlink(missing_ok=True)
    # --prefer-binary: a version with a wheel is resolved without running its build backend.
    # --cache-dir: pip's own cache may hold a wheel of an archive that has other bytes by now, and other requirements.
    done = subprocess.run(
        [
            *(str(interpreter.python), "-I", str(interpreter.pip), "install", "--dry-run", "--ignore-installed"),
            *("--progress-bar=off", "--prefer-binary", "--cache-dir", str(work / "cache")),
            *("--report", str(report), "-r", str(asked), "-c", str(limits)),
        ],
        env=environment(),
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not report.exists():
        raise Unsolvable(_complaint(done.stdout, done.stderr))
    items: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return tuple(sorted((_pin(item["metadata"]) for item in items), key=lambda pin: pin.name))


def reach(requirements: Iterable[Requirement], pins: Mapping[str, Pin], rules: TargetRules) -> dict[str, Reached]:
    """Walk from requirements through pins: every name reached, the extras asked of it, and what it needs in turn."""
    needs: dict[str, set[str]] = {}
    extras: dict[str, set[str]] = {}
    queue = [requirement for requirement in requirements if rules.applies(requirement)]
    for requirement in queue:
        name = canonicalize_name(requirement.name)
        if name not in pins:
            continue
        mine, seen = needs.setdefault(name, set()), extras.setdefault(name, set())
        for extra in {"", *map(canonicalize_name, requirement.extras)} - seen:
            seen.add(extra)
            asked = [Requirement(text) for text in pins[name].requires]
            found = [need for need in asked if rules.applies(need, [extra])]
            mine.update(canonicalize_name(need.name) for need in found)
            queue += found
    return {name: Reached(frozenset(needs[name] & set(pins)), frozenset(extras[name] - {""})) for name in needs}


def pooled(
    requirements: Sequence[str], pool: Mapping[str, Sequence[Pin]], rules: TargetRules
) -> tuple[Pin, ...] | None:
    """Answer requirements from versions in use already, without pip; None where that is not plainly possible.

    Takes the first version that fits and never goes back on it: what needs a search is pip's to solve.
    """
    chosen: dict[str, Pin] = {}
    seen: set[tuple[str, str]] = set()
    queue = [Requirement(text) for text in requirements]
    for requirement in queue:
        name = canonicalize_name(requirement.name)
        versions = [chosen[name]] if name in chosen else pool.get(name, ())
        fitting = (pin for pin in versions if requirement.specifier.contains(pin.version, prereleases=True))
        pin = next(fitting, None)
        if pin is None:
            return None
        chosen[name] = pin
        for extra in {"", *map(canonicalize_name, requirement.extras)} - {known for at, known in seen if at == name}:
            seen.add((name, extra))
            needs = (Requirement(text) for text in pin.requires)
            queue += [need for need in needs if rules.applies(need, [extra])]
    return tuple(sorted(chosen.values(), key=lambda pin: pin.name))


def _pin(metadata: Mapping[str, Any]) -> Pin:
    return Pin(
        name=canonicalize_name(str(metadata["name"])),
        version=str(metadata["version"]),
        requires=tuple(str(line) for line in metadata.get("requires_dist") or ()),
        requires_python=str(metadata.get("requires_python") or ""),
    )


def _complaint(out: str, errors: str) -> str:
    """What pip says of its failure; who asked for what in a conflict is among its ordinary output."""
    conflict = out.partition("The conflict is caused by:")[2].partition("To fix this")[0]
    lines = [line.strip() for line in (errors + conflict).splitlines() if line.strip()]
    return "\n".join([line for line in lines if not line.startswith("WARNING")][-15:]) or "pip ended without a word"
