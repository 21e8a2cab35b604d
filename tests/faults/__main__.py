"""Break the host program at every system call that changes something, and ask the oracle each time.

    python -m tests.faults deploy                              kill it before each call of a deploy, one run a call
    python -m tests.faults deploy --kind errno                 an error of each call instead, in turn of five
    python -m tests.faults deploy --points 40 --seed 7         a sample: one of each kind first
    python -m tests.faults rollback --call rename --when 1     one point again, as a violation prints it
    python -m tests.faults deploy --after rename:3             kill the recovery of a deploy that was killed there
    python -m tests.faults deploy --states 8                   the same of eight such places, chosen by the seed
    python -m tests.faults deploy --kind power --disk xfs      look at the disk as a power cut leaves it after each call
    python -m tests.faults deploy --kind control               kill the control side at each message, four signals
    python -m tests.faults real-pip --kind moments --points 8  kill it at such moments inside the real pip
    python -m tests.faults deploy --by hook                    strike by the preloaded hook, where ptrace(2) is refused
    python -m tests.faults --list                              the scenarios

Exit status 1 where the oracle found a violation, or a point that was asked for by name did not fire.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults import campaign, control, moments, power
from tests.faults.campaign import Campaign, Tally
from tests.faults.ground import SCENARIOS, Scenario
from tests.faults.strace import KILL, Fault

SHELF = "/mnt"
"""Covered by files in memory, in a namespace of mounts of our own."""
_APART = "SEALED_DEPLOY_FAULTS_APART"


def main() -> None:
    """Run what was asked for; the last line on stdout is the tally as JSON."""
    asked = _arguments()
    if asked.list:
        print("\n".join(SCENARIOS))
        return
    _apart()
    folder = Path(tempfile.mkdtemp(prefix="sealed-deploy-faults-", dir=os.environ.get(_APART) or None))
    try:
        tally = _run(asked, Campaign(folder, asked.seed, hooked=asked.by == "hook"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(tally.line())
    for quiet in tally.quiet:
        print("did not fire: " + quiet)
    print(json.dumps({**asdict(tally), "line": tally.line()}))
    sys.exit(1 if tally.violations or ((asked.call or asked.at) and tally.quiet) else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scenario", nargs="?", choices=sorted(SCENARIOS), default="deploy")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--kind", choices=("kill", "errno", "power", "control", "moments"), default="kill")
    parser.add_argument("--by", choices=("strace", "hook"), default="strace")
    parser.add_argument("--disk", choices=("ext4", "xfs", "btrfs"), default="ext4")
    parser.add_argument("--without-syncfs", action="store_true")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--after", default="")
    parser.add_argument("--states", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--call")
    parser.add_argument("--when", type=int, default=1)
    parser.add_argument("--at", type=float)
    parser.add_argument("--what", default=KILL)
    return parser.parse_args()


def _run(asked: argparse.Namespace, runs: Campaign) -> Tally:
    scenario = SCENARIOS[asked.scenario]
    family = f"{asked.kind} points{' by the hook' if asked.by == 'hook' else ''}, {asked.scenario}"
    if asked.kind == "power":
        return _power(asked, runs)
    if asked.kind == "control":
        return _control(asked, runs, scenario)
    if asked.kind == "moments":
        return _moments(asked, runs, scenario)
    starts = [scenario]
    if asked.after:
        name, _, when = asked.after.partition(":")
        starts = [runs.broken(scenario, Fault(name, int(when), KILL))]
    elif asked.states:
        family = f"{asked.kind} points, recovery from {asked.scenario}"
        first = campaign.chosen(runs.calls(scenario), asked.states, asked.seed)
        starts = [runs.broken(scenario, fault) for fault in campaign.kills(first)]
    if asked.call:
        return runs.all(family, starts[0], [Fault(asked.call, asked.when, asked.what)])
    tally = Tally(family)
    for start in starts:
        calls = runs.calls(start) if asked.kind == "kill" else campaign.on_disk(runs.calls(start))
        calls = campaign.chosen(calls, asked.points, asked.seed)
        faults = campaign.kills(calls) if asked.kind == "kill" else campaign.errors(calls, asked.seed)
        tally.add(runs.all(family, start, faults))
    return tally


def _power(asked: argparse.Namespace, runs: Campaign) -> Tally:
    tally = Tally(f"power cuts, {asked.scenario} on {asked.disk}")
    if asked.without_syncfs:
        tally.family += " without syncfs (which must be found)"
    lies = [Fault("syncfs", 1, "retval=0:signal=STOP", ever=True)] if asked.without_syncfs else []
    try:
        disk = power.Disk(asked.disk, runs.ground.folder)
        cuts = power.PowerCuts(runs.ground, disk, SCENARIOS[asked.scenario], *lies).run(asked.points)
    except power.CannotMount as error:
        tally.quiet.append(f"cannot mount: {error}")
        return tally
    tally.fired, tally.seconds, tally.torn = cuts.images, cuts.seconds, len(cuts.torn)
    tally.violations = cuts.torn + cuts.wrong
    return tally


def _control(asked: argparse.Namespace, runs: Campaign, scenario: Scenario) -> Tally:
    """Each signal at each message, or a seeded sample of them; ``--what SIGNAL --when N`` for one."""
    tally, began = Tally(f"kills of the control process, {asked.scenario}"), time.monotonic()
    if asked.what != KILL:
        points = [(asked.what, asked.when)]
    else:
        last = control.messages(runs, scenario)
        points = [(name, when) for when in range(1, last + 1) for name in control.SIGNALS]
        points = sorted(random.Random(asked.seed).sample(points, min(asked.points, len(points))))
    for name, when in points:
        replay = f".venv-test/bin/python -m tests.faults {scenario.name} --kind control --what {name} --when {when}"
        tally.count(replay, *control.fire(runs, scenario, name, when))
    tally.seconds = time.monotonic() - began
    return tally


def _moments(asked: argparse.Namespace, runs: Campaign, scenario: Scenario) -> Tally:
    """Kills of the host program at seeded moments while the toolchain is at work; ``--at SECONDS`` for one."""
    tally, began = Tally(f"kills inside {scenario.name}"), time.monotonic()
    if asked.at is not None:
        points = [asked.at]
    else:
        length, dice = moments.length_s(runs, scenario), random.Random(asked.seed)
        points = sorted(dice.uniform(0, length) for _ in range(asked.points))
    for at in points:
        replay = f".venv-test/bin/python -m tests.faults {scenario.name} --kind moments --at {at:.3f}"
        tally.count(replay, *moments.fire(runs, scenario, at))
    tally.seconds = time.monotonic() - began
    return tally


def _apart() -> None:
    """Go on in namespaces of processes and mounts of our own, where that is allowed.

    What scans /proc then makes the same calls in every run, and files lie in memory: fsync costs nothing.
    """
    if _APART in os.environ:
        return
    words = [sys.executable, "-m", "tests.faults", *sys.argv[1:]]
    inside = f'mount -t tmpfs -o mode=0755 none {SHELF} && exec "$@"'
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside, "sh"]
    works = subprocess.run([*apart, "true"], capture_output=True).returncode == 0
    os.environ[_APART] = SHELF if works else ""
    os.execvp(*((apart[0], [*apart, *words]) if works else (words[0], words)))


main()
