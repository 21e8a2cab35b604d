"""Run a release's configured commands in a documented environment, with deadlines; secrets go in and never come out.

The environment (docs/reference/hooks.md) is PATH with ``venv/bin`` first, VIRTUAL_ENV, HOME, USER, LANG,
DEPLOY_{ROOT,RELEASE,TAG,COMMIT,STAGE,HOST,GROUPS,VERB,PREVIOUS}, then the settings' ``environment``, then
``env_files``. The working directory is the release's ``src/``.
"""

from __future__ import annotations

import errno
import math
import os
import pwd
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from deploy.wire import commands
from deploy.wire.commands import Hook
from deploy.wire.manifest import Manifest

from .children import Command, Finished, environment
from .history import fold
from .layout import Layout
from .sealed import build_user, give_to_build_user, take_back
from .session import Session, StepFailed

SECRET_FROM_CHARS = 4
"""Shorter values of env_files (``1``, ``on``) are not redacted: they would blank out ordinary text."""


ENV_FILE_MAX_BYTES = 1 << 20

TO_THEIR_END = ("before_activate", "after_activate", "failed")
"""Points whose running hook is not ended by a dead line: half a migration is worse than one nobody listens to."""


class Configured(NamedTuple):
    """One command from settings: what to run, what to call it, its deadline in seconds, as whom, sealed or not."""

    argv: Sequence[str]
    label: str
    timeout_s: float
    user: Optional[str] = None
    sealed: bool = False


@dataclass(frozen=True)
class Context:
    """Which host of which stage this is, and what is being done there."""

    stage: str
    host: str
    groups: Tuple[str, ...]
    verb: str

    @property
    def levels(self) -> List[str]:
        return commands.levels(self.stage, self.groups, self.host)

    def doing(self, verb: str) -> Context:
        return Context(self.stage, self.host, self.groups, verb)


def run(
    session: Session, context: Context, manifest: Manifest, point: str, *, once: Optional[Sequence[str]] = None
) -> None:
    """Run every hook of ``point`` that is this host's own, or those ``once`` per fleet that fell to it, by their text.

    Raises StepFailed at the first that fails.
    """
    for hook in commands.hooks_of(manifest.settings, point, context.verb, context.levels):
        if hook.once == (once is not None) and (once is None or hook.text in once):
            _run_one(session, context, manifest, point, hook)


def failures(session: Session, context: Context, manifest: Manifest, point: str) -> List[StepFailed]:
    """Run every hook of ``point`` on this host, also after one that fails; what failed."""
    found: List[StepFailed] = []
    for hook in commands.hooks_of(manifest.settings, point, context.verb, context.levels):
        try:
            _run_one(session, context, manifest, point, hook)
        except StepFailed as failure:
            found.append(failure)
    return found


def _run_one(session: Session, context: Context, manifest: Manifest, point: str, hook: Hook) -> None:
    with session.step(point, hook.text):
        text = hook.text[:300]
        if hook.once and not hook.idempotent:
            _refuse_unknown(session, point, text)
        intent = session.book.append("hook", point=point, text=text, release=manifest.release_id, once=hook.once)
        user = hook.user or unprivileged(session)
        command = Configured(hook.argv, point, hook.timeout_s, user, hook.sealed)
        try:
            with _may_write(session, manifest, point, user), _heeding_the_line(session, heed=point not in TO_THEIR_END):
                finished = configured(session, context, manifest, command)
        except StepFailed as failure:
            session.book.append("hook-done", intent=intent["seq"], point=point, outcome="not run: %s" % failure)
            raise
        if not finished.left:  # what still runs has no outcome yet
            outcome = "ok" if finished.ok else finished.cause()
            session.book.append("hook-done", intent=intent["seq"], point=point, outcome=outcome)
        if not finished.ok:
            cause = "%s hook `%s`: %s" % (point, hook.text, finished.cause())
            mend = "mend it on the host and run the same command again; where the code is at fault: tag again, deploy"
            raise StepFailed(point, cause, mend, finished.tail(30))


def _refuse_unknown(session: Session, point: str, text: str) -> None:
    """Raise StepFailed where this hook began before and nobody knows how it ended: half of it may be done."""
    before = fold(session.book.records).unknown_hooks.get((point, text))
    if before is not None:
        cause = "%s hook `%s` began in run %s for %s and was cut off: its outcome is unknown, it may be half done"
        raise StepFailed(
            point,
            cause % (point, text, before.get("run"), before.get("release")),
            "look at what it did and mend that; when it is safe to run again, give it `idempotent: true`, tag, deploy",
        )


def unprivileged(session: Session) -> Optional[str]:
    """Whom a release's code runs as where onhost itself is root; None means as onhost."""
    user = build_user(session)
    return user.pw_name if user else None


@contextmanager
def _may_write(session: Session, manifest: Manifest, point: str, user: Optional[str]) -> Iterator[None]:
    """Where it runs as the build user, let ``prepare`` write into ``src/``, which is onhost's own again after it."""
    if point != "prepare" or user is None or user != unprivileged(session):
        yield
        return
    src = session.layout.release(manifest.release_id) / "src"
    give_to_build_user(session, src)
    try:
        yield
    finally:
        take_back(session, src)


@contextmanager
def _heeding_the_line(session: Session, *, heed: bool) -> Iterator[None]:
    """Let what runs here go on until its own deadline, whoever still listens, unless it may be cut short."""
    check = session.check
    if not heed:
        session.check = lambda: None
    try:
        yield
    finally:
        session.check = check


