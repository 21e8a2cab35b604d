"""Tasks that run once for a whole fleet, and the Fabric executor that hands them ``-H`` instead of looping over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from fabric import Connection
from invoke import Call, Context
from invoke.exceptions import AmbiguousEnvVar, Exit, UncastableEnvVar

from deploy.errors import ExitCode, Refused
from deploy.tasks.boundary import guarded

if TYPE_CHECKING:  # Fabric ships no types; its classes add nothing to Invoke's that a type checker should know of
    from invoke import Executor, Task
else:
    from fabric import Executor, Task


class FleetTask(Task[Any] if TYPE_CHECKING else Task):
    """A task of this library: one run for all hosts named, behind the error boundary.

    ``takes_hosts`` says that its ``hosts`` parameter is a comma-separated list that ``-H`` may fill.
    """

    def __init__(self, body: Callable[..., Any], *, takes_hosts: bool = False, **options: Any) -> None:
        # No short flags: -H, -t and the others stay Fabric's own wherever they stand on the line.
        super().__init__(body, auto_shortflags=False, **options)
        self.takes_hosts = takes_hosts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with guarded(self.name):
            if args and isinstance(args[0], Connection):
                raise Refused(
                    "nothing was contacted: a task of yours calls this one once per host",
                    f"{self.name} runs once for the whole fleet, and -H would repeat it",
                    f"call {self.name} from a task that is started without -H, and name hosts by hosts='a,b'",
                )
            return super().__call__(*args, **kwargs)


class StageTask(Task[Any] if TYPE_CHECKING else Task):
    """The word ``production`` in ``fab production deploy``: names the stage of the commands after it."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

        def choose(c: Context) -> None:
            c.config["sealed_deploy"]["stage"] = stage

        super().__init__(choose, name=stage, auto_shortflags=False)
        self.__doc__ = f"Stage {stage}, for the commands that follow on the line."


def fleet_task(**options: Any) -> Callable[[Callable[..., Any]], FleetTask]:
    """Declare a task of this library; options are FleetTask's."""
    return lambda body: FleetTask(body, **options)


class FleetExecutor(Executor):
    """Fabric's executor, except that a FleetTask gets the ``-H`` list whole. A user's own tasks keep Fabric's loop."""

    def execute(self, *tasks: Any) -> Any:
        """Run the tasks; a setting that an environment variable cannot override is a refusal, not a traceback."""
        try:
            return super().execute(*tasks)
        except (AmbiguousEnvVar, UncastableEnvVar) as error:
            raise Exit(f"settings and environment variables disagree: {error}", int(ExitCode.REFUSED)) from None

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> list[Call]:  # noqa: FBT001, FBT002 - Fabric's signature
        """Expand as Fabric does, then put each fleet call back together; pre- and post-tasks are narrowed too."""
        expanded = cast("list[Call]", cast(Any, super()).expand_calls(calls, apply_hosts))
        once = _without_repeats(expanded)
        hosts = self._hosts()
        for call in once:
            if hosts and isinstance(call.task, FleetTask) and call.task.takes_hosts:
                if call.kwargs.get("hosts") not in {None, hosts}:
                    raise Exit(f"{call.task.name}: hosts are named twice, by -H and by --hosts", int(ExitCode.REFUSED))
                call.kwargs["hosts"] = hosts
        return once

    def parameterize(self, call: Call, connection_init_kwargs: Any) -> Call:
        """One call per host for ordinary tasks; for a FleetTask the very same call each time."""
        if isinstance(call.task, FleetTask):
            return call
        return cast("Call", cast(Any, super()).parameterize(call, connection_init_kwargs))

    def _hosts(self) -> str | None:
        return cast(Any, self.core)[0].args.hosts.value or None


def _without_repeats(calls: Iterable[Call]) -> list[Call]:
    once: list[Call] = []
    for call in calls:
        if not (once and once[-1] is call):
            once.append(call)
    return once
