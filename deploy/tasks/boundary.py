"""The one place where errors become exit codes: expected ones in three lines, a bug as a saved report."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from invoke.exceptions import Exit, Failure, ParseError

from deploy.errors import DeployError, ExitCode, Interrupted

_LINE_CHARS = 4000
_SECRETIVE = r"(?:pass(?:word|phrase|wd)?|secret|token|credential|api_?key|private_?key)"
_SECRET_TEXT = (
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), r"\1:[redacted]@"),
    (re.compile(rf"(?i)(\b\w*{_SECRETIVE}\w*['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;)}}]+)"), r"\1[redacted]"),
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"), "[redacted]"),
)


@contextmanager
def guarded(command: str) -> Generator[None, None, None]:
    """End the process as ``deploy.errors.ExitCode`` says when ``command`` fails inside this block.

    DeployError becomes its lines on stderr; Ctrl-C, SIGTERM and a lost terminal 130; anything else is a bug: its
    traceback is saved (mode 0600, secrets redacted, no environment) and the path printed, exit 70. Errors of Invoke's
    own (``Exit``, a failed ``c.run``) pass unchanged: they belong to the user's tasks.
    """
    from deploy import report

    try:
        with _signals_interrupt():
            yield
    except DeployError as error:
        report.show_error(error)
        raise Exit(code=int(error.exit_code)) from None
    except KeyboardInterrupt:
        report.show_error(
            Interrupted(
                f"{command} was interrupted before it could say what is in place",
                "Ctrl-C or a signal",
                "see what is live: fab status",
            )
        )
        raise Exit(code=int(ExitCode.INTERRUPTED)) from None
    except (Exit, Failure, ParseError):
        raise
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); no one is left to tell. 141 is what a shell shows for SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Exit(code=141) from None
    except Exception as error:  # noqa: BLE001 - the boundary: whatever is not expected is a bug, and is kept for its report
        report.show_bug(command, error, save(command, error))
        raise Exit(code=int(ExitCode.BUG)) from None


@contextmanager
def _signals_interrupt() -> Generator[None, None, None]:
    """Let SIGTERM (a cancelled CI job) and SIGHUP (a lost terminal) end a command as Ctrl-C does: hosts are let go.

    A signal that is ignored stays ignored (nohup), and so does whatever a user's fabfile installed.
    """
    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    try:
        for number in ours:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def save(command: str, error: BaseException) -> Path:
    """Write ``error``'s traceback, without environment and locals, to a new file of mode 0600; return its path."""
    from deploy import __version__, report
    from deploy.report.text import escape

    text = "".join(
        [
            f"sealed-deploy {__version__}, Python {sys.version.split()[0]}, command: {command}\n",
            *traceback.format_exception(type(error), error, error.__traceback__),
        ]
    )
    name = f"bug-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    folder = report.state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        descriptor, temporary = tempfile.mkstemp(prefix="sealed-deploy-", suffix=".txt")
        path = Path(temporary)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as out:
        # What a host said may stand in it, and a terminal is where it is read.
        out.writelines(f"{escape(line, _LINE_CHARS)}\n" for line in redact(text).split("\n"))
    return path


def redact(text: str) -> str:
    """Blank what looks like a secret: passwords in URLs, ``password=...`` and its kin, private keys, such variables.

    A second line of defence (a report may be mailed around); the first is that secrets never enter messages.
    """
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    for name, value in os.environ.items():
        if len(value) >= 6 and re.search(_SECRETIVE, name, re.IGNORECASE):
            text = text.replace(value, "[redacted]")
    return text
