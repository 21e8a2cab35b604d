"""The main job, shown for real: deploy, deploy again, two failures that hurt nobody, roll back.

``./bootstrap demo`` runs it. Makes a scratch project from this folder in .demo/, with real git tags, and three sandbox
hosts. Every command is printed as an operator types it and run with the stock ``fab``; whatever is claimed is checked,
over HTTP and by exit code. Ends with exit status 1 where anything is not as it says.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from deploy import sandbox

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / ".demo"
FAB = str(Path(sys.executable).with_name("fab"))
SHOWN_FAB = shlex.quote(os.path.relpath(FAB, PROJECT))
ENVIRONMENT = {
    **os.environ,
    **{f"GIT_{who}_NAME": "Demo" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "demo@localhost" for who in ("AUTHOR", "COMMITTER")},
    **{f"XDG_{what}_HOME": str(PROJECT / ".sandbox" / what.lower()) for what in ("STATE", "CACHE")},
}
"""Whose commits these are; and fab's logs and caches stay in the project as well."""
NOTE = "written before the rollback"


class NotAsSaid(Exception):
    """Something that the demo claims did not happen."""


def say(text: str) -> None:
    """One thing in plain words, set off from what the commands print."""
    print(f"\n{text}", flush=True)


def check(truth: object, claim: str) -> None:
    """Claim something, after having looked."""
    if not truth:
        raise NotAsSaid(claim)
    print(f"  ✓ {claim}", flush=True)


def run(*argv: str, expect: int = 0) -> str:
    """Run one command as typed; its errors are shown, and returned. Exits with anything but ``expect``: not as said."""
    print(f"\n$ {shlex.join(argv)}", flush=True)
    began = time.monotonic()
    program = FAB if argv[0] == "fab" else argv[0]
    ended = subprocess.run(
        [program, *argv[1:]],
        cwd=PROJECT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(ended.stderr, end="", flush=True)
    if ended.returncode != expect:
        raise NotAsSaid(f"{shlex.join(argv)}: exit status {ended.returncode}, not {expect}")
    print(f"  (exit status {ended.returncode}, {time.monotonic() - began:.1f} s)", flush=True)
    return ended.stderr


class Fleet:
    """The three hosts as a visitor sees them: over HTTP, all the time."""

    def __init__(self) -> None:
        self.urls = {host["name"]: host["url"] for host in sandbox.status(PROJECT)}
        self.answered, self.failed = 0, list[str]()
        self._stop = threading.Event()
        self._visitor = threading.Thread(target=self._visit, daemon=True)

    def live(self) -> list[str]:
        """The version that each host's health check reports, and that it runs from a release of that tag."""
        versions: list[str] = []
        for url in self.urls.values():
            with urllib.request.urlopen(url + "healthz", timeout=10) as response:
                answer = json.load(response)
            versions.append(f"v{answer['version']}" if answer["release"].startswith(f"v{answer['version']}-") else "?")
        return versions

    def check(self, tag: str) -> None:
        """Claim that every host serves ``tag``."""
        check(
            self.live() == [tag] * len(self.urls),
            f"all {len(self.urls)} hosts answer with {tag}, from a release of {tag}",
        )

    def keep_visiting(self) -> None:
        """Ask for the page of every host from now on, without a pause worth mentioning."""
        self._visitor.start()

    def leave(self) -> None:
        """Stop asking, and claim that nothing ever failed."""
        self._stop.set()
        self._visitor.join()
        check(not self.failed, f"{self.answered} visits to the page meanwhile, not one failed {self.failed[:3] or ''}")

    def _visit(self) -> None:
        while not self._stop.wait(0.05):
            for name, url in self.urls.items():
                self._visit_once(name, url)

    def _visit_once(self, name: str, url: str) -> None:
        try:
            visible(url)
            self.answered += 1
        except OSError as error:
            self.failed.append(f"{name}: {error}")


def make_project() -> None:
    """Start from nothing: a git repository that holds this folder's project."""
    sandbox.down(PROJECT, remove=True)
    shutil.rmtree(PROJECT, ignore_errors=True)
    shutil.copytree(HERE, PROJECT, ignore=shutil.ignore_patterns("run.py", "__pycache__"))
    (PROJECT / ".gitignore").write_text("/.sandbox/\n__pycache__/\n")
    edit("fabric.yaml", 'python: "3.11"', f'python: "{sys.version_info.major}.{sys.version_info.minor}"')
    quietly("init", "--quiet")
    for key, value in (
        ("core.autocrlf", "false"),
        ("core.hooksPath", "/dev/null"),
        ("commit.gpgsign", "false"),
        ("tag.gpgsign", "false"),
    ):
        quietly("config", key, value)


def edit(file: str, old: str, new: str) -> None:
    """Change one place in one file of the project."""
    path = PROJECT / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file}: {old!r} is there {text.count(old)} times"
    path.write_text(text.replace(old, new))


