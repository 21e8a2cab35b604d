"""The exec line under the login shells that hosts have, and what a host may write before the host program speaks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from tests.hosts.accounts import created
from tests.hosts.fleet import Fleet

pytestmark = pytest.mark.hosts


@pytest.mark.parametrize("shell", ["dash", "bash", "fish", "csh"])
def test_login_shells(fleet: Callable[..., Fleet], shell: str) -> None:
    """A deploy user with this login shell deploys; no shell ever sees more than the one constant line."""
    path = shutil.which(shell)
    if not path:
        pytest.skip(f"{shell} is not installed here")
    if os.geteuid() != 0:
        pytest.skip("another login shell needs another user, and making one needs root")
    made = fleet("web-1", serve=False)
    with created(f"sdt{os.getpid()}s", made.folder, shell=path, also=made.hosts[0].ground.accounts.app) as account:
        other = fleet("web-2", serve=False, account=account)
        other.project.release("v1")
        other.deploy("v1")
        assert other.fab("status").document["hosts"][0]["current"]["tag"] == "v1"
        other.hosts[0].stop()


def test_line_14_a_banner_and_a_noisy_bashrc(fleet: Callable[..., Fleet]) -> None:
    """ANSI escapes, NUL, invalid UTF-8 and our own magic word before the program's answer do not break the framing."""
    if os.geteuid() != 0:
        pytest.skip("a .bashrc of its own needs a user of its own, and making one needs root")
    bash = shutil.which("bash")
    made = fleet("web-1", serve=False)
    banner = made.folder / "banner"
    banner.write_text("Authorised use only.\n" * 20)
    app = made.hosts[0].ground.accounts.app
    with created(f"sdt{os.getpid()}n", made.folder, shell=str(bash), also=app) as account:
        noise = (
            r"printf 'welcome \033[31mred\033[0m \377\376 \000 sealed-deploy/1 0000 have\n'; head -c 200000 /dev/zero"
        )
        (account.home / ".bashrc").write_text(noise + "; echo on stderr too >&2\n")
        other = fleet("web-2", serve=False, account=account, extra=[f"Banner {banner}"])
        other.project.release("v1")
        other.deploy("v1")
        (account.home / ".bashrc").write_text("cat\n")
        swallowed = other.fab("status")
        assert swallowed.code == 4
        (account.home / ".bashrc").write_text("yes\n")
        endless = other.fab("status")
        assert endless.code == 4
        assert "before the host program answered" in endless.document["hosts"][0]["error"]
        other.hosts[0].stop()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo only backups here", "forced command"),
        ("/bin/false", "forced command"),
        ("exit 126", "cannot be executed"),
    ],
)
def test_a_forced_command(fleet: Callable[..., Fleet], command: str, said: str) -> None:
    """A key or an account that may run one thing only is a named error, before anything is changed."""
    made = fleet("web-1", serve=False, extra=[f"ForceCommand {command}"])
    made.project.release("v1")
    ended = made.fab("deploy:v1")
    assert ended.code == 1, ended.text
    assert said in ended.problems


def test_line_13_many_connections_against_the_default_of_maxstartups(fleet: Callable[..., Fleet]) -> None:
    """Hosts behind one sshd that drops unauthenticated connections at random are all reached."""
    made = fleet("web-1", serve=False, extra=["MaxStartups 2:50:4"])
    (host,) = made.hosts
    settings = {}
    for number in range(12):
        root = host.directory / f"root-{number}"
        root.mkdir()
        if os.geteuid() == 0:
            os.chown(root, host.account.uid, host.account.gid)
        settings[f"web-{number}"] = {**host.settings(), "root": str(root)}
    made.project.hosts(settings, known_hosts=str(made.known_hosts), identity=str(host.ground.identity))
    made.project.release("v1")
    ended = made.fab("check")
    assert ended.code == 0, ended.text
    assert len(ended.outcomes) == 12
