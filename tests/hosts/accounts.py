"""Who logs in on the tests' hosts and who runs the service there: created users, or whoever runs the tests."""

from __future__ import annotations

import contextlib
import grp
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import proc


@dataclass(frozen=True)
class Account:
    """One user of the machine, as password and group files name it."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def as_child(self) -> dict[str, Any]:
        """What ``subprocess`` takes to become this user; nothing where we are it already."""
        if os.geteuid() != 0 or self.uid == 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.name, self.gid)}


@dataclass(frozen=True)
class Accounts:
    """``deploy`` logs in and owns the roots; ``app`` runs the service. ``are_created``: two unprivileged users."""

    deploy: Account
    app: Account
    are_created: bool


_numbers = itertools.count()


@contextlib.contextmanager
def accounts(base: Path) -> Generator[Accounts]:
    """Give the two users, with homes below ``base``; created ones are removed with all their processes."""
    if os.geteuid() != 0 or not shutil.which("useradd"):
        me = pwd.getpwuid(os.geteuid())
        own = Account(me.pw_name, me.pw_uid, me.pw_gid, Path(me.pw_dir))
        yield Accounts(own, own, are_created=False)
        return
    mine = f"sdt{os.getpid()}x{next(_numbers)}"  # one process may hold several pairs at a time
    with created(f"{mine}a", base) as app, created(f"{mine}d", base, also=app) as deploy:
        yield Accounts(deploy, app, are_created=True)


@contextlib.contextmanager
def created(name: str, base: Path, *, shell: str = "/bin/sh", also: Account | None = None) -> Generator[Account]:
    """Create one unprivileged user who cannot log in by password; ``also`` is whose group it joins besides."""
    home = base / f"home-{name}"
    # `*`: no password fits, yet the account is not locked, which sshd would refuse.
    words = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", shell, "--password", "*"]
    if also:
        words += ["--groups", grp.getgrgid(also.gid).gr_name]
    _patiently(*words, "--user-group", name)
    entry = pwd.getpwnam(name)
    account = Account(name, entry.pw_uid, entry.pw_gid, home)
    home.mkdir(mode=0o755)
    os.chown(home, account.uid, account.gid)
    try:
        yield account
    finally:
        end_processes_of(account)
        _patiently("userdel", name)


def end_processes_of(account: Account) -> None:
    """End every process of a user that the tests created, by pid, until none is left."""
    for _ in range(100):
        running = [pid for pid in proc.pids() if proc.uid(pid) == account.uid]
        if not running:
            return
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _patiently(*words: str) -> None:
    """Run a program of shadow-utils; they all lock /etc/passwd and give up at once where somebody else has it."""
    for attempt in range(50):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr or attempt == 49:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        time.sleep(0.2)
