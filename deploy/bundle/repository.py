"""The project's git repository: where it is, which tags it has, what a tag means. Reads refs and tag objects only."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle.git import NO_HOST, Git, GitFailed, Missing, Objects
from deploy.errors import Refused
from deploy.settings.section import did_you_mean
from deploy.wire import names

MAX_NESTING = 5
TAG_MAX_BYTES = 1 << 20
"""Tag and commit objects are read whole; a message longer than this is no message."""
COSIGNED = "cosign/"
"""``refs/tags/cosign/TAG/WHO`` says that WHO too signs for TAG. No tag that can be deployed has a slash in its name."""
MOST_COSIGNATURES = 20


@dataclass(frozen=True)
class ResolvedTag:
    """One tag, resolved once: from here on only the object ids travel. ``tag_object`` is None for a lightweight tag."""

    tag: str
    commit: str
    tree: str
    tag_object: str | None
    tagger: str | None
    """Name, address and time as in the tag object; None for a lightweight tag."""
    message: str
    """The tag's message, or the commit's for a lightweight tag."""


class Repository:
    """A work tree's repository. ``folder`` is the project, ``prefix`` its path below ``top`` ('' or 'a/b')."""

    def __init__(self, folder: Path) -> None:
        """Find the repository around ``folder``. Raises Refused where there is none or git does not trust it."""
        here = Git(folder)
        try:
            self.top = Path(here.text("rev-parse", "--show-toplevel"))
            self.prefix = here.text("rev-parse", "--show-prefix").rstrip("/")
            common = here.text("rev-parse", "--git-common-dir")
        except GitFailed as error:
            raise Refused(
                NO_HOST, f"{folder} is in no git work tree: {error}", "run this in the project, or `git init`"
            ) from error
        self.git_folder = (folder / common).resolve()
        self.git = Git(self.top)

    def tags(self) -> tuple[str, ...]:
        """Every deployable tag, newest first by the time it was made."""
        try:
            found = self.git.text("for-each-ref", "--sort=-creatordate", "--format=%(refname)", "refs/tags")
        except GitFailed:  # one tag's object is missing: the names alone are still worth showing
            found = self.git.text("for-each-ref", "--format=%(refname)", "refs/tags")
        return tuple(tag for tag in map(_short, found.splitlines()) if names.is_tag(tag))

    def tag_on_head(self) -> str:
        """The one deployable tag on HEAD. Raises Refused where there is none, or more than one."""
        try:
            found = self.git.text("for-each-ref", "--points-at=HEAD", "--format=%(refname)", "refs/tags").splitlines()
        except GitFailed as error:
            raise Refused(
                NO_HOST, f"the tags on HEAD cannot be read: {error}", f"commit first, then: {self._how_to_tag()}"
            ) from error
        every = [_short(ref) for ref in found]
        tags = [tag for tag in every if names.is_tag(tag)]
        if len(tags) == 1:
            return tags[0]
        if tags:
            why = f"HEAD has {len(tags)} tags: {', '.join(tags)}"
            raise Refused(NO_HOST, why, f"name the one to deploy: fab deploy:{max(tags, key=_rank)}")
        unfit = f" that may be deployed (it has {', '.join(map(ascii, every))})" if every else ""
        raise Refused(NO_HOST, f"HEAD has no tag{unfit}", f"tag what you want to deploy: {self._how_to_tag()}")

    def _how_to_tag(self) -> str:
        return f"git tag -a {next_free(self.tags())} -m 'what is new' && fab deploy"

    def notices(self, resolved: ResolvedTag) -> tuple[str, ...]:
        """What the operator may have overlooked: changes that the tag does not hold. They never reach a host."""
        found: list[str] = []
        try:
            changed = [line for line in self.git.run("status", "--porcelain", "-z").split(b"\0") if line]
            head = self.git.text("rev-parse", "--verify", "HEAD")
        except GitFailed as error:
            return (f"the work tree cannot be compared with {resolved.tag}: {error}",)
        if changed:
            found.append(
                f"the work tree has uncommitted changes ({len(changed)}); {resolved.tag} is deployed without them"
            )
        if head != resolved.commit:
            found.append(f"HEAD is not at {resolved.tag}; the tag is deployed, not what is checked out")
        return tuple(found)

    def resolve(self, tag: str) -> ResolvedTag:
        """Resolve ``tag`` through ``refs/tags/`` alone; a branch of the same name has no say.

        Raises Refused: a name that may not be deployed, no such tag, a tag object made for another name, a tag of
        something that is no commit, missing objects (git-check-ref-format(1), git-mktag(1)).
        """
        if not names.is_tag(tag):
            why = f"{tag[:120]!a} cannot be deployed: a tag has letters, digits and . _ + -, 100 at most"
            raise Refused(NO_HOST, why, f"name a tag such as v1.2{did_you_mean(tag[:120], self.tags())}")
        try:
            # Not rev-parse: where the ref is absent it goes on to guess refs/heads/refs/tags/TAG and the like.
            oid = self.git.text("show-ref", "--verify", "--hash", "--", f"refs/tags/{tag}")
        except GitFailed as error:
            raise self._no_such(tag) from error
        return self._resolved(tag, oid)

    def cosignatures(self, tag: str) -> tuple[str, ...]:
        """Name the tags that others made to sign for ``tag``: ``cosign/TAG/WHO``."""
        listed = self.git.text(
            "for-each-ref",
            f"--count={MOST_COSIGNATURES}",
            "--format=%(refname)",
            f"refs/tags/{COSIGNED}{tag}/",
        )
        return tuple(map(_short, listed.splitlines()))

    def cosignature(self, name: str) -> ResolvedTag:
        """Resolve one of them. Raises Refused as ``resolve``."""
        return self._resolved(name, self.git.text("show-ref", "--verify", "--hash", "--", f"refs/tags/{name}"))

    def roots(self, commit: str) -> tuple[str, ...]:
        """The commits that a commit's history begins with, the oldest last. Raises Refused where git cannot tell."""
        try:
            return tuple(self.git.text("rev-list", "--max-parents=0", commit).split())
        except GitFailed as error:
            why = f"git cannot read the history of {commit[:12]}: {error}"
            raise Refused(NO_HOST, why, "git fsck; in a partial clone: git fetch --refetch origin") from error

    @property
    def is_shallow(self) -> bool:
        """Whether history was cut off when this was cloned (git-clone(1), --depth)."""
        return self.git.text("rev-parse", "--is-shallow-repository") == "true"

    def content(self, resolved: ResolvedTag) -> bytes:
        """The bytes of a resolved tag's own object, proven by its id. Raises Refused."""
        if resolved.tag_object is None:
            raise AssertionError("a lightweight tag has none")
        try:
            with Objects(self.git) as objects:
                return objects.read(resolved.tag_object, TAG_MAX_BYTES)[1]
        except (Missing, GitFailed) as error:
            raise unreadable(resolved.tag, error) from error

    def _resolved(self, tag: str, oid: str) -> ResolvedTag:
        try:
            with Objects(self.git) as objects:
                return _peel(objects, tag, oid)
        except Missing as error:
            raise missing_objects(tag, str(error)) from error
        except GitFailed as error:
            raise Refused(NO_HOST, f"tag {tag} cannot be read: {error}", "git fsck") from error

    def _no_such(self, tag: str) -> Refused:
        known = self.tags()
        why = f"there is no tag {tag}{did_you_mean(tag, known)}"
        newest = f" (the newest: {', '.join(known[:5])})" if known else ""
        remotes = self.git.text("remote").split()
        fetch = f"git fetch {remotes[0]} tag {tag}, or " if remotes else ""
        step = f"{fetch}name another{newest}, or tag the commit: git tag -a {tag} -m '...'"
        return Refused(NO_HOST, why, step)


