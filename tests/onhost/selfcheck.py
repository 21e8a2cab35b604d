# Run by test_pythons.py as `PYTHON -I -S selfcheck.py ZIP FOLDER` on every Python here: standard library only, 3.8 on.
# The host program from its zip, on a real ROOT: files, journal, lock, switch, store, sealed children, the conversation.
"""The host program's own check, on whatever Python runs it: says one word for each part that holds."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM, FOLDER = sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, PROGRAM)

from deploy.onhost import (  # noqa: E402
    envs,
    history,
    inventory,
    journal,
    landlock,
    recovery,
    seal,
    store,
    switch,
    toolchain,
    wheels,
)
from deploy.onhost.children import Children, Command, become_subreaper, environment  # noqa: E402
from deploy.onhost.layout import Layout, remove_tree  # noqa: E402
from deploy.onhost.lock import Busy, Lock, holder_of  # noqa: E402
from deploy.wire import framing, manifest, states  # noqa: E402
from deploy.wire.names import parse_release_id, sha256  # noqa: E402

DATA = b"content" * 999
DIGEST = sha256(hashlib.sha256(DATA).hexdigest())
ONE, TWO = parse_release_id("v1-01234567"), parse_release_id("v2-89abcdef")
layout = Layout(FOLDER)


def check_files():
    """Layout, store, inventory."""
    layout.make()
    assert layout.problems() == []
    kept = store.Store(layout)
    kept.receive(DIGEST, iter([DATA[:9], DATA[9:]]))
    kept.copy_to(DIGEST, FOLDER / "copy", 0o644)
    assert (FOLDER / "copy").read_bytes() == DATA
    try:
        kept.receive(sha256("0" * 64), iter([DATA]))
    except store.WrongContent:
        pass
    else:
        raise AssertionError("wrong content was taken")
    tree = FOLDER / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("x")
    listed = inventory.take(tree)
    inventory.take_write_bits(tree)
    assert inventory.differences(tree, listed) == []
    remove_tree(tree)


def check_lock_and_journal():
    """One holder at a time; what was written is read back."""
    lock = Lock(layout.lock)
    lock.take({"by": "selfcheck"})
    try:
        Lock(layout.lock).take({})
    except Busy:
        pass
    else:
        raise AssertionError("two hold the lock")
    holder = holder_of(layout.lock)
    assert (holder or {})["by"] == "selfcheck", holder
    book = journal.Journal(layout.journal, "run")
    book.append("switch", to=ONE, verb="deploy", **{"from": None})
    book.append("switched", to=ONE)
    book.append("confirmed", release=ONE, verb="deploy", proof="")
    past = history.fold(journal.read(layout.journal))
    assert past.was_live(ONE)
    assert recovery.plan(past, ONE, []) == []
    lock.release()


def check_switch():
    """By rename and by exchange."""
    (layout.releases / ONE).mkdir()
    (layout.releases / TWO).mkdir()
    switch.leave_spare(layout, ONE)
    for release in (ONE, TWO, ONE):
        switch.point(layout, layout.current, release)
        assert layout.link_target(layout.current) == release
    switch._exchange(layout, layout.previous, ONE)
    assert layout.link_target(layout.previous) == ONE


def check_children():
    """Sealed and not, each in its own process started from the zip."""
    become_subreaper()
    fd = os.memfd_create("onhost", 0)
    os.write(fd, Path(PROGRAM).read_bytes())
    children = Children(fd, lambda: None, journal.Journal(layout.journal, "run"))

    def run(code, sealed, confine=None):
        argv = [sys.executable, "-I", "-S", "-c", code]
        return children.run(
            Command(argv, "/", environment(A="b"), 60, "build", "check", sealed=sealed, confine=confine)
        )

    probe = "import socket\ntry:\n    socket.socket()\n    print('open')\nexcept OSError as e:\n    print(e.errno)\n"
    assert run(probe, False).output == "open\n"
    finished = run(probe, True)
    assert finished.output == "101\n", finished
    assert run("raise SystemExit(3)", True).code == 3
    inner = "import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-S', '-c', %r])" % probe
    (attempt,) = run(inner, True).attempts
    assert attempt.endswith("print(e.errno)"), attempt
    folders = [sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent)]
    look = "try:\n    print(open(%r).read(1))\nexcept OSError as e:\n    print(e.errno)\n" % str(layout.journal)
    confined = run(look, True, {"hide": [str(layout.root)], "read": folders, "write": []})
    assert confined.output == ("13\n" if landlock.abi() >= 2 else "{\n"), confined
    seal.prctl(seal.PR_SET_CHILD_SUBREAPER, 0)


def check_keys():
    """What an environment depends on can be told on this Python."""
    target = manifest.Target("%d.%d" % sys.version_info[:2], "any", {}, (), ())
    assert len(envs.env_key(target)) == 64
    assert toolchain.key(target).startswith("tools-")
    assert wheels.interpreter()["executable"]
    assert states.after(states.State.STAGED, states.Move.SWITCHED_TO) is states.State.ACTIVE


class Talk:
    """The control side of one conversation, over the pipes of a host program that the loader starts."""

    def __init__(self, loader):
        digest = hashlib.sha256(Path(PROGRAM).read_bytes()).hexdigest()
        argv = [sys.executable, "-I", "-S", "-c", loader, digest, str(FOLDER)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.input, self.output, self.errors = self.process.stdin, self.process.stdout, self.process.stderr
        self.decoder, self.frames = framing.Decoder(), []
        self.send(framing.greeting("0" * 32))

    def send(self, data):
        self.input.write(data)
        self.input.flush()

    def greeted(self):
        return self.output.readline()

    def ask(self, op, **fields):
        self.send(framing.pack_json(dict(fields, t="request", op=op)))
        while True:
            while self.frames:
                frame = self.frames.pop(0)
                value = frame.json() if frame.kind != framing.BEAT else {}
                if value.get("t") == "answer":
                    assert value["op"] == op, value
                    return value
            data = os.read(self.output.fileno(), 65536)
            assert data, self.errors.read().decode()
            self.frames += list(self.decoder.feed(data))

    def end(self):
        self.input.close()
        assert self.process.wait(60) == 0, self.errors.read().decode()
        self.output.close()
        self.errors.close()


def check_conversation():
    """Twice: the program is sent, then it is there."""
    loader = sys.argv[3]
    program = Path(PROGRAM).read_bytes()
    for word in (b"need", b"have"):
        talk = Talk(loader)
        said = talk.greeted()
        assert said.split()[-1] == word, said
        if word == b"need":
            talk.send(b"%d\n" % len(program) + program)
        context = {"stage": "test", "host": "h", "groups": [], "verb": "status"}
        policy = {"allow_root": True, "build_user": None, "accept_seal": "kernel", "step_s": 60.0}
        facts = talk.ask("hello", run="r", operator="o", context=context, policy=policy)["facts"]
        assert facts["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
        assert facts["current"] == ONE
        assert talk.ask("prune", keep=5)["error"]["kind"] == "refused"
        assert talk.ask("lock", holder={"by": "o", "run": "r"})["ok"]
        (problem,) = talk.ask("ready", release=ONE)["problems"]
        assert problem["mends"], problem
        assert talk.ask("nonsense")["error"]["kind"] == "refused"
        assert talk.ask("unlock")["ok"]
        talk.end()


if __name__ == "__main__":
    held = []
    for check in (check_files, check_lock_and_journal, check_switch, check_children, check_keys, check_conversation):
        check()
        held.append(check.__name__[6:])
    print(json.dumps(held))
