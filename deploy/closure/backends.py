"""Runs build backends while locking, to learn what they need only when asked. Sealed as a host's builds are.

The tools of a build environment are installed from the index's wheels of the very versions being locked, or built
from their vendored sdist where there is none: the question put to a backend is the same, and asking forty of
them takes seconds rather than minutes. Hosts build from the locked archives alone.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.errors import Failed

from . import sealed
from .archives import Chosen, Shelf
from .solve import Interpreter, Pin
from .target import TargetRules

_HOOK = Path(__file__).with_name("hook_child.py")
_HOOK_TIMEOUT_S = 300.0
_BUILD_TIMEOUT_S = 1800.0


class Backends:
    """Asks backends what they need; environments and answers are kept while one lock is made.

    ``rules`` are those of the interpreter that asks, which need not be of the target.
    """

    def __init__(self, interpreter: Interpreter, rules: TargetRules, work: Path) -> None:
        self._interpreter = interpreter
        self.rules = rules
        self._work = work
        self._environments: dict[tuple[Path, ...], Path] = {}
        self._built: dict[tuple[str, Path | None], Path] = {}
        self._answers: dict[tuple[str, Path], tuple[str, ...]] = {}
        work.mkdir()

    def needs(self, chosen: Chosen, environment: Path) -> tuple[str, ...]:
        """Ask one sdist's backend for ``get_requires_for_build_wheel`` (PEP 517). Raises Failed with its output."""
        system = chosen.metadata.build
        if system is None:
            return ()
        if (chosen.file, environment) in self._answers:
            return self._answers[chosen.file, environment]
        source = self._unpack(chosen)
        answer = self._work / "answer.json"
        answer.unlink(missing_ok=True)
        argv = [str(source), str(environment), str(answer), system.backend, *system.backend_path]
        # -S: without it the interpreter's own site-packages would answer for what the lock lacks.
        self._run(["-I", "-S", str(_HOOK), *argv], environment, chosen, _HOOK_TIMEOUT_S)
        try:
            needs = {str(need) for need in json.loads(answer.read_bytes())}
        except (OSError, ValueError, TypeError):  # it ended the child, or wrote over the answer
            raise _backend_failed(chosen, "ended without an answer") from None
        self._answers[chosen.file, environment] = tuple(sorted(needs))
        return self._answers[chosen.file, environment]

    def environment(self, tools: Mapping[Pin, tuple[Chosen, Path | None]], shelf: Shelf) -> Path:
        """Install a build environment's tools into one folder and give it.

        ``tools`` maps each to its archive and, where it is an sdist, the folder of its own build environment.
        """
        ready = shelf.wheels(tools, self.rules)
        wheels: list[Path] = []
        for pin, (chosen, own) in sorted(tools.items(), key=lambda entry: entry[0].name):
            wheels.append(ready.get(pin) or (chosen.path if chosen.reason else self._build(chosen, own)))
        key = tuple(wheels)
        if key not in self._environments:
            folder = self._work / f"environment-{len(self._environments)}"
            folder.mkdir()
            for wheel in wheels:
                # Unpacked is installed enough to be asked: no scripts, no .pth files, a tenth of pip's time.
                with zipfile.ZipFile(wheel) as packed:
                    packed.extractall(folder)  # noqa: S202 - zipfile itself drops what leads outside
            self._environments[key] = folder
        return self._environments[key]

    def _build(self, chosen: Chosen, environment: Path | None) -> Path:
        key = (chosen.file, environment)
        if key not in self._built:
            folder = self._work / f"built-{len(self._built)}"
            argv = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(chosen.path)]
            # -s and not -I: the tools of a build without isolation are found through PYTHONPATH.
            self._run(["-s", str(self._interpreter.pip), *argv], environment or folder, chosen, _BUILD_TIMEOUT_S)
            self._built[key] = next(folder.glob("*.whl"))
        return self._built[key]

    def _run(self, argv: Sequence[str], environment: Path, chosen: Chosen, timeout_s: float) -> None:
        home = self._work / "home"
        home.mkdir(exist_ok=True)
        try:
            done = sealed.run(
                [str(self._interpreter.python), *argv],
                env=_allowed(home, environment),
                cwd=home,
                timeout_s=timeout_s,
                read=[*self._interpreter.folders, str(_HOOK)],
                write=[str(self._work)],
            )
        except subprocess.TimeoutExpired:
            raise _backend_failed(chosen, f"did not answer within {timeout_s:.0f} s") from None
        if done.returncode != 0:
            raise _backend_failed(chosen, "failed", done.stdout)

    def _unpack(self, chosen: Chosen) -> Path:
        folder = self._work / f"source-{chosen.file}"
        if not folder.exists():
            if chosen.file.endswith(".zip"):
                with zipfile.ZipFile(chosen.path) as packed:
                    packed.extractall(folder)  # noqa: S202 - zipfile itself drops what leads outside
            else:
                with tarfile.open(chosen.path) as packed:
                    _extract(packed, folder)
        tops = [entry for entry in folder.iterdir() if entry.is_dir()]
        return tops[0] if len(tops) == 1 else folder


def _extract(packed: tarfile.TarFile, folder: Path) -> None:
    """Unpack files and folders that stay inside. Python has a filter for it (PEP 706) since 3.10.12 and 3.11.4."""
    if hasattr(tarfile, "data_filter"):
        packed.extractall(folder, filter="data")
        return
    inside = [
        member
        for member in packed
        if (member.isfile() or member.isdir())
        and ".." not in Path(member.name).parts
        and not member.name.startswith("/")
    ]
    packed.extractall(folder, inside)  # noqa: S202 - chosen above


def _backend_failed(chosen: Chosen, how: str, output: str = "") -> Failed:
    return Failed(
        "Nothing was locked.",
        f"the build backend of {chosen.metadata.name} {chosen.metadata.version} {how}",
        f"'# policy: {chosen.metadata.name} wheel' in the .in file avoids its build",
        problems=output.splitlines()[-15:],
    )


def _allowed(home: Path, environment: Path) -> dict[str, str]:
    """Give the environment of a child that must not reach an index: an allow-list, and a bogus index behind it."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(environment),
        "PYTHONDONTWRITEBYTECODE": "1",
        **sealed.OFFLINE,
        "SOURCE_DATE_EPOCH": "315532800",
    }
