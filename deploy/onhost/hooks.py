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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from deploy.wire import commands
from deploy.wire.commands import Hook
from deploy.wire.manifest import Manifest

from . import plain
from .children import CUT, Command, Finished, environment
from .layout import Layout, remove_tree
from .sealed import build_user, confinement, give_to_build_user, take_back, work_folder
from .secret import Secret, redact
from .session import Session, StepFailed

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
    before = session.book.history.unknown_hooks.get((point, text))
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
    return replace(finished, output=redact(finished.output, secrets, cut=CUT))


def unredacted(
    session: Session, context: Context, manifest: Manifest, command: Configured
) -> Tuple[Finished, Dict[str, Secret]]:
    """Run one command; its output as it is, and the secrets that must be taken out before anybody sees it."""
    folder = session.layout.release(manifest.release_id)
    secrets = env_file_values(session.layout, manifest.settings)
    env = _environment(session.layout, context, manifest, folder)
    env.update(secrets)
    words, uid, gid = _as_user(command, env)
    run = Command(
        words, str(folder / "src"), env, command.timeout_s, "hook", command.label, command.sealed, uid=uid, gid=gid
    )
    finished = _sealed(session, run, folder) if command.sealed else session.children().run(run)
    return finished, secrets


def _sealed(session: Session, command: Command, release: Path) -> Finished:
    """Run a sealed command as builds are: HOME and TMPDIR of its own, no reading of shared/ or of this user's files.

    ``prepare`` may write into ``src/``, as ever.
    """
    work = work_folder(session, "sealed")
    try:
        own = {"HOME": str(work / "home"), "TMPDIR": str(work / "tmp")}
        write = [work, *([release / "src"] if command.label == "prepare" else [])]
        confine = confinement(session.layout, write)
        return session.children().run(replace(command, env={**command.env, **own}, confine=confine))
    finally:
        remove_tree(work)


def env_file_values(layout: Layout, settings: Mapping[str, Any]) -> Dict[str, Secret]:
    """Read what ``env_files`` say, as data. A file that is not there gives nothing; names are relative to ROOT.

    Raises StepFailed for anything but a plain file of text that nobody but this user and root can change: whoever
    writes there says which programs and libraries run as this user (PATH, LD_PRELOAD). A FIFO must not hold up a
    deploy, nor a symbolic link have it read what only this user may.
    """
    values: Dict[str, Secret] = {}
    for name in settings.get("env_files", []):
        path = layout.root / name
        try:
            found = commands.parse_env_file(_plain_text(layout.root, name))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnicodeDecodeError:
            # Its cause holds the whole file.
            raise StepFailed("env_files", "%s is not UTF-8 text" % path, "write it as UTF-8") from None
        except OSError as error:
            mend = {
                errno.EACCES: "let this user read it: chgrp and chmod 640, as for a file of shared/",
                errno.EPERM: "as root: chown %s FILE && chmod g-w,o-w FILE; the same for its folder"
                % plain.name_of(os.geteuid()),
            }
            advice = mend.get(error.errno or 0, "make it a plain file, no link on its path")
            raise StepFailed("env_files", "%s: %s" % (path, error.strerror), advice) from error
        values.update({key: Secret(value) for key, value in found.items()})
    return values


def _plain_text(root: Path, name: str) -> str:
    """Read a small file below ``root`` without following a link on the way. Raises OSError."""
    *folders, last = PurePosixPath(name).parts
    top: Path = root
    if folders[:1] == ["/"]:
        top, folders = Path("/"), folders[1:]
    with plain.folder(top, folders) as at:
        with open(plain.open_file(last, at=at), "rb") as file:
            for about, what in ((os.fstat(file.fileno()), "it"), (os.fstat(at), "its folder")):
                who = plain.may_write(about)
                if who:
                    raise OSError(errno.EPERM, "%s may write %s, and so run commands as this user" % (who, what))
            return plain.read_open(file, ENV_FILE_MAX_BYTES).decode("utf-8")


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
