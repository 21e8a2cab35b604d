"""Closes the build environments: what each sdist needs to be built, what that needs in turn, until nothing is new.

One joint solve for all builds comes first, because one version of a tool for everybody keeps ``vendor/`` small.
Where requirements conflict (python-dateutil wants setuptools-scm < 8, urllib3 >= 8) each environment is solved on
its own, from versions in use already where those do, and two versions of one tool lie side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.errors import Failed, Refused

from .archives import Chosen, Shelf
from .backends import Backends
from .metadata import LEGACY_BUILD
from .model import Build, Loop, dependency_order
from .solve import Interpreter, Pin, Unsolvable, pooled, reach, solve

_MAX_ROUNDS = 50
"""Each round adds an sdist or a dynamic requirement; real closures settle in fewer than ten."""
Environment = dict[Pin, Chosen]


@dataclass(frozen=True)
class Answer:
    """What the backend of one archive asked for, in which environment (file names)."""

    sha256: str
    environment: tuple[str, ...]
    dynamic: tuple[str, ...]


class BuildClosure:
    """The build side of one target in the making. ``close`` does all; what it found stays readable.

    ``earlier`` are environments by sdist that are kept as they are wherever they still answer. ``answers`` are what
    backends said then: the same archive in the same environment is not asked again.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        shelf: Shelf,
        backends: Backends,
        earlier: Mapping[str, tuple[Pin, ...]],
        work: Path,
        *,
        answers: Mapping[str, Answer] | None = None,
    ) -> None:
        self._interpreter = interpreter
        self._rules = interpreter.rules
        self._shelf = shelf
        self._backends = backends
        self._earlier = earlier
        self._answers = answers or {}
        self._work = work
        self._sdists: dict[str, Chosen] = {}
        self._dynamic: dict[str, tuple[str, ...]] = {}
        self._environments: dict[str, Environment] = {}
        self._solved: dict[tuple[str, ...], tuple[Pin, ...]] = {}
        self._complaints: dict[tuple[str, ...], str] = {}
        self._constraints: tuple[str, ...] = ()
        self._preferred: tuple[str, ...] = ()
        self._joint = True
        self._pool: dict[str, list[Pin]] = {}
        self._run_time: frozenset[str] = frozenset()

    def close(self, run_time: Mapping[Pin, Chosen], preferred: Sequence[str] = ()) -> Mapping[str, Build]:
        """Find the build environment of every sdist, run-time and build-time.

        Run-time versions are kept where they fit, so that a tool that is a run-time pin as well is vendored once;
        then ``preferred`` ones.
        Raises Refused for what cannot be solved and for loops.
        """
        self._constraints = tuple(f"{pin.name}=={pin.version}" for pin in run_time)
        named = {pin.name for pin in run_time}
        others = (text for text in preferred if canonicalize_name(Requirement(text).name) not in named)
        self._preferred = (*self._constraints, *others)
        self._pool = {pin.name: [pin] for pin in run_time}
        self._sdists = {chosen.file: chosen for chosen in run_time.values() if chosen.metadata.build}
        self._run_time = frozenset(self._sdists)
        for _ in range(_MAX_ROUNDS):
            if not self._grow() and not self._ask():
                return {file: self._build(file) for file in sorted(self._used())}
        raise Failed("Nothing was locked.", "the build requirements never settle", "report this .in file as a bug")

    def chosen(self) -> dict[Pin, Chosen]:
        """Give every build-time archive that some environment uses."""
        return {pin: chosen for file in self._used() for pin, chosen in self._environments[file].items()}

    def environments(self) -> dict[str, tuple[Pin, ...]]:
        """Give the build environment of every sdist in use, by file name."""
        return {file: tuple(self._environments[file]) for file in self._used()}

    def _grow(self) -> bool:
        """Solve every environment as known so far; tell whether that brought in sdists not seen before."""
        wants = {file: self._asked(file) for file in sorted(self._sdists)}
        kept = {file: pins for file, texts in wants.items() if (pins := self._keep(file, texts)) is not None}
        everything = tuple(sorted({text for file, texts in wants.items() if file not in kept for text in texts}))
        # Requirements only grow from round to round: where a joint solve failed once, it fails for good.
        joint = self._try(everything) if self._joint else None
        self._joint = joint is not None
        before = len(self._sdists)
        needed: dict[str, list[Pin]] = {}
        for file, texts in wants.items():
            fresh = self._solve(file, texts) if joint is None and file not in kept else joint or ()
            pins = {pin.name: pin for pin in kept.get(file, fresh)}
            needed[file] = [pins[name] for name in reach([Requirement(text) for text in texts], pins, self._rules)]
        everyone = sorted({pin for pins in needed.values() for pin in pins}, key=lambda pin: (pin.name, pin.version))
        # One call for all: asking the index environment by environment took most of a lock's time.
        archives = dict(zip(everyone, self._shelf.choose(everyone), strict=True))
        for file, pins in needed.items():
            self._environments[file] = {pin: archives[pin] for pin in sorted(pins, key=lambda pin: pin.name)}
        for environment in list(self._environments.values()):
            for chosen in environment.values():
                if chosen.metadata.build:
                    self._sdists.setdefault(chosen.file, chosen)
        return len(self._sdists) > before

    def _keep(self, file: str, texts: tuple[str, ...]) -> tuple[Pin, ...] | None:
        """Answer from the environment that this sdist had; None where it had none, or that does not do."""
        had = {pin.name: [pin] for pin in self._earlier.get(file, ())}
        found = pooled(texts, had, self._rules) if had else None
        return found if found is not None and all(self._shelf.serves(pin) for pin in found) else None

    def _ask(self) -> bool:
        """Ask each backend not asked yet, tools before what they build; tell whether any wants more."""
        order = self._order()
        self._dynamic.update({file: answer.dynamic for file in order if (answer := self._known(file, exactly=True))})
        if all(file in self._dynamic for file in order):
            return False
        folders: dict[str, Path] = {}
        more = False
        files = {pin: chosen.file for pin, chosen in self.chosen().items()}
        ready = {files[pin] for pin in self._shelf.wheels(files, self._backends.rules)}
        late: set[str] = set()
        for file in order:
            if not late.isdisjoint(tool.file for tool in self._environments[file].values()):
                late.add(file)  # one of its tools must be built, and wants more than it has: next round
                continue
            if file not in self._dynamic:
                folder = self._folder(file, folders, ready)
                self._dynamic[file] = self._backends.needs(self._sdists[file], folder)
                said = self._answers.get(file)
                expected = {*self._asked_statically(file), *(said.dynamic if said else ())}
                if {*self._asked_statically(file), *self._counting(file, self._dynamic[file])} != expected:
                    more = True
                    late |= {file} - ready
        return more

    def _folder(self, file: str, folders: dict[str, Path], ready: Collection[str]) -> Path:
        """Install an environment, and before it those of the tools that must be built for want of a wheel."""
        if file not in folders:
            tools = {
                pin: (tool, self._folder(tool.file, folders, ready) if self._is_built(tool, ready) else None)
                for pin, tool in self._environments[file].items()
            }
            folders[file] = self._backends.environment(tools, self._shelf)
        return folders[file]

    def _is_built(self, tool: Chosen, ready: Collection[str]) -> bool:
        return tool.metadata.build is not None and tool.file not in ready

    def _known(self, file: str, *, exactly: bool) -> Answer | None:
        """Give what the backend said before, of the same bytes and, if ``exactly``, in the environment of now."""
        answer = self._answers.get(file)
        if answer is None or file in self._dynamic or answer.sha256 != self._sdists[file].sha256:
            return None
        same = answer.environment == tuple(sorted(tool.file for tool in self._environments.get(file, {}).values()))
        return answer if same or not exactly else None

    def _order(self) -> list[str]:
        used = self._used()
        needs = {file: [tool.file for tool in self._environments[file].values()] for file in used}
        try:
            return dependency_order(used, needs, loops_allowed=False)
        except Loop as loop:
            labels = [self._sdists[file].metadata.name for file in loop.path]
            raise Refused(
                "Nothing was locked.",
                f"these are each needed to build the next: {' -> '.join(labels)}",
                f"break the loop with '# policy: {labels[0]} wheel' in the .in file",
            ) from None

    def _used(self) -> set[str]:
        """Name the sdists in use now: an early round may have looked at versions that a later one dropped."""
        used: set[str] = set()
        waiting = sorted(self._run_time)
        while waiting:
            file = waiting.pop()
            if file not in used:
                used.add(file)
                waiting += [tool.file for tool in self._environments[file].values() if tool.metadata.build]
        return used

    def _build(self, file: str) -> Build:
        return Build(
            file=file,
            static=self._static(file),
            dynamic=self._counting(file, self._dynamic[file]),
            environment=tuple(sorted(chosen.file for chosen in self._environments[file].values())),
        )

    def _asked(self, file: str) -> tuple[str, ...]:
        said = self._known(file, exactly=False)
        dynamic = said.dynamic if said else self._dynamic.get(file, ())
        return tuple(sorted({*self._asked_statically(file), *self._counting(file, dynamic)}))

    def _asked_statically(self, file: str) -> tuple[str, ...]:
        return self._counting(file, self._static(file))

    def _static(self, file: str) -> tuple[str, ...]:
        system = self._sdists[file].metadata.build
        if system is None:
            return ()
        # Plain pip before 24 asks for wheel as well when it builds a legacy sdist; hosts do not, nor does `check`.
        return (*system.requires, "wheel") if system.requires == LEGACY_BUILD else system.requires

    def _counting(self, file: str, texts: Sequence[str]) -> tuple[str, ...]:
        """Drop what does not count on this target: flit's backend lists its extras (``; extra == "all"``) as needs.

        Raises Refused for what pip would read as something else than a name and versions: a URL, an option.
        """
        counting: list[str] = []
        for text in texts:
            try:
                need = Requirement(text)
            except InvalidRequirement:
                raise self._unusable(file, f"that cannot be read: {text!r}") from None
            if self._rules.applies(need):
                if need.url:
                    raise self._unusable(file, f"by its address, {need.url}; nothing but vendor/ is used")
                counting.append(text)
        return tuple(counting)

    def _unusable(self, file: str, how: str) -> Refused:
        name = self._sdists[file].metadata.name
        step = f"pin another version, or '# policy: {name} wheel' in the .in file"
        return Refused("Nothing was locked.", f"{file} asks for a build requirement {how}", step)

    def _solve(self, file: str, texts: tuple[str, ...]) -> tuple[Pin, ...]:
        found = pooled(texts, self._pool, self._rules) or self._try(texts)
        if found is None:
            raise Refused(
                "Nothing was locked.",
                f"the build environment of {file} cannot be solved: {', '.join(texts)}",
                f"pin another version, or '# policy: {self._sdists[file].metadata.name} wheel' in the .in file",
                problems=self._complaints.get(texts, "").splitlines(),
            )
        for pin in found:
            versions = self._pool.setdefault(pin.name, [])
            if pin not in versions:
                versions.append(pin)
        return found

    def _try(self, texts: tuple[str, ...]) -> tuple[Pin, ...] | None:
        """Solve with the preferred versions, else without; None where no versions answer."""
        if texts in self._solved:
            return self._solved[texts]
        for constraints in dict.fromkeys((self._preferred, self._constraints, ())):
            try:
                self._solved[texts] = solve(self._interpreter, texts, self._work, constraints=constraints)
                return self._solved[texts]
            except Unsolvable as error:
                self._complaints[texts] = str(error)
        return None
