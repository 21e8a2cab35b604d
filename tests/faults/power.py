"""Cut the power at every change of a run: copy the disk below ROOT as it then is, unsynced, and look at the copy.

The disk is a file behind a loop device. The host program is stopped right after each call; what the kernel has not
written by then is not in the file, as it would not be on a disk without power. Mounting the copy replays the
filesystem's own journal, as the next boot does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from deploy.link.local import LocalPipe
from deploy.onhost import envs, journal, marker
from deploy.onhost.history import fold
from deploy.onhost.layout import Layout
from deploy.onhost.processes import children_of
from deploy.wire import names
from tests.faults import oracle, strace
from tests.faults.ground import HOST, Ground, Recorder, Scenario
from tests.faults.strace import Fault

STOPS = (
    "rename", "renameat2", "link", "symlink", "unlink", "mkdir", "rmdir", "fsync", "syncfs", "chmod", "fchmod",
    "pwrite64", "write",
)  # fmt: skip
"""Stopped after each of these; the many files that are only read are opened in between."""
_MOUNT = {"ext4": "loop,noatime,commit=600", "xfs": "loop,noatime,nouuid", "btrfs": "loop,noatime,commit=600"}
_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-M"],
}
_BYTES = {"ext4": 96 << 20, "xfs": 320 << 20, "btrfs": 192 << 20}
MENDED = 25
"""Every so many images the next deploy is run on the copy."""


class CannotMount(Exception):
    """Mounting needs a right, a tool and a filesystem that not every machine has."""


@dataclass
class Cuts:
    """What the images of one run showed."""

    images: int = 0
    torn: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    mended: int = 0
    seconds: float = 0.0


class Disk:
    """One filesystem in a file, below a ground's folder."""

    def __init__(self, kind: str, folder: Path) -> None:
        if os.geteuid() != 0:
            raise CannotMount("mounting needs root")
        if not shutil.which(_MAKE[kind][0]):
            raise CannotMount(f"{_MAKE[kind][0]} is not installed")
        self.kind, self.image, self.copy = kind, folder / "disk.img", folder / "cut.img"
        self.image.touch()
        os.truncate(self.image, _BYTES[kind])
        made = subprocess.run([*_MAKE[kind], str(self.image)], capture_output=True, text=True)
        if made.returncode:
            raise CannotMount(made.stderr.strip())

    @contextlib.contextmanager
    def mounted(self, image: Path, at: Path) -> Generator[None]:
        """Have an image's filesystem at a folder. Raises CannotMount."""
        words = ["mount", "-t", self.kind, "-o", _MOUNT[self.kind], str(image), str(at)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise CannotMount(done.stderr.strip())
        try:
            yield
        finally:
            subprocess.run(["umount", "-l" if image == self.image else "-n", str(at)], check=True)

    def cut(self) -> Path:
        """The disk as a power cut leaves it now."""
        subprocess.run(["cp", "--sparse=always", str(self.image), str(self.copy)], check=True)
        return self.copy


class PowerCuts:
    """Images of one scenario's run, each looked at while the host program waits."""

    def __init__(self, ground: Ground, disk: Disk, scenario: Scenario, *faults: Fault) -> None:
        self.ground, self.disk, self.scenario, self.faults = ground, disk, scenario, faults
        self.found = Cuts()
        self._there = ground.folder / "cut"
        self._there.mkdir(exist_ok=True)

    def run(self, most: int) -> Cuts:
        """Run the scenario on the disk and look at up to ``most`` images. Raises CannotMount."""
        ground, began = self.ground, time.monotonic()
        ground.state(self.scenario.state)
        ground.trace.unlink(missing_ok=True)
        with self.disk.mounted(self.disk.image, ground.work):
            subprocess.run(["cp", "-a", f"{ground.saved[self.scenario.state]}/.", str(ground.work)], check=True)
            with contextlib.suppress(OSError):
                (ground.work / "lost+found").rmdir()
            subprocess.run(["sync", "-f", str(ground.work)], check=True)
            done = threading.Event()
            ended = ground.run(self.scenario, lambda line: self._stopping(line, most, done))
            done.set()
            if ended.exit_code != 0:
                self.found.wrong.append(f"the run itself ended with {ended.exit_code}: {ended.problems}")
            self._look("after exit 0", told=True)
        self.found.seconds = time.monotonic() - began
        return self.found

    def _stopping(self, line: str, most: int, done: threading.Event) -> Recorder:
        others = [name for name in STOPS if name not in {fault.name for fault in self.faults}]
        stops = Fault(",".join(others), 1, "signal=STOP", ever=True)
        pipe = LocalPipe(strace.traced(line, self.ground.trace, *self.faults, stops, names=STOPS))
        watcher = threading.Thread(target=self._watch, args=(pipe._child.pid, most, done), daemon=True)
        watcher.start()
        return Recorder(pipe, self.ground.said)

    def _watch(self, tracer: int, most: int, done: threading.Event) -> None:
        """Each time the host program has stopped, look at an image and let it go on."""
        while not self.ground.trace.exists():
            time.sleep(0.001)
        with self.ground.trace.open(errors="replace") as trace:
            last, host = "", 0
            while not done.is_set():
                line = trace.readline()
                if "stopped by SIGSTOP" in line:
                    host = host or children_of(tracer)[0].pid
                    try:
                        if self.found.images < most:
                            self._look(f"after {last}", told=False)
                    except Exception as error:  # noqa: BLE001 - the host program must go on
                        self.found.wrong.append(f"{error!r} after {last}")
                    os.kill(host, signal.SIGCONT)
                elif line:
                    last = last if line.startswith("---") else line.strip()[:200]
                else:
                    time.sleep(0.001)

    def _look(self, where: str, *, told: bool) -> None:
        found = self.found
        found.images += 1
        image = self.disk.cut()
        with self.disk.mounted(image, self._there):
            layout = Layout(self._there / HOST)
            torn = list(_torn(layout))
            found.torn += [f"{line} {where}" for line in torn]
            found.wrong += [f"{line} {where}" for line in self._state_of(layout, told=told)]
        if found.images % MENDED == 0 and not torn:
            self._mend(image, where)

    def _state_of(self, layout: Layout, *, told: bool) -> list[str]:
        current = layout.link_target(layout.current)
        tag, found = current and names.tag_of(current), list[str]()
        good = (self.scenario.new,) if told else (self.scenario.old, self.scenario.new)
        if tag not in good:
            found.append(f"current names {current}")
        if current and not marker.is_complete(layout, current):
            found.append(f"{current} has no marker")
        if told and fold(journal.read(layout.journal)).open_switch is not None:
            found.append("what was confirmed is not in the journal")
        return found

    def _mend(self, image: Path, where: str) -> None:
        """The next deploy on the copy, at the path that the host's own disk has."""
        other = Ground(self.ground.folder / f"mend-{self.found.images}")
        other.saved = dict(self.ground.saved)
        with self.disk.mounted(image, other.work):
            tag = self.scenario.new or "v9"
            ended = other.run(Scenario("mend", "", "deploy", None, tag, tag, health=False))
            self.found.wrong += [f"{line} {where}" for line in oracle.recovered(other, tag, ended)]
        self.found.mended += 1


def _torn(layout: Layout) -> Generator[str]:
    """What is not as its marker says, of every release and environment that has one."""
    for release in layout.present():
        if marker.is_complete(layout, release):
            try:
                yield from (f"{release}: {line}" for line in marker.differences(layout, marker.read(layout, release)))
            except marker.NotARelease as error:
                yield str(error)
    for key in envs.known(layout):
        if not key.startswith("tools-"):
            yield from envs.differences(layout, key)
