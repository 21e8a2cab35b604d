"""Builds the task collection of a user's fabfile: ``from deploy.tasks import namespace; ns = namespace()``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import Task

from deploy.errors import DeployError
from deploy.tasks import commands, hosts, sandbox, supply, trust, upkeep, vendor
from deploy.tasks.executor import StageTask
from deploy.tasks.program import teach
from deploy.tasks.stages import stage_names


def namespace(*own: Task[Any] | Collection) -> Collection:
    """Collect this library's tasks, one word per stage of fabric.yaml, and ``own``, the project's own tasks.

    Call it at the top level of the fabfile: the folder of the calling file is the project. A project's own task
    replaces one of ours of the same name. Also teaches the running ``fab`` the colon form (``deploy.tasks.program``).
    Ends ``fab`` with exit 2 where fabric.yaml cannot be parsed.
    """
    frame = inspect.currentframe()
    fabfile = frame.f_back.f_globals.get("__file__") if frame and frame.f_back else None
    project = _project(fabfile)
    taught = teach()
    collection: Any = Collection(
        *(task for module in (commands, upkeep) for task in vars(module).values() if isinstance(task, Task)),
        Collection.from_module(sandbox, "sandbox"),
        Collection.from_module(trust, "trust"),
        Collection.from_module(hosts, "hosts"),
        _vendor(),
    )
    for item in own:
        if isinstance(item, Task):
            collection.add_task(item)
        else:
            collection.add_collection(item)
    try:
        stages = stage_names(project)
    except DeployError as error:
        if not taught:
            raise
        raise Exit(str(error), int(error.exit_code)) from None
    for stage in stages:
        if stage not in {*collection.tasks, *collection.collections}:
            collection.add_task(StageTask(stage))
    collection.configure({"sealed_deploy": {"project": str(project), "stage": None}})
    return collection


def _vendor() -> Collection:
    """Collect ``vendor.*``, whose tasks lie in two modules."""
    collection: Any = Collection.from_module(vendor, "vendor")
    for task in vars(supply).values():
        if isinstance(task, Task):
            collection.add_task(task)
    return collection


def _project(fabfile: str | None) -> Path:
    if fabfile is None:
        return Path.cwd()
    path = Path(fabfile).absolute()
    return path.parent.parent if path.name == "__init__.py" else path.parent
