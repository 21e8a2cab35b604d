"""Count what deploys cost: connections, execs, round trips, bytes, pip runs, control CPU per host. Loopback, real SSH.

    .venv/bin/python benchmarks/cost.py [--hosts N]

Makes a scratch project from demo/, brings N sandbox hosts up and runs four commands with the stock code path. Counts do
not depend on the machine; seconds do, and are shown only for orientation. Round trips are requests of our own protocol
with their answers; connecting adds 8 to 9 on the wire and the exec 2, whatever the command.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deploy import closure, pipeline, sandbox
from deploy.closure import lockfile
from deploy.events import Emit, Event, HostCost, RunEnded

DEMO = Path(__file__).resolve().parent.parent / "demo"
CHANGED = "whitenoise"
Command = Callable[[pipeline.Request, Emit], RunEnded]


def main() -> int:
    """Run the four commands and print one row each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1)
    hosts: int = parser.parse_args().hosts
    folder = Path(tempfile.mkdtemp(prefix="cost-"))
    project = folder / "project"
    shutil.copytree(DEMO, project, ignore=shutil.ignore_patterns("__pycache__", ".sandbox"))
    settings: dict[str, Any] = yaml.safe_load((project / "fabric.yaml").read_text(encoding="utf-8"))["deploy"]
    settings["python"] = "{}.{}".format(*sys.version_info[:2])
    (project / "fabric.yaml").write_text(yaml.safe_dump({"deploy": settings}), encoding="utf-8")
    git(project, "init", "-q")
    tag(project, "v1.0")
    sandbox.up(project, hosts=hosts, service=settings["service"])
    try:
        columns = ("command", "connections", "execs", "round trips", "MB sent", "MB received", "pip runs", "CPU s", "s")
        print(f"| {' | '.join(columns)} |")
        print("|---" * len(columns) + "|")
        row("first deploy", project, settings, deploy("v1.0"))
        with (project / "guestbook" / "wsgi.py").open("a", encoding="utf-8") as file:
            file.write("# one line of code\n")
        tag(project, "v1.1")
        row("code only", project, settings, deploy("v1.1"))
        change_one_dependency(project)
        tag(project, "v1.2")
        row("one dependency changed", project, settings, deploy("v1.2"))
        row("rollback", project, settings, rollback("v1.1"))
    finally:
        sandbox.down(project)
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def deploy(tag_name: str) -> Command:
    """The deploy of one tag."""
    return lambda request, emit: pipeline.deploy(request, tag_name, emit)


def rollback(tag_name: str) -> Command:
    """The rollback to one tag."""
    return lambda request, emit: pipeline.rollback(request, tag_name, emit)


def row(name: str, project: Path, settings: dict[str, Any], command: Command) -> None:
    """Run one command and print its costs per host, from the first host's counters."""
    events: list[Event] = []
    request = pipeline.Request(project, settings, "sandbox", None, "benchmark")
    before = pip_runs(project)
    cpu, wall = time.process_time(), time.monotonic()
    ended = command(request, events.append)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    if ended.exit_code != 0:
        raise SystemExit(f"{name}: {ended.verdict}: {ended.problems}")
    costs = [event for event in events if isinstance(event, HostCost)]
    cost, pips = costs[0], pip_runs(project) - before
    sent, received = cost.bytes_sent / 1e6, cost.bytes_received / 1e6
    print(
        f"| {name} | {cost.connections} | {cost.execs} | {cost.round_trips} | {sent:.3f} | {received:.3f} "
        f"| {pips} | {cpu / len(costs):.2f} | {wall:.1f} |",
        flush=True,
    )


def pip_runs(project: Path) -> int:
    """How many times the first host has run pip, by the children in its journal."""
    hosts = (Path(host["root"]) for host in sandbox.status(project))
    journal = next(hosts) / ".deploy" / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    records = [json.loads(line) for line in lines]
    labels = [record["label"] for record in records if record["what"] == "child"]
    return sum(label.startswith(("pip ", "build ", "canary: package")) for label in labels)


def change_one_dependency(project: Path) -> None:
    """Give one source archive other bytes, and the lock its new digest and size: a new release of that package."""
    path = next((project / "vendor").glob(f"{CHANGED}-*.tar.gz"))
    with gzip.open(path) as packed:
        data = packed.read()
    # Another compression level: other bytes, the same package.
    path.write_bytes(gzip.compress(data, 1, mtime=0))
    lock = closure.read(closure.WorkTree(project), "app")
    digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
    archive = replace(lock.archives[path.name], sha256=digest, size=size)
    lock = replace(lock, archives={**lock.archives, path.name: archive})
    (project / "requirements/app.txt").write_text(lockfile.write_pins(lock), encoding="utf-8")
    (project / "requirements/pylock.app.toml").write_text(lockfile.write_lock(lock), encoding="utf-8")


def tag(project: Path, name: str) -> None:
    """Commit all and tag it."""
    git(project, "add", "-A")
    git(project, "commit", "-qm", name)
    git(project, "tag", "-a", name, "-m", name)


def git(project: Path, *words: str) -> None:
    """Run git in the scratch project as nobody in particular."""
    who = {f"GIT_{w}_{k}": v for w in ("AUTHOR", "COMMITTER") for k, v in (("NAME", "B"), ("EMAIL", "b@localhost"))}
    subprocess.run(["git", *words], cwd=project, env={**os.environ, **who}, check=True)


if __name__ == "__main__":
    sys.exit(main())
