"""Running git: its environment, its exit codes, its object stream. Knows nothing of tags and closures."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from deploy.errors import Refused

NO_HOST = "No host was contacted; the service is unchanged."
_KEPT = ("HOME", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
"""The user's own configuration stays (safe.directory); GIT_DIR, object directories and the like do not."""
_FIXED = {
    "LC_ALL": "C",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    # Older git knows no GIT_NO_LAZY_FETCH; without a transport it cannot fetch a missing object either.
    "GIT_ALLOW_PROTOCOL": "none",
}


class GitFailed(Exception):
    """git ended with another status than 0; the message is its last line on stderr."""

    def __init__(self, args: tuple[str, ...], status: int, stderr: str) -> None:
        lines = stderr.strip().splitlines()
        super().__init__(lines[-1] if lines else f"git {args[0]} ended with status {status}")
        self.status = status


class Missing(Exception):
    """The repository lacks an object that something in it names."""


class Git:
    """git in one folder, with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> bytes:
        """Run git and give its standard output. Raises GitFailed, and Refused where git itself is missing."""
        command = ["git", "-c", "core.fsmonitor=false", *args]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**_environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            why = "git is not installed" if self.folder.is_dir() else f"{self.folder} is not a folder"
            raise Refused(NO_HOST, why, "install git, and run this in the project's folder") from error
        if done.returncode:
            raise GitFailed(args, done.returncode, done.stderr.decode("utf-8", "replace"))
        return done.stdout

    def text(self, *args: str) -> str:
        """Like ``run``, as text without the last newline; bytes that are not UTF-8 survive as surrogates."""
        return self.run(*args).decode("utf-8", "surrogateescape").removesuffix("\n")


class Objects:
    """Exact bytes of objects, from one ``git cat-file --batch`` process. Safe to use from several threads."""

    def __init__(self, git: Git) -> None:
        self._lock = threading.Lock()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            ["git", "cat-file", "--batch"],
            cwd=git.folder,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # Ctrl-C goes to the whole foreground group: the run must end by its own order, not by git's death.
            start_new_session=True,
        )

    def read(self, oid: str, limit: int | None = None) -> tuple[str, bytes]:
        """Give an object's type and content, proven by its id. Raises Missing, GitFailed; also over ``limit`` bytes."""
        with self._lock:
            kind, content = self._exchange(oid, limit)
        # git itself does not compare: a flipped bit in a loose object would pass.
        digest = hashlib.new("sha1" if len(oid) == 40 else "sha256", b"%s %d\0" % (kind.encode(), len(content)))
        digest.update(content)
        if digest.hexdigest() != oid:
            raise GitFailed(("cat-file",), 0, f"object {oid} is corrupt: its content has another id")
        return kind, content

    def _exchange(self, oid: str, limit: int | None) -> tuple[str, bytes]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("both pipes were asked for")
        try:
            stdin.write(oid.encode("ascii") + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        words = stdout.readline().split()
        if len(words) == 2 and words[1] == b"missing":
            raise Missing(oid)
        if len(words) != 3:
            raise self._death()
        size = int(words[2])
        if limit is not None and size > limit:
            self._process.kill()  # what it is about to say is not worth waiting for
            raise GitFailed(("cat-file",), 0, f"object {oid} has {size} bytes; {limit} are enough for any")
        content = stdout.read(size)
        if len(content) != size or stdout.read(1) != b"\n":
            raise self._death()
        return words[1].decode("ascii"), content

    def _death(self) -> GitFailed:
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode("utf-8", "replace")
        return GitFailed(("cat-file", "--batch"), self._process.returncode, said)

    def close(self) -> None:
        """End the process. Safe to call twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Objects:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _environment() -> dict[str, str]:
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_FIXED}
