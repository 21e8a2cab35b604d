"""Put a release on this host completely: receive, verify, unpack, build, probe, mark. Nothing points at it yet.

Each step is told and journalled; a failure removes the half-made directory and leaves ``current`` alone.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Set

from deploy.wire.manifest import Manifest, Target

from . import environment, hooks, hostneeds, marker, readiness, toolchain, wheels
from .hooks import Context
from .install import compile_folder
from .layout import Layout, remove_tree, sync_filesystem
from .sealed import work_folder
from .session import Session, StepFailed
from .store import WrongContent

LEAST_BYTES, LEAST_INODES = 32 << 20, 200


def problems(
    session: Session, manifest: Manifest, target: Target, host_needs: Sequence[Mapping[str, Any]]
) -> List[str]:
    """What would make staging fail on this host, found before a byte is sent."""
    found: List[str] = []
    here = "%d.%d" % sys.version_info[:2]
    if target.python != here:
        found.append("this host runs Python %s; the release is locked for %s" % (here, target.python))
    machine = "linux_" + platform.machine()
    if target.platform not in ("any", machine):
        found.append("this host is %s; the release is locked for %s" % (machine, target.platform))
    for name in manifest.settings["shared"]["files"]:
        if not (session.layout.shared / name).exists():
            found.append("shared file %s does not exist: create it once on the host" % (session.layout.shared / name))
    builds = environment.usable(session, manifest, target) is None
    found += _room(session, manifest, builds=builds)
    if builds:
        found += hostneeds.unmet(host_needs, wheels.to_build(session, target))
    python = session.layout.release(manifest.release_id) / "venv" / "bin" / "python"
    if len(os.fsencode(str(python))) > 240:
        found.append("%s is too long for an interpreter path: use a shorter root or tag" % python)
    return found


def is_present(session: Session, manifest: Manifest) -> bool:
    """Whether the release is here and every byte of it is right. One that rotted is swept, to be staged again.

    Raises StepFailed where the one that rotted is live: nothing may be taken from under a running service; and where
    another one has the same id.
    """
    release = manifest.release_id
    is_live = session.layout.link_target(session.layout.current) == release
    if not marker.is_complete(session.layout, release) and not is_live:
        return False
    _refuse_namesake(session, manifest)
    _, wrong = readiness.intact(session, release)
    weak = "" if wrong else _too_weak(session, manifest)
    if not wrong and not weak:
        return True
    if is_live:
        cause = "%s is live and was %s" % (release, weak) if weak else "it is live: %s" % "; ".join(wrong)
        raise StepFailed("verify", cause, "deploy or roll back to another tag, then deploy this one again")
    with session.step("sweep", release):
        session.book.append("swept", release=release, cause="; ".join(wrong) or weak)
        remove_tree(session.layout.release(release))
    return False


def _refuse_namesake(session: Session, manifest: Manifest) -> None:
    """An id holds 8 digits of the manifest's digest: whoever makes 100,000 manifests has two with one id."""
    try:
        here = marker.read(session.layout, manifest.release_id).manifest
    except marker.NotARelease:
        return
    if here.digest != manifest.digest:
        cause = "another release is here under the same id %s: its manifest has sha256 %s, this one's %s" % (
            manifest.release_id,
            here.digest,
            manifest.digest,
        )
        raise StepFailed("verify", cause, "this does not happen by chance: ask who made the tag, and make a new one")


def _too_weak(session: Session, manifest: Manifest) -> str:
    """A release that was built under a weaker seal than the operator accepts now is staged anew."""
    sealed = marker.read(session.layout, manifest.release_id).facts.get("sealed", "kernel")
    accepted = sealed == "kernel" or session.policy.accept_seal == "pip"
    return "" if accepted else "built under the seal %s, which `accept_seal` does not accept" % sealed


def needed(session: Session, manifest: Manifest, target: Target) -> List[Any]:
    """The digests this host lacks for the release: tree files, and archives unless their environment is here."""
    wanted = [file.sha256 for file in manifest.files]
    if environment.usable(session, manifest, target) is None:
        wanted += sorted(target.packages)
    elif not toolchain.is_here(session, target):
        wanted += target.toolchain
    return session.store.lacks(wanted, manifest.sizes)