def configured(
    session: Session,
    context: Context,
    manifest: Manifest,
    command: Configured,
) -> Finished:
    """Run one command from settings inside a release; its output comes back with secrets redacted."""
    finished, secrets = unredacted(session, context, manifest, command)
    return replace(finished, output=redact(finished.output, secrets))


def unredacted(
    session: Session, context: Context, manifest: Manifest, command: Configured
) -> Tuple[Finished, Dict[str, str]]:
    """Run one command; its output as it is, and the secrets that must be taken out before anybody sees it."""
    folder = session.layout.release(manifest.release_id)
    secrets = env_file_values(session.layout, manifest.settings)
    env = _environment(session.layout, context, manifest, folder)
    env.update(secrets)
    words, uid, gid = _as_user(command, env)
    finished = session.children().run(
        Command(
            words,
            str(folder / "src"),
            env,
            command.timeout_s,
            "hook",
            command.label,
            sealed=command.sealed,
            uid=uid,
            gid=gid,
        )
    )
    return finished, secrets


def env_file_values(layout: Layout, settings: Mapping[str, Any]) -> Dict[str, str]:
    """Read what ``env_files`` say, as data. A file that is not there gives nothing; names are relative to ROOT.

    Raises StepFailed for anything but a plain file of text: the app's user may write below shared/, and must neither
    hold up a deploy (a FIFO) nor have it read what only the deploy user may (a symbolic link).
    """
    values: Dict[str, str] = {}
    for name in settings.get("env_files", []):
        path = layout.root / name
        try:
            values.update(commands.parse_env_file(_plain_text(layout.root, name)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnicodeDecodeError as error:
            raise StepFailed("env_files", "%s is not UTF-8 text" % path, "write it as UTF-8") from error
        except OSError as error:
            mend = "make it a plain file, no link on its path"
            if error.errno == errno.EACCES:
                mend = "let this user read it: chgrp and chmod 640, as for a file of shared/"
            raise StepFailed("env_files", "%s: %s" % (path, error.strerror), mend) from error
    return values


def _plain_text(root: Path, name: str) -> str:
    """Read a small regular file below ``root`` without following a link on the way (openat(2)). Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    *folders, last = PurePosixPath(name).parts
    if ".." in folders:
        raise OSError(errno.EINVAL, "leaves ROOT")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if stat.S_ISLNK(os.stat(folder, dir_fd=at, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, "%s is a symbolic link" % folder)
            inner = os.open(folder, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        fd = os.open(last, flags | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = file.read(ENV_FILE_MAX_BYTES + 1)
    if len(data) > ENV_FILE_MAX_BYTES:
        raise OSError(errno.EFBIG, "larger than %d KiB" % (ENV_FILE_MAX_BYTES >> 10))
    return data.decode("utf-8")


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """Blank out every value of env_files, longest first."""
    for value in sorted(set(secrets.values()), key=len, reverse=True):
        if len(value) >= SECRET_FROM_CHARS:
            text = text.replace(value, "[redacted]")
    return text


def _environment(layout: Layout, context: Context, manifest: Manifest, folder: Path) -> Dict[str, str]:
    venv = folder / "venv"
    me = _account()
    base = environment()
    env = environment(
        PATH="%s:%s" % (venv / "bin", base["PATH"]),
        VIRTUAL_ENV=str(venv),
        HOME=me[1],
        USER=me[0],
        LOGNAME=me[0],
        PYTHONDONTWRITEBYTECODE="1",
        DEPLOY_ROOT=str(layout.root),
        DEPLOY_RELEASE=manifest.release_id,
        DEPLOY_TAG=manifest.tag,
        DEPLOY_COMMIT=manifest.commit,
        DEPLOY_STAGE=context.stage,
        DEPLOY_HOST=context.host,
        DEPLOY_GROUPS=",".join(context.groups),
        DEPLOY_VERB=context.verb,
        DEPLOY_PREVIOUS=layout.link_target(layout.current) or "",
    )
    runtime = "/run/user/%d" % os.geteuid()
    if os.path.isdir(runtime):
        env["XDG_RUNTIME_DIR"] = runtime  # what `systemctl --user` needs
    env.update(commands.environment_of(manifest.settings, context.levels))
    return env


def _account() -> Tuple[str, str]:
    try:
        entry = pwd.getpwuid(os.geteuid())
        return entry.pw_name, entry.pw_dir
    except KeyError:
        return str(os.geteuid()), "/"


def _as_user(command: Configured, env: Dict[str, str]) -> Tuple[List[str], Optional[int], Optional[int]]:
    """As its user: directly where onhost is root, else by ``sudo -n``, given variables' names, never their values.

    This user may not end what sudo(8) runs: timeout(1) inside of it keeps the deadline, also when onhost is gone.
    """
    argv, user = list(command.argv), command.user
    if user is None or user == _account()[0]:
        return argv, None, None
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise StepFailed("hook", "user %s does not exist on this host" % user) from None
        env.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
        return argv, entry.pw_uid, entry.pw_gid
    keep = ",".join(sorted(name for name in env if name not in ("HOME", "USER", "LOGNAME")))
    timeout = shutil.which("timeout", path=environment()["PATH"])
    limit = [timeout, "-s", "KILL", "%d" % math.ceil(command.timeout_s)] if timeout else []
    return ["sudo", "-n", "-u", user, "--preserve-env=" + keep, "--", *limit, *argv], None, None
