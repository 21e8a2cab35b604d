"""Stages a closure, and nothing else, in a folder of this machine with the very program that hosts run.

For ./bootstrap, which makes its virtualenv so, and for ``vendor.prove``. Works before anything is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.hostprogram import host_program
from deploy.link.launch import exec_line
from deploy.link.line import Line
from deploy.link.local import LocalPipe
from deploy.link.pipe import LinkLost
from deploy.wire.manifest import Archive, Manifest, Target
from deploy.wire.names import Sha256

SILENCE_S = 20.0
STEP_S = 1800.0
OnEvent = Callable[[Mapping[str, Any]], None]
_NO_COMMIT = "0" * 40
_NO_SETTINGS: Mapping[str, Any] = {
    "shared": {"dirs": [], "files": []},
    "env_files": [],
    "site_packages": "link",
    "environment": {},
    "hooks": {},
}


class NotStaged(Exception):
    """It is not staged: ``why``; ``next_step`` says what to do, or ''; ``log`` is what the failing step said."""

    def __init__(self, why: str, next_step: str = "", log: Sequence[str] = (), *, locked: bool = False) -> None:
        super().__init__(why)
        self.why, self.next_step, self.log, self.locked = why, next_step, tuple(log), locked


@dataclass(frozen=True)
class Closure:
    """What is staged: one target of a lock, its archives, and the folder they lie in."""

    name: str
    requirements: str
    target: Target
    archives: Mapping[Sha256, Archive]
    vendor: Path

    @property
    def manifest(self) -> Manifest:
        archives = {digest: self.archives[digest] for digest in self.target.packages}
        return bare_manifest(self.name, self.requirements, (self.target,), archives)


def bare_manifest(
    name: str, requirements: str, targets: tuple[Target, ...], archives: Mapping[Sha256, Archive]
) -> Manifest:
    """Give a release without files: its virtualenv is all there is."""
    return Manifest(
        app=name,
        tag="closure",
        commit=_NO_COMMIT,
        tree=_NO_COMMIT,
        tag_object=None,
        subdirectory="",
        files=(),
        archives=archives,
        targets=targets,
        settings={**_NO_SETTINGS, "requirements": requirements, "python": targets[0].python},
    )


def stage(closure: Closure, python: str, root: Path, on_event: OnEvent) -> tuple[Path, dict[str, Any]]:
    """Be the control side of one conversation here; give the release's folder and what is known of it.

    Runs as whoever started it; a release that is there already is verified and kept, every other one is pruned.
    Raises NotStaged.
    """
    root.mkdir(mode=0o755, exist_ok=True)
    program, manifest = host_program(), closure.manifest
    try:
        words = exec_line(python, program.sha256, str(root))
    except ValueError as error:
        raise NotStaged(f"{error}: neither the Python nor the folder may have such a path") from error
    line = Line(LocalPipe(words), silence_s=SILENCE_S)
    try:
        line.greet(program.data)
        context: dict[str, Any] = {"stage": closure.name, "host": "here", "groups": [], "verb": "deploy"}
        policy = {"allow_root": True, "accept_seal": "pip", "step_s": STEP_S}
        run = closure.name
        _ask(line, on_event, "hello", run=run, operator=run, policy=policy, context=context)
        _ask(line, on_event, "lock", holder={"by": run, "run": run, "verb": run})
        release = manifest.release_id
        offered = _ask(line, on_event, "offer", manifest=manifest.to_json(), target=0, release=release)
        if offered["problems"]:
            raise NotStaged("\n  - ".join(["this machine is not fit for it:", *offered["problems"]]))
        files = [(digest, closure.vendor / manifest.archives[digest].name) for digest in offered["need"]]
        line.blobs([(digest, path.read_bytes) for digest, path in files], lambda _: None)
        facts: dict[str, Any] = _ask(line, on_event, "stage")["facts"]
        _ask(line, on_event, "prune", keep=0)
    except LinkLost as lost:
        raise NotStaged(f"the host program was lost: {lost}") from lost
    finally:
        line.close()
    return root / "releases" / release, facts


def _ask(line: Line, on_event: OnEvent, op: str, **details: Any) -> dict[str, Any]:
    answer = line.ask(op, on_event, **details)
    if answer["ok"]:
        return answer
    error = answer["error"]
    if error["kind"] == "locked":
        raise NotStaged("somebody else is at work there", locked=True)
    raise NotStaged(f"{error['step']} failed: {error['cause']}", error["next"], error["log"])
