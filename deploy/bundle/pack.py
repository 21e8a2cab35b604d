"""Packing: a resolved tag to a bundle, or every reason why not. Reads git objects only, contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy import closure
from deploy.bundle.contents import MEMORY, Bundle
from deploy.bundle.git import NO_HOST, GitFailed, Missing, Objects
from deploy.bundle.layout import find_layout, shipped
from deploy.bundle.outside import OutsideSource
from deploy.bundle.repository import Repository, ResolvedTag, unreadable
from deploy.bundle.tree import LINK, Blobs, Digest, Entry, GitSource, LfsPointer, entries, lfs_refused, links_out
from deploy.closure import plan
from deploy.errors import Refused
from deploy.settings.release import ReleaseSettings
from deploy.wire.manifest import Archive, Manifest, Target, TreeFile
from deploy.wire.names import Sha256


def pack(repository: Repository, resolved: ResolvedTag, store: str = "") -> Bundle:
    """Make the bundle of a resolved tag: its own settings, its files, its closure, checked whole.

    Where there is a ``store`` (``vendor_store``), archives that the tag lacks are taken from this machine, by hash.
    Raises Refused with every problem of one kind: settings, tree (submodules, Git LFS, links that leave it, files
    under shared paths), closure, missing objects.
    """
    objects = Objects(repository.git)
    try:
        return _pack(repository, resolved, objects, store)
    except BaseException as error:
        objects.close()
        if isinstance(error, Missing | GitFailed):
            raise unreadable(resolved.tag, error) from error
        raise


def _pack(repository: Repository, resolved: ResolvedTag, objects: Objects, store: str) -> Bundle:
    tree = entries(repository.git, resolved.tree)
    blobs = Blobs(objects, repository.git_folder / MEMORY)
    layout, settings = find_layout(tree, blobs, repository.prefix, resolved.tag)
    chosen = shipped(tree, layout, settings)
    _check_links(chosen, blobs)
    digests = _digests(chosen, blobs)
    source = GitSource(tree, blobs, layout.closure)
    outside = OutsideSource.of_tag(repository, source, layout.closure, settings.requirements, store)
    targets, archives, host_needs = _closure(outside, settings, resolved.tag, repository.top / layout.closure)
    files = tuple(
        TreeFile(path, entry.mode, digests[path].sha256, digests[path].size) for path, entry in sorted(chosen.items())
    )
    manifest = Manifest(
        app=settings.app,
        tag=resolved.tag,
        commit=resolved.commit,
        tree=resolved.tree,
        tag_object=resolved.tag_object,
        subdirectory=layout.shipped,
        files=files,
        archives=archives,
        targets=targets,
        settings=settings.to_manifest(),
    )
    oids = {digests[path].sha256: entry.oid for path, entry in chosen.items()}
    inside = {digest: archive.name for digest, archive in archives.items() if digest not in outside.paths}
    oids.update({digest: source.oid(f"vendor/{name}") for digest, name in inside.items()})
    blobs.remember()
    return Bundle(manifest, resolved, settings, oids, outside.paths, objects, blobs, host_needs)


def _closure(
    source: OutsideSource, settings: ReleaseSettings, tag: str, work_tree: Path
) -> tuple[tuple[Target, ...], Mapping[Sha256, Archive], tuple[closure.HostNeed, ...]]:
    try:
        closed = closure.examine(source, settings.requirements, settings.locked_for)
    except Refused as error:  # what mends the working tree does not mend a tag
        source.refuse_pointers(tag)
        named = {problem.partition(":")[0] for problem in error.problems}
        found = () if source.has_store else closure.traps(work_tree)
        traps = [str(trap) for trap in found if named & set(trap.files)]
        step = source.next_step(error.next_step + (" --mend" if traps else ""), tag)
        raise Refused(error.what, error.why, step, problems=[*error.problems, *traps]) from error
    return plan.targets(closed.lock), plan.archives(closed.lock), tuple(closure.host_needs(closed))


def _digests(chosen: Mapping[str, Entry], blobs: Blobs) -> dict[str, Digest]:
    found = {path: _digest(blobs, entry.oid) for path, entry in chosen.items()}
    pointers = [path for path, digest in found.items() if digest is None]
    if pointers:
        raise lfs_refused(pointers)
    return {path: digest for path, digest in found.items() if digest is not None}


def _digest(blobs: Blobs, oid: str) -> Digest | None:
    try:
        return blobs.digest(oid)
    except LfsPointer:
        return None


def _check_links(chosen: Mapping[str, Entry], blobs: Blobs) -> None:
    links = {
        path: blobs.read(entry.oid).decode("utf-8", "surrogateescape")
        for path, entry in chosen.items()
        if entry.mode == LINK
    }
    out = [path for path in links if links_out(links, path)]
    if out:
        raise Refused(
            NO_HOST,
            "links lead out of the shipped tree: on a host they would point at something the tag does not hold",
            "make them relative and inside, or exclude them; what outlives releases belongs to `shared`",
            problems=[f"{path!a} -> {links[path]!a}" for path in out],
        )
