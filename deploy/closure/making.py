"""Makes one lock for all its targets: resolves, chooses archives, closes the builds. Writes nothing but a work folder.

The oldest Python goes first, because it is the hardest to please; what it got serves the other targets too wherever
it fits them, so that one version of a package, and one archive where one will do, is vendored for all.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.errors import Refused
from deploy.events import Emit, Notice

from . import lines
from .archives import Chosen, Shelf
from .backends import Backends
from .builds import Answer, BuildClosure
from .index import Index
from .interpreter import FoundPython, find, here
from .model import Archive, Build, Lock, LockTarget, dependency_order, joint_needs
from .solve import Interpreter, Pin, Reached, Unsolvable, pooled, reach, solve_keeping
from .target import DEFAULT_LIBC, Declared, TargetRules, extras_of, platform_here
from .toolchain import toolchain


@dataclass(frozen=True)
class Kept:
    """What to keep wherever it still fits: versions of an earlier lock but those of ``let_go``.

    ``preferred`` (``django==5.2``) are run-time versions that come from elsewhere and go before those of the lock.
    """

    earlier: Lock | None = None
    let_go: Collection[str] = ()
    preferred: Sequence[str] = ()

    def wanted(self, rules: TargetRules) -> dict[str, list[str]]:
        """Give what of ``preferred`` counts on a target, by package: an export may pin one for each Python."""
        found: dict[str, list[str]] = {}
        for text in self.preferred:
            if rules.applies(requirement := Requirement(text)):
                found.setdefault(canonicalize_name(requirement.name), []).append(text)
        return found

    @property
    def targets(self) -> Mapping[str, LockTarget]:
        """The earlier lock's targets by name, in its order."""
        return {target.name: target for target in self.earlier.targets} if self.earlier else {}

    def archives(self, files: Iterable[str]) -> list[Archive]:
        """Give archives of the earlier lock."""
        return [self.earlier.archives[file] for file in files] if self.earlier else []

    def run_time(self, name: str) -> dict[str, str]:
        """Give constraints by package for a target of this name: as it was locked, else as the first target was."""
        targets = self.targets
        same = targets.get(name) or next(iter(targets.values()), None)
        locked = self.archives(same.install) if same else []
        return {one.name: f"{one.name}=={one.version}" for one in locked if one.name not in self.let_go}

    def build_environments(self) -> dict[str, tuple[Pin, ...]]:
        """Give the environment of each sdist as it was locked, for the first target that had it."""
        found: dict[str, tuple[Pin, ...]] = {}
        for target in self.targets.values():
            for file, build in target.builds.items():
                pins = tuple(map(_pin_of, self.archives(build.environment)))
                if not any(pin.name in self.let_go for pin in pins):
                    found.setdefault(file, pins)
        return found

    def answers(self, name: str) -> dict[str, Answer]:
        """Give what backends said for a target of this name, whatever is let go of: bytes and environment decide."""
        target = self.targets.get(name)
        if target is None:
            return {}
        return {
            archive.file: Answer(archive.sha256, tuple(sorted(build.environment)), build.dynamic)
            for archive, build in zip(self.archives(target.builds), target.builds.values(), strict=True)
        }


@dataclass(frozen=True)
class _Target:
    """One target in the making: what holds there, and the Python of this machine that stands for it."""

    rules: TargetRules
    found: FoundPython

    @property
    def runner(self) -> TargetRules:
        """What holds for the Python that asks backends."""
        return TargetRules(self.found.python, self.found.full, self.found.platform)


