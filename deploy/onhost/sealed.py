"""Run pip and virtualenv sealed: by environment rather than by flags, since flags do not reach build isolation.

Knows the allow-list, the bogus index and the canary; what is installed is decided elsewhere. Measured against every
known way past a bogus index (tests/hosts/test_egress.py): plain index, extra index, find-links, URL and VCS
requirements, pip.conf at every level, PIP_* variables, nested build pips, a setup.py that opens a socket.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence
from urllib.parse import quote

from .children import Command, Finished, environment
from .launcher import CANNOT_SEAL
from .layout import Layout, remove_tree
from .processes import BUILD_MARK
from .session import Session, StepFailed

BOGUS_INDEX = "file:///not-in-vendor"
"""Cannot name a network. Whatever reaches for an index fails at once and names the package it wanted."""
SOURCE_DATE = "1577836800"
"""2020-01-01: the one date in everything that is built (SOURCE_DATE_EPOCH); zip files cannot hold one before 1980."""
CANARY = "not-vendored-canary"

_RUN_MODULE = (
    "import runpy,sys;sys.path.insert(0,sys.argv.pop(1));name=sys.argv.pop(1);"
    "sys.argv[0]=name;runpy.run_module(name,run_name='__main__',alter_sys=True)"
)
_SOCKET_CANARY = (
    "import socket,sys\n"
    "try:\n    socket.socket(socket.AF_INET,socket.SOCK_STREAM)\n"
    "except OSError:\n    sys.exit(0)\n"
    "sys.exit(9)\n"
)


@dataclass(frozen=True)
class Sealer:
    """Runs sealed children for one stage. ``strength`` is ``kernel``, or ``pip`` where the kernel offers nothing."""

    session: Session
    work: Path
    toolchain: Path
    strength: str

    def pip(
        self,
        python: str,
        arguments: Sequence[str],
        label: str,
        *,
        find: Optional[Path] = None,
        into: Sequence[Path] = (),
        tools: Optional[Path] = None,
    ) -> Finished:
        """Run the vendored pip under ``python``, which need not have one. Never raises for a non-zero exit."""
        runner = str(self.toolchain / "pip" / "__pip-runner__.py")
        return self.run([python, "-I", runner, *arguments], label, find=find, into=into, tools=tools)

    def module(self, name: str, arguments: Sequence[str], label: str, *, into: Sequence[Path]) -> Finished:
        """Run a module of the toolchain under the host's own interpreter."""
        words = [sys.executable, "-I", "-c", _RUN_MODULE, str(self.toolchain), name, *arguments]
        return self.run(words, label, into=into)

    def run(
        self,
        argv: Sequence[str],
        label: str,
        *,
        find: Optional[Path] = None,
        into: Sequence[Path] = (),
        tools: Optional[Path] = None,
    ) -> Finished:
        """Run any sealed command with a HOME and TMPDIR that nobody had before; it may write there and below ``into``.

        ``tools`` comes first on PATH: backends such as meson-python call theirs by name (PEP 517 leaves it open).
        What of its descendants tried to reach a network is told, also where they made nothing of the refusal.
        """
        own = work_folder(self.session, "sealed")
        try:
            finished = self._run(argv, label, self._environment(own, find, tools), own, into)
        finally:
            remove_tree(own)
        if finished.code == CANNOT_SEAL:
            raise StepFailed("seal", finished.output.strip(), "", finished.tail())
        if finished.attempts:
            told = "%s tried to reach the network, and was refused: %s"
            self.session.tell("seal", "warned", told % (label, "; ".join(finished.attempts)))
        return finished

    def _run(
        self, argv: Sequence[str], label: str, env: Mapping[str, str], own: Path, into: Sequence[Path]
    ) -> Finished:
        user = build_user(self.session)
        command = Command(
            argv=argv,
            cwd=str(own),
            env=env,
            deadline_s=self.session.policy.step_s,
            kind="build",
            label=label,
            sealed=self.strength == "kernel",
            # Not the whole work folder: a build must not reach into the environment that the next one runs in.
            confine=confinement(self.session.layout, [own, *into], read=[self.work]),
            uid=user.pw_uid if user else None,
            gid=user.pw_gid if user else None,
        )
        return self.session.children().run(command)

    def _environment(self, own: Path, find: Optional[Path], tools: Optional[Path]) -> Dict[str, str]:
        env = environment(
            HOME=str(own / "home"),
            TMPDIR=str(own / "tmp"),
            PYTHONHASHSEED="0",
            PYTHONDONTWRITEBYTECODE="1",
            SOURCE_DATE_EPOCH=SOURCE_DATE,
            PIP_CONFIG_FILE="/dev/null",
            PIP_NO_INDEX="1",
            PIP_INDEX_URL=BOGUS_INDEX,
            PIP_FIND_LINKS=file_url(find) if find else BOGUS_INDEX,
            PIP_NO_CACHE_DIR="1",
            PIP_RETRIES="0",
            PIP_NO_INPUT="1",
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            VIRTUALENV_CONFIG_FILE="/dev/null",
            GIT_ALLOW_PROTOCOL="file",
            CARGO_NET_OFFLINE="true",
            UV_OFFLINE="1",
        )
        env[BUILD_MARK] = str(self.session.layout.root)
        if tools is not None:
            env["PATH"] = "%s:%s" % (tools, env["PATH"])
        return env


