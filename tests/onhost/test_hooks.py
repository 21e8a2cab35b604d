"""Hooks on a real ROOT: they come to their end, their outcome is known or asked for, secrets are read as data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.onhost import facts, hooks, landlock, marker
from deploy.onhost.channel import LineLost
from deploy.onhost.hooks import Context
from deploy.onhost.session import Policy, Session, StepFailed
from deploy.wire import commands
from deploy.wire.names import ReleaseId

Make = Callable[..., ReleaseId]


def hook(run: str, **other: Any) -> dict[str, Any]:
    """One hook as a manifest carries it."""
    filled = {"once": False, "on": ["deploy"], "timeout_s": 30, "idempotent": False, "user": None, "sealed": False}
    return {"run": run, **filled, **other}


def lost_once(session: Session, path: Path) -> None:
    """Let the line die as soon as this file is there."""

    def check() -> None:
        if path.exists():
            raise LineLost("gone")

    session.check = check


@pytest.mark.parametrize("point", ["before_activate", "after_activate"])
def test_a_lost_line_does_not_end_a_running_hook(session: Session, context: Context, release: Make, point: str) -> None:
    """Half a migration is worse than one that nobody listens to: it ends, with its outcome journalled."""
    log = session.layout.shared / "log"
    both = [hook(f"echo began >> {log}; sleep 0.3; echo ended >> {log}"), hook(f"echo second >> {log}")]
    name = release("v1", hooks={"app": {point: both}})
    lost_once(session, log)
    with pytest.raises(LineLost):
        hooks.run(session, context, marker.read(session.layout, name).manifest, point)
    assert log.read_text().split() == ["began", "ended"]
    assert [r["outcome"] for r in session.book.records if r["what"] == "hook-done"] == ["ok"]


def test_a_lost_line_ends_what_only_stages(session: Session, context: Context, release: Make) -> None:
    """Nothing outside of the half-made release hangs on it."""
    log = session.layout.shared / "log"
    name = release("v1", hooks={"app": {"prepare": [hook(f"echo began >> {log}; sleep 60; echo ended >> {log}")]}})
    lost_once(session, log)
    with pytest.raises(LineLost):
        hooks.run(session, context, marker.read(session.layout, name).manifest, "prepare")
    assert log.read_text().split() == ["began"]


@pytest.mark.parametrize("planted", ["fifo", "link", "folder link", "folder", "device", "endless"])
def test_an_env_file_is_a_plain_file_or_an_outcome(session: Session, planted: str) -> None:
    """The app's user, who may write below shared/, neither holds up a deploy nor has it read others' files."""
    layout = session.layout
    secret = layout.root / "secret"
    secret.mkdir()
    (secret / ".env").write_text("KEY=only-the-deploy-user\n")
    folder = layout.shared / "conf"
    path = folder / ".env"
    if planted == "folder link":
        folder.symlink_to(secret)
    else:
        folder.mkdir()
    if planted == "fifo":
        os.mkfifo(path)
    elif planted == "link":
        path.symlink_to(secret / ".env")
    elif planted == "folder":
        path.mkdir()
    elif planted == "device":
        folder.rmdir()
        folder.symlink_to("/dev")
        path = folder / "zero"
    elif planted == "endless":
        path.write_bytes(b"A=1\n" * (1 << 19))
    with pytest.raises(StepFailed, match=r"shared/conf/"):
        hooks.env_file_values(layout, {"env_files": [f"shared/conf/{path.name}"]})


def test_an_env_file_deep_below_root_is_read(session: Session) -> None:
    """A plain file in plain folders; one that is not there gives nothing, wherever its path ends."""
    (session.layout.shared / "a/b").mkdir(parents=True)
    (session.layout.shared / "a/b/.env").write_text("KEY=value\n")
    names = ["shared/a/b/.env", "shared/a/b/none", "shared/none/.env", "shared/a/b/.env/none"]
    found = hooks.env_file_values(session.layout, {"env_files": names})
    assert {name: value.reveal() for name, value in found.items()} == {"KEY": "value"}


def migrate(session: Session, context: Context, name: ReleaseId) -> None:
    """Run what is for once before the switch, as it fell to this host."""
    manifest = marker.read(session.layout, name).manifest
    texts = [one.text for one in commands.hooks_of(manifest.settings, "before_activate", "deploy", context.levels)]
    hooks.run(session, context, manifest, "before_activate", once=texts)


def test_a_once_hook_that_was_cut_off_never_runs_again_without_a_word(
    session: Session, context: Context, release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named, shown by status; declared idempotent it runs, and is known again."""
    log = session.layout.shared / "log"
    run = f"echo ran >> {log}"
    once = release("v1", hooks={"app": {"before_activate": [hook(run, once=True)]}})
    again = release("v2", hooks={"app": {"before_activate": [hook(run, once=True, idempotent=True)]}})
    migrate(session, context, once)
    migrate(session, context, once)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(hooks, "configured", killed)
        migrate(session, context, once)
    with pytest.raises(StepFailed, match="outcome is unknown") as refused:
        migrate(session, context, once)
    assert run in str(refused.value)
    assert "idempotent: true" in refused.value.next_step
    assert f"before_activate hook `{run}` was cut off, its outcome is unknown" in facts.facts(session.layout)["pending"]
    assert log.read_text() == "ran\n" * 2
    migrate(session, context, again)
    assert facts.facts(session.layout)["pending"] == []
    migrate(session, context, once)
    assert log.read_text() == "ran\n" * 4