class Making:
    """One lock in the making, in a work folder of its own. ``vendor`` may have archives that the index offers."""

    def __init__(
        self, asked: lines.Asked, targets: Sequence[Declared], kept: Kept, work: Path, emit: Emit, *, vendor: Path
    ) -> None:
        self._asked = asked
        self._vendor = vendor
        self._kept = kept
        self._emit = emit
        self._work = work
        pythons = {one.python: _stand_in(one.python) for one in targets}
        self._targets = [_target(one, pythons[one.python], kept.earlier) for one in targets]
        absent = [python for python, found in pythons.items() if found.python != python]
        if absent:
            by = f"Python {pythons[absent[0]].python} asks the build backends for them"
            proof = "fab vendor.prove where one is settles it"
            emit(Notice(f"not on this machine: Python {', '.join(absent)}; {by}; {proof}"))
        self._archives: dict[str, Archive] = {}
        self._environments = kept.build_environments()
        self._backends: dict[Path, Backends] = {}
        self._pins: dict[str, Pin] = {}

    def lock(self, requirements: str) -> Lock:
        """Make the whole lock. Raises Refused and Failed as ``closure.lock`` does."""
        everyone = [target.rules for target in self._targets]
        folder = self._work / "archives"
        folder.mkdir()
        with Index(*everyone, *(target.runner for target in self._targets)) as index:
            made: list[LockTarget] = []
            for target in self._targets:
                policies = self._asked.policies
                shelf = Shelf(index, target.rules, everyone, policies, folder, vendor=self._vendor)
                made.append(self._make(target, shelf))
        return Lock(
            requirements=requirements,
            roots=self._asked.spelled,
            overrides=self._asked.overrides,
            archives=self._archives,
            targets=_ordered(made),
        )

    def _make(self, target: _Target, shelf: Shelf) -> LockTarget:
        rules = target.rules
        tools = shelf.toolchain(toolchain(rules.python))
        interpreter = Interpreter(target.found.path, self._pip(tools), rules, target.found.folders)
        resolved = {pin.name: pin for pin in self._resolve(interpreter, shelf)}
        reached = reach([root.requirement for root in self._asked.roots], resolved, rules)
        # A pip.conf may make pip install more than it was asked for.
        by_name = {name: pin for name, pin in resolved.items() if name in reached}
        pins = tuple(by_name.values())
        run_time = dict(zip(pins, shelf.choose(pins), strict=True))
        self._emit(Notice(f"{rules.name}: {len(pins)} run-time packages; closing their build environments"))
        asker, answers = self._asker(target, interpreter), self._kept.answers(rules.name)
        closure = BuildClosure(interpreter, shelf, asker, self._environments, self._work, answers=answers)
        builds = closure.close(run_time, self._kept.preferred)
        for file, environment in closure.environments().items():
            self._environments.setdefault(file, environment)
        self._pins = {**by_name, **self._pins}
        entries = [_archive(chosen, None, frozenset()) for chosen in tools]
        entries += [_archive(chosen, pin, frozenset()) for pin, chosen in closure.chosen().items()]
        entries += [_archive(chosen, pin, reached[pin.name].extras) for pin, chosen in run_time.items()]
        for entry in entries:
            self._archives[entry.file] = _merged(self._archives.get(entry.file), entry)
        return _locked(rules, run_time, reached, builds, tools)

    def _asker(self, target: _Target, interpreter: Interpreter) -> Backends:
        """Give the backends as one Python of this machine asks them: its answers serve every target it stands for."""
        path = target.found.path
        if path not in self._backends:
            work = self._work / f"asked-{len(self._backends)}"
            self._backends[path] = Backends(interpreter, target.runner, work)
        return self._backends[path]

    def _pip(self, tools: Iterable[Chosen]) -> Path:
        """Unpack the pinned pip: run from its wheel, it could not start the nested pips of build isolation."""
        wheel = next(chosen for chosen in tools if chosen.metadata.name == "pip")
        folder = self._work / f"pip-{wheel.metadata.version}"
        if not folder.exists():
            with zipfile.ZipFile(wheel.path) as packed:
                packed.extractall(folder)
        return folder / "pip"

    def _resolve(self, interpreter: Interpreter, shelf: Shelf) -> tuple[Pin, ...]:
        roots = [str(root.requirement) for root in self._asked.roots]
        # A version whose one archive here is another target's wheel is not taken for granted.
        wanted = self._kept.wanted(interpreter.rules)
        serving = {pin for pin in self._pins.values() if shelf.serves(pin) and _allowed(pin, wanted)}
        mine = pooled(roots, {pin.name: [pin] for pin in serving}, interpreter.rules) if serving else None
        if mine is not None:
            return mine
        kept = {
            **{pin.name: [f"{pin.name}=={pin.version}"] for pin in serving},
            **{name: [text] for name, text in self._kept.run_time(interpreter.rules.name).items()},
            **wanted,
        }
        try:
            texts = [text for name in sorted(kept) for text in kept[name]]
            pins, dropped = solve_keeping(interpreter, roots, self._work, texts)
        except Unsolvable as error:
            raise Refused(
                "Nothing was locked.",
                f"pip found no versions for {interpreter.rules.name} that answer the .in file"
                " (or no index that answers)",
                "change the requirements that pip names, then fab vendor.lock",
                problems=str(error).splitlines(),
            ) from None
        if dropped:
            self._emit(Notice(f"{interpreter.rules.name}: not kept, because they do not fit: {', '.join(dropped)}"))
        return pins


