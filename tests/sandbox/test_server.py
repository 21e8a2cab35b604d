"""The SSH side of sandbox hosts, asked by the OpenSSH client as a stranger would."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from deploy import sandbox

pytestmark = pytest.mark.skipif(not shutil.which("ssh"), reason="no OpenSSH client here")
BIG = os.urandom(20_000_000)


@pytest.fixture(scope="module")
def hosts(project: Path) -> list[dict[str, Any]]:
    """Two hosts that are up."""
    return sandbox.up(project, 2)


def ssh(host: dict[str, Any], command: str = "", *, user: str = "", identity: str = "") -> list[str]:
    """The command line of an OpenSSH client that trusts nobody but the sandbox."""
    options = ["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]
    options += ["-o", f"UserKnownHostsFile={host['known_hosts']}", "-i", identity or host["identity"]]
    return ["ssh", "-T", *options, "-p", str(host["port"]), f"{user or host['user']}@{host['address']}", command]


def ask(argv: list[str], sent: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    return subprocess.run(argv, input=sent, capture_output=True, timeout=60)


def test_a_command_runs_in_the_hosts_own_directory(hosts: list[dict[str, Any]]) -> None:
    """Each port is a host of its own: its directory is HOME and working directory."""
    for host in hosts:
        answer = ask(ssh(host, 'pwd; echo "$HOME"')).stdout.decode().split()
        assert answer == [str(Path(host["root"]).parent)] * 2


def test_nothing_of_the_operators_environment_arrives(hosts: list[dict[str, Any]]) -> None:
    """The environment is a handful of names, as on a host where nobody set anything."""
    names = {line.split("=")[0] for line in ask(ssh(hosts[0], "env")).stdout.decode().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"HOME", "USER", "LOGNAME", "SHELL", "LANG", "PATH"}


def test_exit_status_and_stderr_arrive(hosts: list[dict[str, Any]]) -> None:
    """What the command says and how it ends is what the client sees."""
    answer = ask(ssh(hosts[0], "echo out; echo err >&2; exit 7"))
    assert (answer.returncode, answer.stdout, answer.stderr) == (7, b"out\n", b"err\n")


def test_twenty_megabytes_arrive_unchanged_both_ways(hosts: list[dict[str, Any]]) -> None:
    """Bytes are bytes, to the last one, also when the command ends as soon as it has written it."""
    answer = ask(ssh(hosts[0], "cat"), BIG)
    assert hashlib.sha256(answer.stdout).digest() == hashlib.sha256(BIG).digest()


def test_output_of_a_command_that_ends_at_once_is_whole(hosts: list[dict[str, Any]]) -> None:
    """The exit status never overtakes the output."""
    assert len(ask(ssh(hosts[0], "head -c 9000000 /dev/zero")).stdout) == 9_000_000


def test_unread_input_does_not_hold_a_command_up(hosts: list[dict[str, Any]]) -> None:
    """A command that reads five bytes of twenty million ends when it likes."""
    assert ask(ssh(hosts[0], "head -c 5 | wc -c"), BIG).stdout.strip() == b"5"


def test_there_is_no_shell_and_no_subsystem(hosts: list[dict[str, Any]]) -> None:
    """A login without a command is told so, and sftp is not served."""
    login = ssh(hosts[0])[:-1]
    answer = ask(login, b"echo I am a shell\n")
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert b"no login shell" in answer.stderr
    assert ask(["ssh", "-s", *login[1:], "sftp"]).returncode != 0


def test_another_user_or_key_is_refused(hosts: list[dict[str, Any]], tmp_path: Path) -> None:
    """Only the sandbox's user with the sandbox's key gets in."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    assert ask(ssh(hosts[0], "true", user="somebody")).returncode == 255
    assert ask(ssh(hosts[0], "true", identity=str(tmp_path / "other"))).returncode == 255


def test_host_keys_differ_and_are_known(hosts: list[dict[str, Any]], tmp_path: Path) -> None:
    """One host in the place of another is noticed: that is what known_hosts is for."""
    (first, second) = Path(hosts[0]["known_hosts"]).read_text().splitlines()
    (tmp_path / "swapped").write_text(f"{first.split()[0]} {second.split(' ', 1)[1]}\n")
    answer = ask(ssh({**hosts[0], "known_hosts": str(tmp_path / "swapped")}, "true"))
    assert answer.returncode == 255
    assert b"HOST IDENTIFICATION HAS CHANGED" in answer.stderr


def test_a_command_meets_end_of_file_when_the_line_drops(hosts: list[dict[str, Any]], tmp_path: Path) -> None:
    """As under sshd, the command is told and goes on: it may still put things in order."""
    client = subprocess.Popen(
        ssh(hosts[0], f"cat > {tmp_path}/seen; echo over >> {tmp_path}/seen"), stdin=subprocess.PIPE
    )
    assert client.stdin
    client.stdin.write(b"before\n")
    client.stdin.flush()
    wait_for(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text() == "before\n")
    client.kill()
    client.wait()
    client.stdin.close()
    wait_for(lambda: (tmp_path / "seen").read_text() == "before\nover\n")


def test_a_command_meets_a_broken_pipe_when_the_line_drops(hosts: list[dict[str, Any]], tmp_path: Path) -> None:
    """A chatty command ends on its next word."""
    client = subprocess.Popen(
        ssh(hosts[0], f"echo $$ > {tmp_path}/pid; while echo word; do sleep 0.05; done"), stdout=subprocess.PIPE
    )
    assert client.stdout
    client.stdout.readline()
    client.kill()
    client.wait()
    client.stdout.close()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def wait_for(condition: Any, *, timeout_s: float = 10.0) -> None:
    """Wait until something is so, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
