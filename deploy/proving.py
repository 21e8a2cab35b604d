"""``vendor.prove``: build and install a whole closure here, sealed, in a throw-away folder, by the hosts' own program.

From an empty store each time, so that nothing built earlier can stand in for what the closure lacks; the host program
compares what is installed with the lock. Contacts no host and no index.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import closure
from deploy.closure import Lock, interpreter, plan
from deploy.errors import Failed, Refused
from deploy.events import Emit, HostStep
from deploy.link import here

HERE = "here"


@dataclass(frozen=True)
class Proof:
    """What building everything showed.

    ``attempts``: by wheel, what its build tried on a network and was refused. ``differing``: wheels, those of
    build tools too, that came out with other bytes the second time; None where they were built once.
    """

    lock: Lock
    target: str
    packages: Mapping[str, str]
    sealed: str
    attempts: Mapping[str, list[str]]
    differing: tuple[str, ...] | None
    elapsed_s: float


def prove(
    root: Path, requirements: str, targets: Sequence[str], emit: Emit, *, twice: bool = False
) -> tuple[tuple[Proof, ...], tuple[str, ...]]:
    """Check, build and install ``requirements/NAME`` for every target that this machine can run; name the others.

    ``twice`` compares the wheels. Raises Refused where the closure is not closed or no target can be run here, Failed
    where one does not build.
    """
    lock = closure.check(closure.WorkTree(root), requirements, targets)
    machine = "linux_" + platform.machine()
    proofs: list[Proof] = []
    left: list[str] = []
    for target in plan.targets(lock):
        python = interpreter.find(target.python) if target.platform in ("any", machine) else None
        if python is None:
            left.append(target.name)
            continue
        wanted = here.Closure("prove", requirements, target, plan.archives(lock), root / "vendor")
        proofs.append(_proof(lock, wanted, str(python.path), emit, twice=twice))
    if not proofs:
        why = f"this machine, {machine}, runs none of the lock's targets: {', '.join(left)}"
        step = (
            "install such a Python (or name it in SEALED_DEPLOY_PYTHONS), or fab vendor.prove --stage with such hosts"
        )
        raise Refused("Nothing was built.", why, step)
    return tuple(proofs), tuple(left)


def _proof(lock: Lock, wanted: here.Closure, python: str, emit: Emit, *, twice: bool) -> Proof:
    began = time.monotonic()
    facts = [_staged(wanted, python, emit) for _ in range(2 if twice else 1)]
    first = facts[0]
    made = [{**one["build_wheels"], **one["wheels"]} for one in facts]
    return Proof(
        lock=lock,
        target=wanted.target.name,
        packages=first["packages"],
        sealed=first["sealed"],
        attempts=first["attempts"],
        differing=tuple(name for name in made[0] if made[0][name] != made[-1].get(name)) if twice else None,
        elapsed_s=time.monotonic() - began,
    )


def _staged(wanted: here.Closure, python: str, emit: Emit) -> dict[str, Any]:
    def tell(event: Mapping[str, Any]) -> None:
        data: Mapping[str, Any] = event.get("data") or {}
        elapsed_s = float(data.get("elapsed_s") or 0)
        emit(HostStep(HERE, str(event["step"]), event["state"], str(event.get("detail") or ""), elapsed_s, data))

    with _throw_away() as folder:
        try:
            return here.stage(wanted, python, folder / "root", tell)[1]
        except here.NotStaged as error:
            what = "The closure does not build from an empty store; nothing was changed."
            step = error.next_step or "mend the closure, then: fab vendor.prove"
            raise Failed(what, error.why, step, problems=error.log) from error


@contextlib.contextmanager
def _throw_away() -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sealed-deploy-prove-"))
    try:
        yield folder
    finally:
        for inner, _, _ in os.walk(folder):  # a staged release has no write bits
            with contextlib.suppress(OSError):
                Path(inner).chmod(stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)
