"""Tasks that run once for a whole fleet, and the Fabric executor that hands them ``-H`` instead of looping over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fabric import Connection  # pyright: ignore[reportMissingTypeStubs]
from invoke.config import DataProxy
from invoke.context import Context
from invoke.exceptions import AmbiguousEnvVar, Exit, UncastableEnvVar

from deploy.errors import ExitCode, Refused
from deploy.tasks.boundary import guarded

if TYPE_CHECKING:
    # Fabric ships no types and Invoke's are half known; these are the parts of both that this module relies on.
    class Executor:
        core: Any
        config: Any

        def execute(self, *tasks: Any) -> Any: ...
        def expand_calls(self, calls: Any, apply_hosts: bool) -> list[Any]: ...  # noqa: FBT001
        def parameterize(self, call: Any, connection_init_kwargs: Any) -> Any: ...

    class Task:
        name: str

        def __init__(self, body: Callable[..., Any], **options: Any) -> None: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
else:
    from fabric import Executor, Task


class FleetTask(Task):
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


class StageTask(Task):
    """The word ``production`` in ``fab production deploy``: names the stage of the commands after it."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

        def choose(c: Context) -> None:
            """A stage of fabric.yaml, for the commands that follow on the line."""
            c.config["sealed_deploy"]["stage"] = stage

        super().__init__(choose, name=stage, auto_shortflags=False)


def fleet_task(**options: Any) -> Callable[[Callable[..., Any]], FleetTask]:
    """Declare a task of this library; options are FleetTask's."""
    return lambda body: FleetTask(body, **options)


class FleetExecutor(Executor):
    """Fabric's executor, except that a FleetTask gets the ``-H`` list whole. A user's own tasks keep Fabric's loop."""

    def execute(self, *tasks: Any) -> Any:
        """Run the tasks; a setting that an environment variable cannot override is a refusal, not a traceback."""
        if "deploy" in self.config:
            _name_keys(self.config["deploy"])
        try:
            return super().execute(*tasks)
        except (AmbiguousEnvVar, UncastableEnvVar) as error:
            raise Exit(f"settings and environment variables disagree: {error}", int(ExitCode.REFUSED)) from None

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - Fabric's signature
        """Expand as Fabric does, then put each fleet call back together; pre- and post-tasks are narrowed too."""
        expanded = super().expand_calls(calls, apply_hosts)
        once = _without_repeats(expanded)
        hosts = self._hosts()
        for call in once:
            if hosts and isinstance(call.task, FleetTask) and call.task.takes_hosts:
                if call.kwargs.get("hosts") not in {None, hosts}:
                    raise Exit(f"{call.task.name}: hosts are named twice, by -H and by --hosts", int(ExitCode.REFUSED))
                call.kwargs["hosts"] = hosts
        return once

    def parameterize(self, call: Any, connection_init_kwargs: Any) -> Any:
        """One call per host for ordinary tasks; for a fleet task or a stage word the very same call each time."""
        if isinstance(call.task, FleetTask | StageTask):
            return call
        return super().parameterize(call, connection_init_kwargs)

    def _hosts(self) -> str | None:
        return self.core[0].args.hosts.value or None


def _without_repeats(calls: Iterable[Any]) -> list[Any]:
    once: list[Any] = []
    for call in calls:
        if not (once and once[-1] is call):
            once.append(call)
    return once


def _name_keys(settings: Any) -> None:
    """Give names to YAML keys that are none: ``on:`` is read as true, ``1:`` as a number, and Fabric dies of both."""
    if not isinstance(settings, DataProxy):
        return
    proxy: Any = settings
    for key in list(proxy):
        if not isinstance(key, str):
            proxy[_word(key)] = proxy[key]
            del proxy[key]
    for key in proxy:
        _name_keys(proxy[key])


def _word(key: object) -> str:
    """What a person wrote, as far as YAML 1.1 lets one tell."""
    return {True: "on", False: "off"}[key] if isinstance(key, bool) else str(key)
