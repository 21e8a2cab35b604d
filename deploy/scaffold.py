"""The first files of a project: fabfile, settings, requirements, a service unit. Never overwrites; contacts nothing."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.closure import adopting
from deploy.errors import Refused

FABFILE = '''\
"""Deploys {app}: fab --list says how."""
from deploy.tasks import namespace
ns = namespace()
'''

SETTINGS = """\
# What `fab deploy` needs to know. `#:` lines are examples: take the `#:` away where they fit.
deploy:
  # Release settings: they count as they stand in the tag that is deployed.
  app: {app}
  python: "{python}"  # the Python that the hosts have, and that the pins are locked for
  requirements: app  # requirements/app.in is yours; app.txt and pylock.app.toml are generated from it
  #: exclude: [tests]
  #: shared:
  #:   dirs: [media]  # outlive releases; the app may write there
  #: hooks:
  #:   prepare: python manage.py collectstatic --noinput
  #:   probe: python -c "import {package}"
  #:   before_activate: python manage.py migrate --noinput

  # Operator settings: they come from this machine only, never from a tag.
  keep: 5
  #: service: gunicorn --no-control-socket {module}  # what sandbox hosts run, to rehearse
  #: health: {{url: "http://127.0.0.1:8000/", timeout_s: 30}}

  # Until a stage is declared, commands go to the sandbox: hosts on this machine (fab sandbox.up).
  #: stages:
  #:   production:
  #:     root: /srv/{app}
  #:     user: deploy
  #:     restart: sudo -n systemctl restart {app}
  #:     hosts:
  #:       web-1: {{address: web-1.example.org}}
  #:       web-2: {{address: web-2.example.org}}
"""

SERVICE = """\
# /etc/systemd/system/{app}.service on each host. `current` is the only path of a release that it names:
# a restart starts whatever `current` points to.
[Unit]
Description={app}
Requires={app}.socket
After=network.target
# A release that dies at once would use up systemd's five starts in ten seconds, and the way back would be refused.
StartLimitIntervalSec=0

[Service]
Type=notify
User={app}
Group={app}
WorkingDirectory=/srv/{app}/current/src
EnvironmentFile=-/srv/{app}/shared/.env
# gunicorn before 25 has no control socket, and does not know the option.
ExecStart=/srv/{app}/current/venv/bin/gunicorn --no-control-socket {module}
KillMode=mixed
TimeoutStopSec=30
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""

SOCKET = """\
# /etc/systemd/system/{app}.socket: systemd holds the socket, so no request is refused while {app} restarts.
[Unit]
Description={app}'s socket

[Socket]
ListenStream=127.0.0.1:8000

[Install]
WantedBy=sockets.target
"""

ATTRIBUTES = "vendor/** -text -diff"


@dataclass(frozen=True)
class Scaffolded:
    """What ``init`` did: paths relative to the project. ``source`` is the file that requirements were taken from."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    source: str = ""
    told: tuple[str, ...] = ()


def init(project: Path, *, app: str | None = None) -> Scaffolded:
    """Write the files that are not there yet; leave every other as it is (``.gitattributes`` may gain one line).

    ``app`` is guessed from the folder's name, the requirements from requirements.txt or pyproject.toml. Raises
    Refused where the project is in no git repository or a file cannot be read.
    """
    if not any((folder / ".git").exists() for folder in (project, *project.parents)):
        raise Refused(
            "nothing was written", f"{project} is in no git repository", "git init, then: python -m deploy init"
        )
    name = app or re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-") or "app"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise Refused("nothing was written", f"{name!a} is no name for an app", "python -m deploy init --app NAME")
    module = _module(project)
    words = {
        "app": name,
        "module": module,
        "package": module.partition(":")[0],
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }
    asked, source, told = _requirements(project)
    files = {
        "fabfile.py": FABFILE.format(**words),
        "fabric.yaml": SETTINGS.format(**words),
        "requirements/app.in": asked,
        f"systemd/{name}.service": SERVICE.format(**words),
        f"systemd/{name}.socket": SOCKET.format(**words),
    }
    done = {path: _write(project / path, text) for path, text in files.items()}
    done[".gitattributes"] = _append(project / ".gitattributes", ATTRIBUTES)
    written, kept = (tuple(path for path in done if done[path] is new) for new in (True, False))
    return Scaffolded(written, kept, *((source, told) if done["requirements/app.in"] else ("", ())))


def _write(path: Path, text: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        return False
    return True


def _append(path: Path, line: str) -> bool:
    """Archives are bytes: no line-ending conversion, whatever the user's git is set to."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if line in before.splitlines():
        return False
    with path.open("a", encoding="utf-8") as out:
        out.write(("" if not before or before.endswith("\n") else "\n") + line + "\n")
    return True


def _module(project: Path) -> str:
    """The WSGI module, as far as a look at the folder tells."""
    found = sorted(project.glob("*/wsgi.py")) + sorted(project.glob("src/*/wsgi.py"))
    return f"{found[0].parent.name}.wsgi" if found else "app:app"


def _requirements(project: Path) -> tuple[str, str, tuple[str, ...]]:
    """Give the text of the .in file, which file it was taken from, and what is to be said of that."""
    head = "# What the application needs, one requirement a line; then: fab vendor.lock && fab vendor.fetch\n"
    try:
        found = next((adopting.read_own(project, name) for name in adopting.OWN if (project / name).is_file()), None)
    except Refused as refused:
        return head, "", (f"requirements not taken over: {refused.why}; {refused.next_step}",)
    return (found.asked(), found.shown, found.told) if found else (head, "", ())