def test_a_once_hook_that_failed_may_run_again(session: Session, context: Context, release: Make) -> None:
    """Its outcome is known."""
    name = release("v1", hooks={"app": {"before_activate": [hook("exit 3", once=True)]}})
    for _ in range(2):
        with pytest.raises(StepFailed, match="exit status 3"):
            migrate(session, context, name)


def test_a_once_hook_that_never_began_may_run_again(session: Session, context: Context, release: Make) -> None:
    """Its environment could not be made."""
    (session.layout.shared / ".env").mkdir()
    name = release("v1", env_files=["shared/.env"], hooks={"app": {"before_activate": [hook("true", once=True)]}})
    with pytest.raises(StepFailed, match="env"):
        migrate(session, context, name)
    (session.layout.shared / ".env").rmdir()
    migrate(session, context, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run hooks as a build user")
def test_where_onhost_is_root_hooks_run_as_the_build_user(
    session: Session, context: Context, release: Make, tmp_path: Path
) -> None:
    """`prepare` may write into src/, which is root's again after it; a hook that names a user runs as that one."""
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o711)
    session.policy = Policy(allow_root=True, build_user="nobody")
    shell = [hook("id -un > made; umask > mask"), hook("id -un > again", user="root")]
    name = release("v1", hooks={"app": {"prepare": shell, "before_activate": [hook("id -un > late")]}})
    manifest = marker.read(session.layout, name).manifest
    src = session.layout.release(name) / "src"
    src.parent.chmod(0o755)
    src.chmod(0o755)
    hooks.run(session, context, manifest, "prepare")
    assert (src / "made").read_text() == "nobody\n"
    assert (src / "again").read_text() == "root\n"
    assert {path.lstat().st_uid for path in [src, *src.iterdir()]} == {0}
    with pytest.raises(StepFailed, match="before_activate"):
        hooks.run(session, context, manifest, "before_activate")
    assert not (src / "late").exists()


SEALED = """
case "$HOME" in "$DEPLOY_ROOT"/.deploy/tmp/*) echo own-home;; esac
echo x > "$HOME/x" && echo x > "$TMPDIR/x" && echo writes-its-own
cat "$DEPLOY_ROOT/shared/private" && echo reads-shared
echo x > "$DEPLOY_ROOT/shared/new" && echo writes-shared
cat "$DEPLOY_ROOT/.deploy/journal.jsonl" && echo reads-journal
cat app.py > /dev/null && echo reads-src
echo x > made && echo writes-src
python3 -c "import socket; socket.socket(socket.AF_INET)" || echo no-network
"""


@pytest.mark.skipif(landlock.abi() < 2, reason="this kernel offers no Landlock of ABI 2 or newer")
@pytest.mark.parametrize("point", ["prepare", "probe", "before_activate"])
def test_a_sealed_hook_is_confined_as_a_build_is(session: Session, context: Context, release: Make, point: str) -> None:
    """No network, nothing of shared/ or of the state; `prepare` alone writes into ``src/``; its scratch goes, too."""
    (session.layout.shared / "private").write_text("for the app\n")
    name = release("v1", hooks={"app": {point: [hook(SEALED + "exit 9", sealed=True)]}})
    src = session.layout.release(name) / "src"
    src.chmod(0o755)
    with pytest.raises(StepFailed) as failed:
        hooks.run(session, context, marker.read(session.layout, name).manifest, point)
    said = {line for line in failed.value.log if "-" in line and " " not in line}
    expected = {"own-home", "writes-its-own", "reads-src", "no-network"}
    assert said == expected | ({"writes-src"} if point == "prepare" else set())
    assert list(session.layout.tmp.iterdir()) == []
    assert not (session.layout.shared / "new").exists()