def stage(session: Session, manifest: Manifest, target: Target, context: Context) -> Dict[str, Any]:
    """Stage and mark; returns the facts of the release. Raises StepFailed, LineLost; then nothing is left behind."""
    release = manifest.release_id
    folder = session.layout.release(release)
    if marker.is_complete(session.layout, release):  # and intact: ``is_present`` looked, under this very lock
        return dict(marker.read(session.layout, release).facts)
    session.book.append("stage", release=release, tag=manifest.tag, commit=manifest.commit)
    remove_tree(folder)
    work = work_folder(session, "stage")
    try:
        folder.mkdir(mode=0o755)
        with session.step("unpack", "%d files" % len(manifest.files)):
            _unpack(session, manifest, folder / "src")
        sealer, proof = environment.give(session, manifest, target, work)
        with session.step("compile", "src"):
            compile_folder(sealer, folder / "venv" / "bin" / "python", folder / "src")
        with session.step("link", "shared"):
            _link_shared(session, manifest, folder / "src")
        hooks.run(session, context, manifest, "prepare")
        hooks.run(session, context, manifest, "probe")
        facts = dict(proof, staged_at=round(time.time(), 3), by=session.operator, python=platform.python_version())
        selection = {"python": target.python, "platform": target.platform, "env_key": proof["env_key"]}
        selection["env_shared"] = proof["env_shared"]
        with session.step("mark", release):
            sync_filesystem(session.layout.releases)
            marker.write(session.layout, manifest, selection, facts)
            session.verified.add(release)
    except WrongContent as error:
        dropped = session.store.drop_wrong(manifest.sizes)
        _discard(session, release, error)
        cause = "%d stored files were not what they were stored as, and are dropped: %s" % (max(dropped, 1), error)
        raise StepFailed("unpack", cause, "run the same command again: they are sent again") from error
    except BaseException as error:
        _discard(session, release, error)
        raise
    finally:
        remove_tree(work)
    session.book.append("staged", release=release, sealed=facts["sealed"])
    return facts


def _discard(session: Session, release: Any, error: BaseException) -> None:
    step = error.step if isinstance(error, StepFailed) else "line"
    try:
        session.book.append("stage-failed", release=release, step=step, cause=str(error)[:1000])
        remove_tree(session.layout.release(release))
    except OSError:
        pass  # the next run sweeps what has no marker


def _unpack(session: Session, manifest: Manifest, src: Path) -> None:
    src.mkdir()
    made: Set[Path] = {src}
    for file in manifest.files:
        path = src / file.path
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        if file.mode == "120000":
            with session.store.open(file.sha256) as blob:
                os.symlink(os.fsdecode(blob.read()), path)
        else:
            session.store.copy_to(file.sha256, path, 0o755 if file.mode == "100755" else 0o644)


def _link_shared(session: Session, manifest: Manifest, src: Path) -> None:
    shared: Mapping[str, List[str]] = manifest.settings["shared"]
    for name in shared["dirs"]:
        folder = session.layout.shared / name
        if not folder.exists():
            folder.mkdir(parents=True)
            session.layout.open_to_app(folder, 0o2770)
    for name in [*shared["dirs"], *shared["files"]]:
        link = src / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(link):
            remove_tree(link)  # listed in settings, so the tag's own copy only serves development
        link.symlink_to(os.path.relpath(session.layout.shared / name, link.parent))


def room(layout: Layout, need: int = LEAST_BYTES, need_inodes: int = LEAST_INODES) -> List[str]:
    """What keeps a deploy that needs so much from finding room below ROOT; by default the smallest one."""
    about = os.statvfs(layout.root)
    free = about.f_bavail * about.f_frsize
    found: List[str] = []
    mend = "(make room: fab prune; df -h '%s')" % layout.root
    if free < need:
        found.append("needs %d MB free below %s, has %d MB %s" % (need >> 20, layout.root, free >> 20, mend))
    if about.f_files and about.f_favail < need_inodes:
        found.append("needs %d free inodes below %s, has %d %s" % (need_inodes, layout.root, about.f_favail, mend))
    return found


def _room(session: Session, manifest: Manifest, *, builds: bool) -> List[str]:
    """Who builds unpacks each archive, keeps a wheel of it and works in between: about six times its size."""
    tree = sum(file.size for file in manifest.files)
    archives = sum(archive.size for archive in manifest.archives.values()) if builds else 0
    inodes = 2 * len(manifest.files) + (2000 if builds else LEAST_INODES)
    return room(session.layout, 2 * tree + 6 * archives + LEAST_BYTES, inodes)