def _allowed(pin: Pin, wanted: Mapping[str, Sequence[str]]) -> bool:
    limits = (Requirement(text).specifier for text in wanted.get(pin.name, ()))
    return all(limit.contains(pin.version, prereleases=True) for limit in limits)


def _stand_in(python: str) -> FoundPython:
    """Find the Python of a target, or else the one that runs this. Raises Refused where neither is for Linux."""
    found = find(python) or here()
    if found is None:
        raise Refused(
            "Nothing was changed.",
            f"neither python{python} nor any other Python for Linux starts on this machine",
            f"install python{python} (or name it in SEALED_DEPLOY_PYTHONS), on Linux, and run it again",
        )
    return found


def _target(declared: Declared, found: FoundPython, earlier: Lock | None) -> _Target:
    """Fill in what was not declared: from the earlier lock, so that it stays the same whoever locks, or from here."""
    before = next(
        (
            one
            for one in (earlier.targets if earlier else ())
            if one.python == declared.python and declared.platform in ("", one.platform)
        ),
        None,
    )
    full = found.full if found.python == declared.python else f"{declared.python}.0"
    rules = TargetRules(
        python=declared.python,
        python_full=declared.python_full or (before.python_full if before else full),
        platform=declared.platform or (before.platform if before else platform_here()),
        libc=declared.libc or DEFAULT_LIBC,
    )
    return _Target(rules, found)


def _locked(
    rules: TargetRules,
    run_time: Mapping[Pin, Chosen],
    reached: Mapping[str, Reached],
    builds: Mapping[str, Build],
    tools: Iterable[Chosen],
) -> LockTarget:
    by_name = {pin.name: chosen.file for pin, chosen in run_time.items()}
    needs = {by_name[name]: tuple(sorted(by_name[need] for need in found.needs)) for name, found in reached.items()}
    return LockTarget(
        python=rules.python,
        python_full=rules.python_full,
        platform=rules.platform,
        libc=rules.libc,
        install=tuple(by_name.values()),
        toolchain=tuple(sorted(chosen.file for chosen in tools)),
        needs={file: found for file, found in needs.items() if found},
        builds=builds,
    )


def _ordered(targets: Sequence[LockTarget]) -> tuple[LockTarget, ...]:
    """Put every target's pins into one order, dependencies first, so that a reader sees them once."""
    files = {file for target in targets for file in target.install}
    order = dependency_order(files, joint_needs(targets), loops_allowed=True)
    return tuple(replace(target, install=tuple(file for file in order if file in target.install)) for target in targets)


def _archive(chosen: Chosen, pin: Pin | None, extras: frozenset[str]) -> Archive:
    """Describe one archive for the lock; of its requirements, those that only unused extras want are left out."""
    found = chosen.metadata
    requires = pin.requires if pin else found.requires or ()
    return Archive(
        file=chosen.file,
        sha256=chosen.sha256,
        size=chosen.path.stat().st_size,
        name=found.name,
        version=found.version,
        requires=tuple(sorted(text for text in requires if _counts(Requirement(text), extras))),
        requires_python=found.requires_python or (pin.requires_python if pin else ""),
        reason=chosen.reason,
        yanked=chosen.yanked,
    )


def _merged(known: Archive | None, entry: Archive) -> Archive:
    """Describe an archive that has several uses: another target, or run time and build time, may ask more extras."""
    if known is None:
        return entry
    return replace(
        entry,
        requires=tuple(sorted({*known.requires, *entry.requires})),
        reason=known.reason or entry.reason,
    )


def _pin_of(archive: Archive) -> Pin:
    return Pin(archive.name, archive.version, archive.requires, archive.requires_python)


def _counts(requirement: Requirement, extras: frozenset[str]) -> bool:
    named = extras_of(requirement)
    return not named or any(canonicalize_name(extra) in extras for extra in named)
