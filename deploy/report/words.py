"""Events as lines of plain text, the same on a screen, in a pipe and in a CI log. Pure; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.errors import DeployError, ExitCode
from deploy.events import (
    Event,
    FleetStep,
    HostBytes,
    HostCost,
    HostEnded,
    HostStep,
    Notice,
    Progress,
    RunEnded,
    RunStarted,
)
from deploy.report.text import COMMAND_LIMIT, LINE_LIMIT, duration, escape, hosts, lines, size

A_MOMENT_S = 1.0


def line_of_run(verb: str, tag: str | None, stage: str, names: Sequence[str]) -> str:
    """The line that opens and closes a run: what, and above all where."""
    what = f"{verb} {escape(tag)}" if tag else verb
    return f"{what} | stage {escape(stage)} | {hosts(names)}"


def describe(event: Event, *, verbose: bool = False) -> list[str]:
    """Say one event in lines that each begin with the host they are about (``fleet`` for all of it).

    Of steps that went well, those of a moment and the start of a host's own are told only where ``verbose``; the log
    has all of them. The closing block is ``closing``'s.
    """
    match event:
        case RunStarted():
            return [line_of_run(event.verb, event.tag or event.release, event.stage, event.hosts)]
        case Notice():
            return _tell(event.host or "note", "", event.text)
        case FleetStep():
            return _step("fleet", event, started=True, verbose=verbose)
        case HostStep():
            return _step(event.host, event, started=verbose, verbose=verbose)
        case HostBytes():
            whole = event.sent >= event.total > 0
            return [f"{escape(event.host)}: sent {size(event.total)}"] if whole else []
        case Progress():
            return [f"{escape(event.what)}: {far(event)}"] if event.is_whole or verbose else []
        case HostCost():
            return []  # for the log and for machines
        case HostEnded():
            return _tell(event.host, f"outcome {escape(event.outcome)}", event.detail)
        case RunEnded():
            return []


def closing(ended: RunEnded, names: Sequence[str], log: str | None = None) -> list[str]:
    """The last block of a run: verdict, why, every problem, next, undo, and where, with exit code and duration.

    Each host's outcome is an event of its own (HostEnded) and stands above.
    """
    told = [f"verdict: {escape(ended.verdict)}"]
    told += _lines("why", ended.why)
    told += [f"  - {line}" for problem in ended.problems for line in lines(problem)]
    told += _lines("next", ended.next_step)
    told += _lines("undo", ended.undo)
    if log and ended.exit_code:
        told.append(f"log: {log}")
    where = line_of_run(ended.verb, ended.tag or ended.release, ended.stage, names or [h.host for h in ended.hosts])
    told.append(f"{where} | {exit_word(ended.exit_code)} | {duration(ended.elapsed_s)}")
    return told


def failed_line(started: RunStarted, error: DeployError) -> str:
    """The last line of a run that ended by an error instead of a closing block."""
    where = line_of_run(started.verb, started.tag or started.release, started.stage, started.hosts)
    return f"{where} | {exit_word(error.exit_code)}"


def describe_error(error: DeployError) -> list[str]:
    """The three things every expected error says, with every problem found."""
    told = lines(error.what)
    told += _lines("why", error.why)
    told += [f"  - {line}" for problem in error.problems for line in lines(problem)]
    told += _lines("next", error.next_step)
    return told


def exit_word(code: int) -> str:
    """``OK``, or the name and number that a script sees."""
    if code == 0:
        return "OK"
    try:
        return f"{ExitCode(code).name} (exit {code})"
    except ValueError:
        return f"exit {code}"


def _step(who: str, event: FleetStep | HostStep, *, started: bool, verbose: bool) -> list[str]:
    if event.state == "started":
        return [f"{escape(who)}: {escape(event.step)}: started"] if started else []
    timed = event.elapsed_s > 0 or (isinstance(event, HostStep) and "elapsed_s" in event.data)
    if event.state == "done" and timed and event.elapsed_s < A_MOMENT_S and not verbose:
        return []
    took = f", {duration(event.elapsed_s)}" if event.elapsed_s else ""
    state = "FAILED" if event.state == "failed" else event.state
    return _tell(who, f"{escape(event.step)}: {state}{took}", event.detail)


def far(event: Progress) -> str:
    """``1.2 MB of 3.4 MB``, or ``3.4 MB`` where that is all."""
    return f"{size(event.done)} of {size(event.total)}" if event.done < event.total else size(event.done)


def _tell(who: str, what: str, detail: str) -> list[str]:
    prefix = f"{escape(who)}: "
    told = lines(detail)
    if len(told) > 1:
        return [prefix + (what or "says"), *(f"{prefix}| {line}" for line in told)]
    return [prefix + ": ".join(part for part in (what, *told) if part)] if what or told else []


def _lines(label: str, text: str) -> list[str]:
    told = lines(text, width=COMMAND_LIMIT if label == "next" else LINE_LIMIT)
    return [f"{label}: {told[0]}", *(f"{' ' * len(label)}  {line}" for line in told[1:])] if told else []
