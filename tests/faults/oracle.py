"""What must be true of a host after every fault, whatever it was: O1 to O7. Each function gives what is not."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator

from deploy.events import RunEnded
from deploy.onhost import journal, marker, recovery
from deploy.onhost.history import fold, rollback_candidates
from deploy.onhost.layout import Layout
from deploy.wire import framing, names
from tests.faults.ground import HOST, Ground, Scenario
from tests.faults.stubs import CANARY

_STATE = {"bin", "journal.jsonl", "links", "lock", "store", "tmp"}
_ROOT = {".deploy", "current", "previous", "releases", "shared"}


def after(ground: Ground, scenario: Scenario, gaps: list[str], ended: RunEnded | None) -> list[str]:
    """What is wrong right after the fault, with nothing cleaned up and nobody having recovered."""
    found = [f"O2 a reader saw neither release: {gap}" for gap in dict.fromkeys(gaps)]
    found += _whole(ground.layout, scenario) + _service(ground, scenario)
    found += _truthful(ground, scenario, ended) if ended else []
    found += _secrets(ground, ended) + _outside(ground)
    return found


def recovered(ground: Ground, tag: str, ended: RunEnded) -> list[str]:
    """What is wrong after the next deploy of ``tag``, for which nobody cleaned up."""
    if ended.exit_code != 0:
        return [f"O4 the next deploy of {tag} ended with {ended.exit_code}: {ended.verdict}: {ended.problems}"]
    layout = ground.layout
    current = layout.link_target(layout.current)
    found: list[str] = []
    if current is None or names.tag_of(current) != tag:
        found.append(f"O3 exit 0 of the next deploy, but live is {current}, not {tag}")
    runs = [word.lstrip("\0") for word in ground.fleet.runs(HOST)]  # a power cut may have emptied what was before it
    if runs[-1:] != [tag]:
        found.append(f"O3 exit 0 of the next deploy, but the service that runs is {runs[-1:]}")
    found += _way_back(layout, current) + _modes(ground)
    found += _differences(layout, current) + [f"O4 left behind: {what}" for what in garbage(layout)]
    return found + _secrets(ground, ended) + _outside(ground)


def _whole(layout: Layout, scenario: Scenario) -> list[str]:
    current = layout.link_target(layout.current)
    if current is None:
        if os.path.lexists(layout.current):
            return [f"O1 current is {layout.current.readlink()!r}"]
        return ["O1 current is gone"] if scenario.old else []
    if names.tag_of(current) not in (scenario.old, scenario.new):
        return [f"O1 current names {current}"]
    return _differences(layout, current)


def _differences(layout: Layout, current: names.ReleaseId | None) -> list[str]:
    if current is None:
        return []
    try:
        wrong = marker.differences(layout, marker.read(layout, current))
    except marker.NotARelease as error:
        wrong = [str(error)]
    return [f"O1 {current}: {line}" for line in wrong]


def _way_back(layout: Layout, current: names.ReleaseId | None) -> list[str]:
    """Whatever was live before can be gone back to, on a full disk as well: it is whole and has its spare link."""
    history = fold(journal.read(layout.journal))
    complete = [release for release in layout.present() if marker.is_complete(layout, release)]
    found: list[str] = []
    for release in rollback_candidates(history, current, complete):
        found += _differences(layout, release)
        spares = (layout.state / "links").glob("current.*")
        if release not in [layout.link_target(spare) for spare in spares]:
            found.append(f"O4 {release} was live and has no spare link: no way back to it on a full disk")
    target = next(iter(rollback_candidates(history, current, complete)), None)
    if layout.link_target(layout.previous) != target:
        found.append(f"O4 previous names {layout.link_target(layout.previous)}, a bare rollback goes to {target}")
    untold = [release for release in complete if not history.past(release).sealed]
    return found + [f"O4 the journal does not know how {release} was staged" for release in untold]


def _modes(ground: Ground) -> list[str]:
    """Who may do what is as the contract says, and what the app is given has the group of ROOT."""
    layout, group = ground.layout, ground.layout.root.stat().st_gid
    wanted = {layout.shared / "media": 0o2770, layout.releases: 0o755, layout.state: 0o711, layout.files: 0o700}
    wanted.update({layout.tmp: 0o711, layout.envs: 0o755, layout.wheels: 0o700})
    if not (layout.shared / ".env").exists():  # else shared/ was there before, and its mode is the operator's
        wanted[layout.shared] = 0o750
    found = [
        f"O4 {p} has mode {p.stat().st_mode & 0o7777:o}" for p, m in wanted.items() if p.stat().st_mode & 0o7777 != m
    ]
    given = [path for path in (layout.shared, layout.shared / "media") if path in wanted]
    return found + [f"O4 {path} is not of ROOT's group" for path in given if path.stat().st_gid != group]


def _service(ground: Ground, scenario: Scenario) -> list[str]:
    runs = ground.fleet.runs(HOST)[-1:]
    if scenario.old is None and not runs:
        return []
    return [] if runs in ([scenario.old], [scenario.new]) else [f"O2 the service runs {runs}"]


def _truthful(ground: Ground, scenario: Scenario, ended: RunEnded) -> list[str]:
    layout, code = ground.layout, ended.exit_code
    current = layout.link_target(layout.current)
    tag, runs = current and names.tag_of(current), ground.fleet.runs(HOST)[-1:]
    found: list[str] = []
    if code == 0 and scenario.verb in ("deploy", "rollback"):
        if tag != scenario.new or runs != [scenario.new]:
            found.append(f"O3 exit 0, but live is {tag} and the service runs {runs}")
        if fold(journal.read(layout.journal)).open_switch is not None:
            found.append("O3 exit 0, but nobody confirmed the switch")
    if code in (1, 3, 5) and scenario.verb != "recover" and tag != scenario.old:
        found.append(f"O3 exit {code} says that {scenario.old} is live, but {tag} is: {ended.verdict}")
    if code == 130 and "nothing was switched" in ended.verdict and tag != scenario.old:
        found.append(f"O3 nothing was switched, it says, but {tag} is live")
    if code in (2, 70):
        found.append(f"O6 exit {code}: {ended.verdict}: {ended.problems}")
    if code != 0:
        found += _tells(ended)
    return found


def _tells(ended: RunEnded) -> list[str]:
    """A failure names the host, the step, why, and what to do next."""
    found: list[str] = []
    parts = ended.problems[0].split(": ", 2) if ended.problems else []
    if ended.exit_code != 130 and (len(parts) != 3 or parts[0] != HOST or not all(parts)):
        found.append(f"O6 no host, step and cause in {ended.problems}")
    if not ended.next_step:
        found.append(f"O6 no next command: {ended.verdict}: {ended.problems}")
    if any("Traceback" in line for line in ended.problems):
        found.append(f"O6 a traceback: {ended.problems}")
    return found


def _secrets(ground: Ground, ended: RunEnded | None) -> list[str]:
    places = {
        "journal": ground.layout.journal.read_bytes() if ground.layout.journal.exists() else b"",
        "lock": ground.layout.lock.read_bytes() if ground.layout.lock.exists() else b"",
        "events": repr(ground.fleet.events).encode(),
        "closing block": repr(ended).encode(),
        "line": b"".join(_frames(b"".join(ground.said))),
    }
    return [f"O5 the secret is in the {name}" for name, data in places.items() if CANARY.encode() in data]


def _frames(said: bytes) -> Iterator[bytes]:
    for line in said.split(framing.MAGIC)[1:]:
        for frame in framing.Decoder().feed(line.partition(b"\n")[2]):
            if frame.kind != framing.BEAT:
                yield json.dumps(frame.json()).encode()


def _outside(ground: Ground) -> list[str]:
    """Beside ROOT lies what lay there before, and nobody's home was written to."""
    beside = sorted(path.name for path in ground.work.iterdir())
    found = [] if beside == sorted([HOST, "outside"]) else [f"O7 beside ROOT there is {beside}"]
    if (ground.work / "outside").read_text() != "not ours\n":
        found.append("O7 a file beside ROOT was changed")
    left = sorted(path.name for path in ground.home.iterdir())
    return found + ([f"O7 in HOME there is {left}"] if left else [])


