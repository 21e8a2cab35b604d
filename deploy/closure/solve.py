"""Which versions answer a set of requirements: pip's resolver, asked for one target.

``pip install --dry-run --report`` of the pinned toolchain's pip installs nothing. It is told the target's markers and
tags (``solve_child``), so that the target's interpreter need not be here. Which *archive* of a version is vendored is
decided elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .index import environment
from .target import TargetRules

_CHILD = Path(__file__).with_name("solve_child.py")
_HOOK = Path(__file__).with_name("sealed_hook.py")
_LIBRARY = Path(__file__).parents[2]
_MAX_TRIES = 40
"""Questions to pip, a few seconds each, before versions that do not fit are let go of together."""


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
    """A Python of this machine, the pinned pip that it runs, and the folders of both.

    ``rules`` are those of the target that it stands for: its own, or those of one that is not here.
    """

    python: Path
    pip: Path
    rules: TargetRules
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
    rules = interpreter.rules
    temporary = work / "tmp"
    temporary.mkdir(exist_ok=True)
    # --prefer-binary: a version with a wheel is resolved without running its build backend.
    # --cache-dir: pip's own cache may hold a wheel of an archive that has other bytes by now, and other requirements.
    done = subprocess.run(
        [
            *(str(interpreter.python), "-I", str(_CHILD), str(interpreter.pip.parent), json.dumps(rules.markers)),
            json.dumps(_sealed(interpreter, work)),
            *("install", "--dry-run", "--ignore-installed", "--prefer-binary", "--report", str(report)),
            *("--progress-bar=off", "--cache-dir", str(work / "cache"), "-r", str(asked), "-c", str(limits)),
            *("--python-version", rules.python_full, "--implementation", "cp"),
            *(word for platform in rules.platforms() for word in ("--platform", platform)),
        ],
        env={**environment(), "TMPDIR": str(temporary)},
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


def _sealed(interpreter: Interpreter, work: Path) -> list[str]:
    """Give the words that seal a hook put after them: it reads its Python, and writes to the work folder."""
    limits = {"read": list(interpreter.folders), "write": [str(work)]}
    return [sys.executable, "-I", str(_HOOK), str(_LIBRARY), json.dumps(limits)]


def solve_keeping(
    interpreter: Interpreter, requirements: Sequence[str], work: Path, preferred: Sequence[str]
) -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """Resolve with as many preferred versions as fit, and tell which do not. Raises Unsolvable.

    What does not fit is halved: one version that is gone costs some ten questions to pip, and no other version.
    """
    if not preferred:
        return solve(interpreter, requirements, work), ()
    pins: tuple[Pin, ...] | None = None
    kept: list[str] = []
    dropped: list[str] = []
    waiting, tries = [list(preferred)], 0
    while waiting:
        part = waiting.pop(0)
        tries += 1
        try:
            pins = solve(interpreter, requirements, work, constraints=[*kept, *part])
            kept += part
        except Unsolvable:
            pins = pins or solve(interpreter, requirements, work)
            half = len(part) // 2
            if half and tries < _MAX_TRIES:
                waiting = [part[:half], part[half:], *waiting]
            else:
                dropped += part
    return pins or (), tuple(dropped)


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
    queue = [need for text in requirements if rules.applies(need := Requirement(text))]
    for requirement in queue:
        name = canonicalize_name(requirement.name)
        versions = [chosen[name]] if name in chosen else pool.get(name, ())
        fitting = (
            pin
            for pin in versions
            if requirement.specifier.contains(pin.version, prereleases=True)
            and (not pin.requires_python or rules.fits_python(pin.requires_python))
        )
        pin = next(fitting, None)
        if pin is None:
            return None
        chosen[name] = pin
        asked = {"", *map(canonicalize_name, requirement.extras)}
        # Sorted: of several versions in use, the order of the requirements decides, and sets have none.
        for extra in sorted(asked - {known for at, known in seen if at == name}):
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
