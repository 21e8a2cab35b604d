"""Answers and errors on the screen: tables of ``status`` and ``releases``, an error's lines, where a bug was saved."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.errors import DeployError
from deploy.report import closures, tables, timeline, trusted, words
from deploy.report.sinks import is_terminal
from deploy.report.text import escape
from deploy.report.text import hosts as hosts_in_words

if TYPE_CHECKING:
    from deploy.closure import Audit, Licence, Standing


def show_status(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print what is live on each host."""
    _show("status", answer, tables.STATUS_COLUMNS, tables.status_rows(answer), json=json)


def show_releases(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print the releases on each host, newest first."""
    _show("releases", answer, tables.RELEASES_COLUMNS, tables.releases_rows(answer), json=json)


def show_log(answer: Mapping[str, Any], *, number: int, json: bool) -> None:
    """Print what happened on the hosts, oldest first."""
    _show("log", answer, timeline.COLUMNS, timeline.rows(answer, number), json=json)


def show_licences(found: Sequence[Licence], of: str, *, json: bool) -> None:
    """Print the licence of each package; ``of`` says which closure."""
    if json:
        _document({"of": of, "packages": [asdict(one) for one in found]})
        return
    print(f"licences of {of}")
    _table(closures.LICENCE_COLUMNS, closures.licence_rows(found), closures.licence_remarks(found))


def show_outdated(found: Sequence[Standing], of: str, *, json: bool) -> None:
    """Print which packages have newer versions."""
    if json:
        _document({"of": of, "packages": [asdict(one) for one in found]})
        return
    print(f"newer versions of what {of} locks")
    _table(closures.OUTDATED_COLUMNS, closures.outdated_rows(found), closures.outdated_remarks(found))


def show_audit(audit: Audit, of: str, requirements: str, exit_code: int, *, json: bool) -> None:
    """Print which advisories speak of a closure."""
    if json:
        _document({"of": of, "exit_code": exit_code, **asdict(audit)})
        return
    print(f"audit of {of} | {escape(audit.asked)} | {words.exit_word(exit_code)}")
    print("\n".join(closures.audit_lines(audit, requirements)))


def show_text(text: str) -> None:
    """Print a text that is itself the answer, as it is."""
    print(text, end="")


def show_sandbox(hosts: Sequence[Mapping[str, Any]]) -> None:
    """Print the sandbox hosts, one a line, or that there is none."""
    if hosts:
        print("\n".join(tables.aligned(tables.SANDBOX_COLUMNS, tables.sandbox_rows(hosts))))
    else:
        print("no sandbox host; start three: fab sandbox.up")


def show_stopped(hosts: Sequence[Mapping[str, Any]]) -> None:
    """Print which sandbox hosts were stopped."""
    print(f"stopped {hosts_in_words([str(host.get('name')) for host in hosts])}")


def show_trust(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print who may sign, and whose tags would be taken."""
    if json:
        _document(answer)
        return
    for columns, rows in trusted.sections(answer):
        _table(columns, rows, [""])
    for line in trusted.trust_remarks(answer):
        print(line)


def show_signer(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print which signer was added, and what remains to be done."""
    if json:
        _document(answer)
        return
    print("\n".join(trusted.added_lines(answer)))


def show_host_keys(answer: Mapping[str, Any], *, json: bool) -> None:
    """Print the keys that hosts showed."""
    if json:
        _document(answer)
        return
    names = [str(host["host"]) for host in answer["hosts"]] + list(answer["local"])
    where = words.line_of_run("hosts.scan", None, str(answer["stage"]), names)
    print(f"{where} | {words.exit_word(int(answer['exit_code']))}")
    _table(trusted.KEY_COLUMNS, trusted.key_rows(answer), trusted.key_remarks(answer))


def show_error(error: DeployError) -> None:
    """Print an expected error on stderr: what is true now, why, every problem, the next command."""
    _complain("\n".join(words.describe_error(error)))


def show_bug(command: str, error: BaseException, saved: Path) -> None:
    """Print where a bug's traceback was saved and how to report it."""
    _complain(
        f"{command}: a bug in sealed-deploy ({type(error).__name__}); what is live is not known from here: fab status\n"
        f"the traceback was saved: {saved}\n"
        "to report it, send that file (secrets are redacted; look before you send) and the command you ran"
    )


def _complain(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)  # Python opens stderr with backslashreplace


def _show(
    verb: str, answer: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]], *, json: bool
) -> None:
    if json:
        _document(answer)
        return
    where = words.line_of_run(verb, None, str(answer.get("stage")), tables.host_names(answer))
    print(f"{where} | {words.exit_word(int(answer['exit_code']))}")
    for line in tables.freezes(answer):
        print(line)
    _table(columns, rows, tables.remarks(answer))


def _document(answer: Mapping[str, Any]) -> None:
    print(json_format.dumps(answer, indent=2, sort_keys=True))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], remarks: Sequence[str]) -> None:
    if is_terminal(sys.stdout):
        from deploy.report.drawn import draw

        draw(columns, rows)
    else:
        print("\n".join(tables.aligned(columns, rows)))
    for line in remarks:
        print(line)