def quietly(*arguments: str) -> None:
    """Run git without showing it."""
    subprocess.run(["git", *arguments], cwd=PROJECT, env=ENVIRONMENT, check=True)


def tag(name: str, message: str) -> None:
    """Commit everything and tag it, as an operator does."""
    quietly("add", "--all")
    quietly("commit", "--quiet", "--message", message)
    run("git", "tag", "-a", name, "-m", message)


def leave_note(url: str) -> None:
    """Write into the guestbook with a browser's cookies and form token."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = browser.open(url, timeout=10).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token, "the page has no form"
    browser.open(url, urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], "text": NOTE}).encode(), timeout=10)


def visible(url: str) -> str:
    """The page as text."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def demo() -> None:
    """Tell the story."""
    began = time.monotonic()
    say(
        f"A project of its own in {PROJECT.name}/: a Django guestbook, with everything it needs\n"
        "as source archives in vendor/, tagged v1."
    )
    make_project()
    tag("v1", "The first version")

    say("Three hosts to rehearse on: SSH on loopback ports, everything below .demo/.sandbox/.")
    run("fab", "sandbox.up", "--hosts", "3")
    fleet = Fleet()

    say("The first deploy builds every package from source on each host, shut off from every index and network.")
    run("fab", "deploy:v1")
    fleet.check("v1")
    first = next(iter(fleet.urls.values()))
    leave_note(first)
    fleet.keep_visiting()

    say("v2 changes code only, so nothing is installed anew.")
    edit("guestbook/__init__.py", 'VERSION = "1"', 'VERSION = "2"')
    edit("guestbook/static/guestbook/style.css", "#2a6f4e", "#7a3b8f")
    tag("v2", "Another colour")
    run("fab", "deploy:v2")
    fleet.check("v2")

    (gone,) = (PROJECT / "vendor").glob("pluggy-*")
    say(
        f"For v3 somebody tidies vendor/ and removes {gone.name}: no requirement of ours names it. But sqlparse is\n"
        "built with hatchling, and hatchling needs pluggy."
    )
    edit("guestbook/__init__.py", 'VERSION = "2"', 'VERSION = "3"')
    gone.unlink()
    tag("v3", "Tidier")
    errors = run("fab", "deploy:v3", expect=2)
    check(gone.name in errors, "refused on this machine, by name, before any host was touched")
    fleet.check("v2")
    run("git", "revert", "--no-edit", "HEAD")

    say("v4 wants a greeting in data/greeting.txt on every host. Somebody puts it there, but forgets sandbox-2.")
    for host in sandbox.status(PROJECT):
        if host["name"] != "sandbox-2":
            (Path(host["root"]) / "shared/data/greeting.txt").write_text("Welcome!\n")
    edit("guestbook/__init__.py", 'VERSION = "2"', 'VERSION = "4"')
    edit(
        "guestbook/views.py",
        "    Note.objects.exists()\n",
        '    Note.objects.exists()\n    (BASE_DIR / "data/greeting.txt").read_text()\n',
    )
    tag("v4", "A greeting")
    run("fab", "deploy:v4", expect=3)
    fleet.check("v2")

    say("And if v2 turns out to be wrong as well: back to v1. This needs SSH and nothing else.")
    run("fab", "rollback:v1")
    fleet.check("v1")
    check(NOTE in visible(first), "the note that was written under v1 is still there")
    fleet.leave()

    run("fab", "status")
    run("fab", "releases")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    say(f"Done in {minutes} min {seconds} s. It is all still up:")
    print(f"  the page        {first}")
    print(f"  look around     cd {shlex.quote(str(PROJECT))}")
    print(f"                  {SHOWN_FAB} status   (or deploy:v2, rollback:v2, releases, --list)")
    print("                  ls -l .sandbox/host-1/root   (what a host looks like)")
    print(f"  stop            {SHOWN_FAB} sandbox.down   (there; with --remove it deletes the hosts, too)")


if __name__ == "__main__":
    try:
        demo()
    except NotAsSaid as error:
        print(
            f"\n✗ not as said: {error}\n  all is left as it is;",
            f"stop it with: cd {shlex.quote(str(PROJECT))} && {SHOWN_FAB} sandbox.down",
            file=sys.stderr,
        )
        sys.exit(1)