def missing_objects(tag: str, oid: str) -> Refused:
    """The error for a shallow or partial clone."""
    why = f"the repository lacks object {oid}, which tag {tag} needs (a shallow or partial clone?)"
    return Refused(NO_HOST, why, f"git fetch --refetch origin tag {tag}, or clone again without --depth and --filter")


def unreadable(tag: str, error: Missing | GitFailed) -> Refused:
    """The error for a tag whose objects are missing, or that git cannot read."""
    if isinstance(error, Missing):
        return missing_objects(tag, str(error))
    step = f"git fsck; in a partial clone: git fetch --refetch origin tag {tag}"
    return Refused(NO_HOST, f"git cannot read tag {tag}: {error}", step)


def next_free(tags: Sequence[str]) -> str:
    """Suggest a tag that is not taken: the last number of the newest one, counted on. ``tags`` are newest first."""
    if not tags:
        return "v1.0"
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", tags[0])
    if found is None:
        return "vX.Y"
    head, number, tail = found.groups()
    return next(tag for count in itertools.count(int(number) + 1) if (tag := f"{head}{count}{tail}") not in tags)


def _rank(tag: str) -> tuple[bool, list[int], str]:
    """The highest number wins, a final one before its candidates."""
    return (not re.search(r"[a-z]", tag.removeprefix("v")), [int(part) for part in re.findall(r"\d+", tag)], tag)


def _short(ref: str) -> str:
    return ref.removeprefix("refs/tags/")


def _peel(objects: Objects, tag: str, oid: str) -> ResolvedTag:
    kind, content = objects.read(oid, TAG_MAX_BYTES)
    tag_object = tagger = message = None
    commit = oid
    for _ in range(MAX_NESTING):
        if kind != "tag":
            break
        head, text = _split(content)
        if tag_object is None:
            tag_object, tagger, message = oid, head.get("tagger"), text
            if head.get("tag") != tag:
                why = f"refs/tags/{tag} points at the tag object of {head.get('tag')!a}: it was made for another name"
                raise Refused(NO_HOST, why, f"tag the commit itself: git tag -d {tag} && git tag -a {tag} COMMIT")
        commit = head["object"]
        kind, content = objects.read(commit, TAG_MAX_BYTES)
    if kind != "commit":
        raise Refused(
            NO_HOST, f"tag {tag} names a {kind}, not a commit", "tag the commit to deploy: git tag -a TAG COMMIT"
        )
    head, text = _split(content)
    return ResolvedTag(
        tag=tag,
        commit=commit,
        tree=head["tree"],
        tag_object=tag_object,
        tagger=tagger,
        message=text if message is None else message,
    )


def _split(content: bytes) -> tuple[dict[str, str], str]:
    """Header fields (the first of each name) and message of a tag or commit object."""
    head, _, message = content.decode("utf-8", "replace").partition("\n\n")
    fields: dict[str, str] = {}
    for line in head.split("\n"):
        name, _, value = line.partition(" ")
        fields.setdefault(name, value)
    return fields, message.strip()