def open_sealer(session: Session, work: Path, toolchain: Path) -> Sealer:
    """Prove on this host that the seal holds, then hand out what relies on it.

    A socket and a package that is not vendored must both fail. Raises StepFailed where they do not, or where the
    kernel offers no seal and the operator's settings do not accept the weaker one.
    """
    strength = "kernel"
    sealer = Sealer(session, work, toolchain, strength)
    try:
        socket = sealer.run([sys.executable, "-I", "-S", "-c", _SOCKET_CANARY], "canary: socket")
        why = "" if socket.ok else "a sealed child could open an internet socket"
    except StepFailed as failure:
        why = failure.cause
    if why:
        if session.policy.accept_seal != "pip":
            raise StepFailed(
                "seal", why, "this kernel cannot seal builds; `accept_seal: pip` accepts pip's own seal alone"
            )
        strength = "pip"
    sealer = Sealer(session, work, toolchain, strength)
    package = sealer.pip(sys.executable, ["download", "--no-deps", "-d", os.curdir, CANARY], "canary: package")
    if package.code != 1 or CANARY not in package.output:
        raise StepFailed("seal", "pip did not refuse %s (%s)" % (CANARY, package.cause()), "", package.tail())
    return sealer


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def build_user(session: Session) -> Optional[pwd.struct_passwd]:
    """Whom sealed children run as where onhost itself is root; None means as onhost."""
    if os.geteuid() != 0 or not session.policy.build_user:
        return None
    try:
        return pwd.getpwnam(session.policy.build_user)
    except KeyError:
        raise StepFailed("seal", "build_user %s does not exist on this host" % session.policy.build_user) from None


def give_to_build_user(session: Session, folder: Path) -> None:
    """Let sealed children write below ``folder``: it and all in it change owner where they run as somebody else."""
    user = build_user(session)
    if user:
        _own(folder, user.pw_uid, user.pw_gid)


def take_back(session: Session, folder: Path) -> None:
    """Make onhost the owner again, so that no build user can change what was built."""
    if build_user(session):
        _own(folder, os.geteuid(), os.getegid())


def _own(folder: Path, uid: int, gid: int) -> None:
    """Change the owner of a folder and all in it, by descriptors: its owner so far may still exchange what is there.

    A file with several names keeps its owner when it is given away: the other name may be of something else.
    """
    for _, folders, files, at in os.fwalk(folder):
        os.chown(at, uid, gid)
        for name in folders + files:
            about = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode) or about.st_nlink == 1 or uid == os.geteuid():
                os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)


def file_url(path: Path) -> str:
    """A folder as pip takes it: a path with a space in PIP_FIND_LINKS would be split, a URL is not."""
    return "file://" + quote(str(path))


def work_folder(session: Session, name: str) -> Path:
    """A scratch folder with the HOME and TMPDIR that sealed children get."""
    work = session.layout.scratch(name)
    for folder in ("home", "tmp"):
        (work / folder).mkdir()
    give_to_build_user(session, work)
    return work


def confinement(layout: Layout, write: Sequence[Path], read: Sequence[Path] = ()) -> Dict[str, List[str]]:
    """Nothing of this user's own, of shared/ or of the state in .deploy may be read, and nothing there written."""
    hide = [str(layout.root), os.path.expanduser("~"), _home()]
    readable = [sys.prefix, sys.base_prefix, sys.base_exec_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    # A virtualenv's Python reads its pyvenv.cfg before all else; under -S no sys.prefix tells where that lies.
    beside = os.path.dirname(os.path.abspath(sys.executable))
    readable += [p for p in (beside, os.path.dirname(beside)) if os.path.exists(os.path.join(p, "pyvenv.cfg"))]
    readable += map(str, [layout.releases, layout.envs, *read])
    return {"hide": [path for path in hide if path != "/"], "read": readable, "write": list(map(str, write))}


def explain(finished: Finished) -> List[str]:
    """The lines of pip's output worth an operator's time: errors first, then the tail."""
    lines = finished.output.splitlines()
    errors = [line.strip() for line in lines if "ERROR" in line or "error:" in line or "No matching" in line]
    return errors[:10] + finished.tail(15)