def garbage(layout: Layout) -> Iterator[str]:
    """What a deploy that ended well must not leave behind."""
    yield from (str(path) for path in layout.root.iterdir() if path.name not in _ROOT)
    yield from (str(path) for path in layout.state.iterdir() if path.name not in _STATE)
    yield from map(str, layout.tmp.iterdir())
    yield from (str(path) for path in layout.programs.iterdir() if path.suffix != ".pyz")
    for path in layout.releases.iterdir():
        if not names.is_release_id(path.name) or not marker.is_complete(layout, names.parse_release_id(path.name)):
            yield str(path)
    for link in [layout.previous, *(layout.state / "links").glob("*")]:
        if os.path.lexists(link) and not (layout.releases / (layout.link_target(link) or "-")).is_dir():
            yield f"{link.name} names {link.readlink()}"
    for path in layout.files.glob("*/*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            yield str(path)
    for store, mark in ((layout.envs, "*.json"), (layout.wheels, "wheel.json")):
        yield from (f"{store.name}/{path.name}" for path in store.iterdir() if not list(path.glob(mark)))
    yield from _unsettled(layout)


def _unsettled(layout: Layout) -> Iterator[str]:
    with layout.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield "the lock is held"
        if json.loads(file.read() or b"{}"):
            yield "the lock still names its holder"
    records = journal.read(layout.journal)
    sequence = [record["seq"] for record in records]
    if sequence != sorted(set(sequence)):
        yield "the journal's sequence numbers are not strictly increasing"
    yield from (action.why for action in recovery.look(layout, fold(records)))
