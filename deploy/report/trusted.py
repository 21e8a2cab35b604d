"""The answers of ``trust``, ``trust.add`` and ``hosts.scan`` as rows and lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.report.text import COMMAND_LIMIT, escape, lines

STAGE_COLUMNS = ("STAGE", "TAGS", "SIGNATURES", "SIGNERS", "REVOKED", "REPOSITORY")
SIGNER_COLUMNS = ("SIGNER", "KIND", "FINGERPRINT", "STATE", "VALIDITY", "STAGES")
TAG_COLUMNS = ("TAG", "COMMIT", "SIGNED BY", "TAKEN BY")
KEY_COLUMNS = ("HOST", "NAME", "TYPE", "FINGERPRINT", "STATE")
Row = tuple[str, ...]


def stage_rows(answer: Mapping[str, Any]) -> list[Row]:
    """One row per stage: what it asks of a tag."""
    return [
        (
            _text(stage["stage"]),
            _text(stage["tags"]),
            _text(stage["signatures"]) if stage["tags"] == "signed" else "",
            ", ".join(_text(path) for path in (stage["allowed_signers"], *stage["gpg_keys"]) if path),
            _text(stage["revoked_signers"] or ""),
            ", ".join(_text(one)[:12] for one in stage["repository_id"]),
        )
        for stage in answer["stages"]
    ]


def signer_rows(answer: Mapping[str, Any]) -> list[Row]:
    """One row per key that may sign."""
    return [
        (
            ", ".join(map(_text, one["names"])),
            *(_text(one[cell]) for cell in ("kind", "fingerprint", "state", "validity")),
            ", ".join(map(_text, one["stages"])),
        )
        for one in answer["signers"]
    ]


def tag_rows(answer: Mapping[str, Any]) -> list[Row]:
    """One row per tag: who signed it, as far as some stage asks, and which stages would take it."""
    return [
        (
            _text(tag["tag"]),
            _text(tag["commit"])[:12],
            ", ".join(_text(name) for one in tag["signers"] for name in one["names"][:1]),
            ", ".join(map(_text, tag["accepted"])) or "none",
        )
        for tag in answer["tags"]
    ]


def trust_remarks(answer: Mapping[str, Any]) -> list[str]:
    """Why tags would not be taken, files that cannot be read, and what may be set up next."""
    told = [f"problem: {line}" for problem in answer["problems"] for line in lines(problem)]
    for tag in answer["tags"]:
        reasons: dict[str, list[str]] = {}
        for stage, why in tag["refused"].items():
            reasons.setdefault(why, []).append(stage)
        told += [f"{_text(tag['tag'])}: not taken by {', '.join(of)}: {escape(why)}" for why, of in reasons.items()]
    if not any(stage["tags"] == "signed" for stage in answer["stages"]):
        told.append(
            "no stage asks for signed tags; start: fab trust.add --key ~/.ssh/id_ed25519.pub --name YOU@example.org"
        )
    if answer["roots"] and not any(stage["repository_id"] for stage in answer["stages"]):
        told.append(f"no stage names its repository; this one's, for fabric.yaml: repository_id: {answer['roots'][-1]}")
    return told


def added_lines(answer: Mapping[str, Any]) -> list[str]:
    """What was written and what remains to be done, as it is to be typed."""
    who = f"{', '.join(map(_text, answer['names']))} ({answer['kind']} {answer['fingerprint']})"
    told = [f"{who} {'was in' if answer['was_there'] else 'is now in'} {escape(answer['file'])}"]
    if answer["settings"]:
        told += ["to have it count, in fabric.yaml, under `deploy:` or under a stage:", ""]
        told += [*(f"  {escape(line)}" for line in answer["settings"]), ""]
    told += ["then:", "", *(f"  {escape(line, COMMAND_LIMIT)}" for line in answer["commands"])]
    return told


def key_rows(answer: Mapping[str, Any]) -> list[Row]:
    """One row per key that a host showed; one for a host that showed none."""
    rows: list[Row] = []
    for host in answer["hosts"]:
        if host["error"]:
            rows.append((_text(host["host"]), "", "", "", "unreachable"))
        for key in host["keys"]:
            state = "written" if answer["written"] and key["fingerprint"] in host["new"] else key["state"]
            rows.append((_text(host["host"]), _text(host["name"]), key["kind"], key["fingerprint"], state))
    return [*rows, *((_text(name), "", "", "", "a folder of this machine") for name in answer["local"])]


def key_remarks(answer: Mapping[str, Any]) -> list[str]:
    """What to compare and what to type, host by host where hosts need a person."""
    told: list[str] = []
    for host in answer["hosts"]:
        name = _text(host["host"])
        if host["error"]:
            told += [f"{name}: {line}" for line in lines(host["error"])]
            told += [f"{name}: next: {line}" for line in lines(host["next_step"], width=COMMAND_LIMIT)]
        states = {key["state"] for key in host["keys"]}
        if states & {"CHANGED", "REVOKED"}:
            told += _changed(host, name, answer["where"], revoked="REVOKED" in states)
    new = [key for host in answer["hosts"] for key in host["keys"] if key["fingerprint"] in host["new"]]
    if new and not answer["written"]:
        files = sorted({_file_on_host(key["kind"]) for key in new})
        told.append("compare with what the host itself says, on its console: ")
        told += [f"  ssh-keygen -lf {file}" for file in files]
        into = ", ".join(sorted({escape(host["file"]) for host in answer["hosts"] if host["new"]}))
        told.append(f"next: fab hosts.scan {answer['where']} --write  # adds the new ones to {into}")
    told += [f"written: {escape(file)}" for file in answer["written"]]
    return told


def _changed(host: Mapping[str, Any], name: str, where: str, *, revoked: bool) -> list[str]:
    if revoked:
        return [f"{name}: it shows a key that known_hosts has as @revoked: nothing is written; find out who that is"]
    known_in = escape(host["known_in"])
    return [
        f"{name}: it shows ANOTHER key than {known_in} has: somebody may be in between; find out why before all else",
        f"{name}: only then: ssh-keygen -R '{escape(host['name'])}' -f {known_in} && fab hosts.scan {where} --write",
    ]


def _file_on_host(kind: str) -> str:
    """Where sshd(8) keeps that key by default."""
    word = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(kind, "ecdsa")
    return f"/etc/ssh/ssh_host_{word}_key.pub"


def _text(value: object) -> str:
    return escape(str(value), 200)


def sections(answer: Mapping[str, Any]) -> Sequence[tuple[Sequence[str], list[Row]]]:
    """The tables of ``fab trust``, those with something in them."""
    tables = [
        (STAGE_COLUMNS, stage_rows(answer)),
        (SIGNER_COLUMNS, signer_rows(answer)),
        (TAG_COLUMNS, tag_rows(answer)),
    ]
    return [(columns, rows) for columns, rows in tables if rows]
