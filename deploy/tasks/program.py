"""Teaches the running ``fab`` the colon form, stage words and fleet runs, from inside the fabfile; patches no class.

A fabfile is imported between the two parses of ``invoke.Program.run``: that Program is on the call stack, and its
documented steps ``parse_tasks`` and ``executor_class`` are set on that one object. ADR 5 says what was rejected.
Where no Program is running (pytest, Sphinx, a plain import) nothing happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from fabric import Executor  # pyright: ignore[reportMissingTypeStubs]
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext
from invoke.program import Program
from invoke.tasks import Task

from deploy.errors import ExitCode
from deploy.tasks.arguments import BadUsage, nearest, rewrite
from deploy.tasks.completion import complete
from deploy.tasks.executor import FleetExecutor, FleetTask, StageTask
from deploy.wire import names


def teach() -> bool:
    """Find the ``fab`` that is importing this fabfile and teach it. False where none is running."""
    program = _running()
    if program is None:
        return False
    if program.executor_class is Executor:
        program.executor_class = FleetExecutor
    parse = program.parse_tasks

    def parse_tasks() -> None:
        try:
            contexts = _contexts(program)
            if program.args.complete.value:
                complete(program, _ours(program))
                parse()
                return
            _check_help(program, contexts)
            program.core.unparsed = rewrite(
                program.core.unparsed, contexts, program.initial_context, ours=_ours(program)
            )
            parse()
            _check(program)
        except (BadUsage, ParseError) as error:
            raise Exit(str(error), int(ExitCode.REFUSED)) from None
        except ValueError as error:  # Invoke turns --wait soon into int("soon")
            raise Exit(f"an option got a value of the wrong kind: {error}", int(ExitCode.REFUSED)) from None

    program.parse_tasks = parse_tasks
    return True


# Much of Invoke is typed by a bare dict, so a Program is Any here; _running is where it is proven to be one.


def _running() -> Any:
    frame = inspect.currentframe()
    while frame is not None:
        program = frame.f_locals.get("self")
        if isinstance(program, Program) and hasattr(program, "core"):
            return program
        frame = frame.f_back
    return None


def _contexts(program: Any) -> dict[str, ParserContext]:
    contexts: dict[str, ParserContext] = {}
    for context in program.collection.to_contexts():
        for name in [context.name, *context.aliases]:
            contexts[name] = context
    return contexts


def _ours(program: Any) -> frozenset[str]:
    return frozenset(name for name in _contexts(program) if isinstance(_task(program, name), FleetTask))


def _task(program: Any, name: str | None) -> Task[Any]:
    return cast("Task[Any]", program.collection[name])


def _check_help(program: Any, contexts: Mapping[str, ParserContext]) -> None:
    """``fab --help rollback:v1.0`` is about ``rollback``."""
    asked = program.args.help
    if isinstance(asked.value, str):
        task = asked.value.partition(":")[0]
        if task not in contexts:
            raise BadUsage(f"no task {task!r}{nearest(task, contexts) or '; see fab --list'}")
        asked.set_value(task, cast=False)


def _check(program: Any) -> None:
    """Refuse, before any task runs, what would deploy somewhere or something that was not meant."""
    config = program.args.config.value
    if config and not Path(config).is_file():  # Fabric ignores a missing -f, and deploys with other settings than asked
        raise BadUsage(f"no such settings file: {config!a} (-f)")
    stage: str | None = None
    waiting = False
    for context in cast("list[ParserContext]", program.tasks):
        task = _task(program, context.name)
        if isinstance(task, StageTask):
            if waiting:
                raise BadUsage(f"stage {stage!r} is followed by stage {task.stage!r}; write the command between them")
            stage, waiting = task.stage, True
            continue
        waiting = False
        if not isinstance(task, FleetTask):
            continue
        given = context.as_kwargs
        tag, named = given.get("tag"), given.get("stage")
        if tag is not None and not names.is_tag(tag):
            raise BadUsage(f"not a deployable tag: {tag!a}; letters, digits and . _ + - only, 100 at most")
        if stage and named and named != stage:
            raise BadUsage(f"{context.name}: stage is both {stage!r} and {named!r}; name one")
        if program.args.dry.value and context.name != "deploy":
            raise BadUsage(f"--dry is for deploy; {context.name} has none, and `fab check` changes nothing")
    if waiting:
        raise BadUsage(f"stage {stage!r} has no command after it; write fab {stage} COMMAND")
