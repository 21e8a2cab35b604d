"""Where everything lies below ROOT on a host, and the one way files there are written. A public contract (design 4).

Knows paths and modes; decides nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import shutil
import stat
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, cast

from deploy.wire.names import ReleaseId, is_release_id, parse_release_id

from . import plain

MARKER = "release.json"
PROOF = (".deploy", "prove")
"""Where below a ROOT a closure is proven: a ROOT of its own, of which nothing stays."""


class Layout:
    """The paths of one ROOT."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / "current"
        self.previous = root / "previous"
        self.releases = root / "releases"
        self.shared = root / "shared"
        self.state = root / ".deploy"
        self.journal = self.state / "journal.jsonl"
        self.lock = self.state / "lock"
        self.files = self.state / "store" / "files"
        self.wheels = self.state / "store" / "wheels"
        self.envs = self.state / "store" / "envs"
        self.programs = self.state / "bin"
        self.links = self.state / "links"
        self.tmp = self.state / "tmp"

    @property
    def is_for_proof(self) -> bool:
        """Whether this is the ROOT below another one in which closures are proven."""
        return self.root.parts[-2:] == PROOF

    def release(self, release: ReleaseId) -> Path:
        return self.releases / release

    def marker(self, release: ReleaseId) -> Path:
        return self.release(release) / MARKER

    def make(self) -> None:
        """Make the folders below an existing ROOT, with the modes of the contract whatever the umask is."""
        for folder, mode in (
            (self.releases, 0o755),
            (self.state, 0o711),
            (self.state / "store", 0o711),
            (self.files, 0o700),
            (self.wheels, 0o700),
            (self.envs, 0o755),
            (self.programs, 0o700),
            (self.links, 0o700),
            (self.tmp, 0o711),
        ):
            _make_folder(folder)
            _set_mode(folder, mode)
        _make_folder(self.shared, 0o700)
        with plain.folder(self.root, ["shared"]) as made:
            if plain.is_half_made(made):  # an operator may have opened another one for the app on purpose
                plain.hand_to_group(made, self.root.stat().st_gid, 0o750)

    def empty(self) -> None:
        """Remove releases and stores of a ROOT for proof; lock and journal stay. Raises ValueError for any other."""
        if not self.is_for_proof:
            raise ValueError("%s is not for proof" % self.root)
        for folder in (self.releases, self.shared, self.state / "store", self.tmp):
            remove_tree(folder)
        self.make()

    def problems(self) -> List[str]:
        """What about ROOT makes any change refused, in words an operator can act on."""
        found: List[str] = []
        make = "as root: install -d -o %s -g APPGROUP -m 0750 '%s'  # APPGROUP: the service's" % (
            user_name(),
            self.root,
        )
        if not self.root.is_dir():
            return ["%s does not exist (%s)" % (self.root, make)]
        if not os.access(self.root, os.W_OK | os.X_OK):
            found.append("%s is not writable for this user (%s)" % (self.root, make))
        elif os.stat(self.root).st_uid != os.geteuid():
            found.append("%s belongs to somebody else, who could replace what lies in it (%s)" % (self.root, make))
        elif os.stat(self.root).st_mode & 0o022:
            found.append("others may write in %s and so replace `current` (chmod go-w '%s')" % (self.root, self.root))
        found += self._obstacles()
        if not found and self.releases.exists() and self.releases.stat().st_dev != self.root.stat().st_dev:
            found.append("%s is on another filesystem than %s" % (self.releases, self.root))
        return found + self._misled()

    def exposed(self) -> List[str]:
        """Which folders above ROOT somebody else could exchange ROOT in, with what mends it."""
        found: List[str] = []
        for above in self.root.parents:
            about = os.stat(above)
            who = plain.may_write(about)
            if not who or (os.geteuid() == 0 and not about.st_mode & 0o022):
                continue  # root on a machine of somebody's own: a developer's container
            change = "chown root" if plain.others(about) else "chmod go-w"
            mend = "as root: %s '%s', or put ROOT elsewhere" % (change, above)
            found.append("%s may write in %s, and so put another folder in ROOT's place (%s)" % (who, above, mend))
        return found

    def _obstacles(self) -> List[str]:
        """What lies where something of ours belongs."""
        found: List[str] = []
        for link in (self.current, self.previous):
            if os.path.lexists(link) and not link.is_symlink():
                mend = "mv '%s' '%s.was'" % (link, link)
                if link == self.current:  # else the next deploy is a first one, with nothing to return to
                    mend += " && ln -s releases/RELEASE '%s', RELEASE being what serves" % link
                found.append("%s is not a symbolic link (%s)" % (link, mend))
        for folder in (self.releases, self.shared, self.state):
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                found.append("%s must be a real directory" % folder)
            elif folder != self.shared and folder.exists() and folder.stat().st_uid != os.geteuid():
                mend = "as root: chown -R -h %s '%s'" % (user_name(), folder)
                found.append("%s belongs to somebody else (%s)" % (folder, mend))
        return found

    def _misled(self) -> List[str]:
        """Where ``current`` points, if at nothing of ours."""
        if not self.current.is_symlink():
            return []
        target = self.link_target(self.current)
        if target is None:
            where = "outside releases/: %s" % os.readlink(self.current)
        elif not self.release(target).is_dir():
            where = "at %s, which is not there" % target
        else:
            return []
        return ["%s points %s (rm '%s')" % (self.current, where, self.current)]

    def link_target(self, link: Path) -> Optional[ReleaseId]:
        """The release that ``current`` or ``previous`` names, or None where it names none of ours."""
        try:
            folder, _, name = os.readlink(link).rpartition("/")
        except OSError:
            return None
        return parse_release_id(name) if folder == "releases" and is_release_id(name) else None

    def present(self) -> List[ReleaseId]:
        """Every release directory, complete or not, in no meaningful order."""
        try:
            found = os.listdir(self.releases)
        except FileNotFoundError:
            return []
        return [parse_release_id(name) for name in sorted(found) if is_release_id(name)]

    def remove_release(self, release: ReleaseId) -> None:
        """Delete a release, its marker first: cut off in the middle it is BROKEN, never a complete one with holes."""
        unmark(self.release(release), MARKER)
        remove_tree(self.release(release))

    def scratch(self, name: str) -> Path:
        """A new empty folder below ``.deploy/tmp`` that nobody else has."""
        self.tmp.mkdir(parents=True, exist_ok=True)
        path = self.tmp / ("%s.%d.%d" % (name, os.getpid(), time.monotonic_ns()))
        path.mkdir(mode=0o700)
        return path


