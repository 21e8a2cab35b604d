"""Install the pins into one virtualenv with the vendored pip, and prove that exactly they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence

from deploy.wire.manifest import Target
from deploy.wire.names import canonical_name, canonical_version

from .children import Finished
from .envs import site_packages
from .sealed import Sealer, explain, give_to_build_user, take_back
from .session import Session, StepFailed
from .wheels import Wheel, install_wheels

_COMPILE = """
import compileall, os, py_compile, sys, traceback
os.chdir(sys.argv[1])
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
found = (os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names)
files = sorted(name for name in found if name.endswith(".py"))
workers, children = len(os.sched_getaffinity(0)), []
for number in range(workers):
    child = os.fork()
    if child == 0:
        try:
            for file in files[number::workers]:
                compileall.compile_file(file, quiet=2, invalidation_mode=mode)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] != 0 for child in children))
"""
"""compileall's own workers need a unix socket (forkserver) or leave semaphores in /dev/shm meanwhile (spawn)."""


def install(session: Session, sealer: Sealer, venv: Path, target: Target, wheels: Sequence[Wheel]) -> Dict[str, Any]:
    """Install, check, compile; returns the proof kept with the release. Raises StepFailed."""
    python = venv / "bin" / "python"
    pins = [target.packages[digest] for digest in target.install]
    with session.step("install", "%d packages" % len(pins)):
        if wheels:
            _judge("install", install_wheels(session, sealer, str(python), venv, wheels, compiled=False))
        _judge("check", sealer.pip(str(python), ["check"], "pip check"))
    give_to_build_user(session, venv)
    with session.step("compile", "byte code"):
        compile_folder(sealer, python, site_packages(venv))
    take_back(session, venv)
    installed = installed_set(venv)
    wanted = {canonical_name(p.name): p.version for p in pins}
    if _spelled(installed) != _spelled(wanted):
        raise StepFailed("install", "what is installed is not what is locked: %s" % _contrast(installed, wanted))
    return {
        "packages": {name: installed[name] for name in sorted(installed)},
        "wheels": {wheel.name: wheel.sha256 for wheel in wheels},
    }


def installed_set(venv: Path) -> Dict[str, str]:
    """Names and versions as the installed metadata tells them (PEP 376)."""
    found: Dict[str, str] = {}
    for metadata in sorted(site_packages(venv).glob("*.dist-info/METADATA")):
        fields: Dict[str, str] = {}
        for line in metadata.read_text("utf-8", "replace").splitlines():
            if not line.strip():
                break
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
        found[canonical_name(fields.get("name", metadata.parent.name))] = fields.get("version", "?")
    return found


def _spelled(versions: Dict[str, str]) -> Dict[str, str]:
    return {name: canonical_version(text) for name, text in versions.items()}


def _judge(verb: str, finished: Finished) -> None:
    if not finished.ok:
        cause = "pip %s: %s" % (verb, finished.cause())
        raise StepFailed("install", cause, "run `fab vendor.check`; the closure and pip disagree", explain(finished))


def compile_folder(sealer: Sealer, python: Path, folder: Path) -> None:
    """Byte-compile all below ``folder``. A file that is no valid Python is not an error. Raises StepFailed.

    Relative names keep the release's path out of the byte code, and unchecked hashes (PEP 552) keep it valid whatever
    the clock says; with it in place nothing is ever written into a release later.
    """
    finished = sealer.run([str(python), "-I", "-S", "-c", _COMPILE, str(folder)], "compile", into=[folder])
    if not finished.ok:  # what does not compile is no reason: only compileall itself failing is
        raise StepFailed("compile", finished.cause(), "", finished.tail())


def _contrast(installed: Dict[str, str], wanted: Dict[str, str]) -> str:
    lines: List[str] = []
    for name in sorted(set(installed) | set(wanted)):
        have, want = installed.get(name), wanted.get(name)
        if _spelled({name: have or ""}) != _spelled({name: want or ""}):
            lines.append("%s: locked %s, installed %s" % (name, want or "not at all", have or "not at all"))
    return "; ".join(lines)