def user_name() -> str:
    """Whom this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _make_folder(folder: Path, mode: int = 0o755) -> None:
    try:
        folder.mkdir(mode, parents=True)
    except FileExistsError:
        if folder.is_symlink() or not folder.is_dir():
            raise


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` so that a reader, and a power cut, sees all of it or none of it.

    Temp file beside it, fsync, rename(2), fsync of the directory.
    """
    temp = path.with_name(".%s.%d.%d" % (path.name, os.getpid(), time.monotonic_ns()))
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException:
        unlink_if_there(temp)
        raise
    sync_folder(path.parent)


def sync_filesystem(path: Path) -> None:
    """Make everything written so far on this filesystem durable (syncfs(2)). Raises OSError.

    Durable before visible: without it 201 of 201 files of a "live" release came back empty after a power cut.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", str(path))
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable (fsync(2) of the directory)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unlink_if_there(path: Path) -> None:
    """Remove a file or link; absent is fine."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def read_json(path: Path) -> Dict[str, Any]:
    """Read one JSON object without following a link. Raises OSError, ValueError."""
    with open(plain.open_file(path), "rb") as file:
        value = json.loads(file.read().decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("%s does not hold a JSON object" % path)  # noqa: TRY004 - the content is wrong
    return cast("Dict[str, Any]", value)


def unmark(folder: Path, *markers: str) -> None:
    """Take the markers of a folder that is to go, before anything else of it: whatever a crash leaves is incomplete."""
    if folder.is_dir() and not folder.is_symlink():
        folder.chmod(0o755)
        for name in markers:
            unlink_if_there(folder / name)


def remove_tree(path: Path) -> None:
    """Delete a folder, also one whose write bits are gone. Links are removed, never followed."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    _open_up(path)
    shutil.rmtree(path)


def _open_up(path: Path) -> None:
    """Give write bits back, so that all below can be removed; by descriptors, as rmtree itself goes.

    Whoever owned what is below may still exchange a folder for a link.
    """
    os.chmod(path, 0o700)
    for _, folders, _, at in os.fwalk(path):
        for name in folders:
            with contextlib.suppress(NotADirectoryError, FileNotFoundError):
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
                try:
                    if os.fstat(fd).st_mode & 0o700 != 0o700:
                        os.chmod("/proc/self/fd/%d" % fd, 0o700)
                finally:
                    os.close(fd)
