"""One table of every settings key: scope, where it may stand, shape, default, one line. Reads and validates nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["release", "operator"]
Level = Literal["app", "stage", "group", "host"]

ALL: tuple[Level, ...] = ("app", "stage", "group", "host")
APP: tuple[Level, ...] = ("app",)
STAGE: tuple[Level, ...] = ("app", "stage")
MACHINE: tuple[Level, ...] = ("stage", "group", "host")
HOST: tuple[Level, ...] = ("host",)


@dataclass(frozen=True)
class Key:
    """One settings key. ``levels`` says where it may stand; a narrower level overrides a wider one."""

    name: str
    scope: Scope
    levels: tuple[Level, ...]
    shape: str
    default: str
    doc: str


KEYS: tuple[Key, ...] = (
    Key("app", "release", APP, "word", "required", "The application's name, as hosts and messages show it."),
    Key(
        "python",
        "release",
        APP,
        '"MAJOR.MINOR"',
        "required",
        "The Python that hosts run, unless a host says otherwise.",
    ),
    Key(
        "targets",
        "release",
        APP,
        "list of targets",
        "[python]",
        "Every Python and platform that hosts have, e.g. `3.11`, `3.12-manylinux_2_34_x86_64`; wheels must fit it.",
    ),
    Key("requirements", "release", APP, "word", "app", "NAME of requirements/NAME.txt and pylock.NAME.toml."),
    Key("subdirectory", "release", APP, "path", "(all)", "Ship only this folder, relative to fabric.yaml."),
    Key("exclude", "release", APP, "list of globs", "[]", "What not to ship; without a slash, a name at any depth."),
    Key("shared", "release", APP, "{dirs, files}", "{}", "Paths in src/ that outlive releases, kept in ROOT/shared."),
    Key("env_files", "release", APP, "list of paths", "[]", "KEY=VALUE files on the host, given to hooks; secrets."),
    Key("site_packages", "release", APP, "link | copy", "link", "How a release's venv gets its packages."),
    Key("environment", "release", ALL, "{NAME: text}", "{}", "Variables for hooks and probes; merged name by name."),
    Key("hooks", "release", ALL, "{point: COMMANDS}", "{}", "What runs at which point; a narrower level replaces it."),
    Key("default_stage", "operator", APP, "stage name", "sandbox*", "The stage of a command that names none."),
    Key("stages", "operator", APP, "{NAME: stage}", "{}", "Named fleets; `sandbox` always exists."),
    Key("tags", "operator", STAGE, "any | annotated | signed", "any", "Which tags this stage accepts."),
    Key("allowed_signers", "operator", STAGE, "path", "none", "Whose SSH signatures count (ssh-keygen(1))."),
    Key("revoked_signers", "operator", STAGE, "path", "none", "SSH keys that count no more: a KRL, or public keys."),
    Key("gpg_keys", "operator", STAGE, "path or list", "none", "Exported public keys whose GPG signatures count."),
    Key("signatures", "operator", STAGE, "1-5", "1", "How many different signers, where `tags` is signed."),
    Key("repository_id", "operator", STAGE, "commit id or list", "none", "Root commit that a tag's history begins at."),
    Key(
        "migrations",
        "operator",
        STAGE,
        "refuse | warn | allow",
        "refuse",
        "What a rollback does where the database has migrations that its target does not know.",
    ),
    Key("vendor_store", "operator", APP, "folder or URL", "none", "Where archives lie that git does not hold."),
    Key("wait_s", "operator", STAGE, "seconds", "0", "How long to wait for a lock that somebody else holds."),
    Key("waves", "operator", STAGE, "waves", "all at once", "Which part of the fleet a deploy switches at a time."),
    Key("root", "operator", ALL, "absolute path", "required", "ROOT on the host; releases live below it."),
    Key("restart", "operator", ALL, "COMMAND", "none", "Run after every switch, as deploy, in the release's src/."),
    Key("stop", "operator", ALL, "COMMAND", "none", "Run when a first release is withdrawn."),
    Key("health", "operator", ALL, "health", "none", "How a host proves that the release serves."),
    Key("keep", "operator", ALL, "count", "5", "How many good releases a host keeps."),
    Key("known_hosts", "operator", ALL, "path or list", "known_hosts, ssh's own", "Files that hold the hosts' keys."),
    Key("user", "operator", ALL, "user name", "ssh's own", "Who logs in on the host."),
    Key("port", "operator", ALL, "1-65535", "ssh's own", "The SSH port."),
    Key("identity", "operator", ALL, "path", "ssh's own", "The private key to log in with."),
    Key("deadlines", "operator", ALL, "deadlines", "see below", "Seconds after which a silent step is dead."),
    Key("allow_root", "operator", ALL, "true | false", "false", "Let the host program run as uid 0; needs build_user."),
    Key(
        "build_user",
        "operator",
        ALL,
        "user name",
        "none",
        "With allow_root: who runs builds, and hooks that name no user.",
    ),
    Key("accept_seal", "operator", ALL, "kernel | pip", "kernel", "The weakest seal that a build may run under."),
    Key("service", "operator", ALL, "text", "none", "What a sandbox host's supervisor runs, e.g. `gunicorn app.wsgi`."),
    Key("hosts", "operator", ("stage",), "{NAME: host} or list", "required", "The machines of a stage."),
    Key("groups", "operator", ("stage",), "{NAME: overrides}", "{}", "Settings shared by the hosts of a group."),
    Key("groups", "operator", HOST, "list of names", "[]", "The groups this host is in; a later one wins."),
    Key("python", "operator", MACHINE, "command word", "python + version", "The interpreter the host program runs on."),
    Key("address", "operator", HOST, "name or IP", "the host's name", "Where SSH connects to."),
    Key("local", "operator", HOST, "true | false", "false", "A directory of this machine instead of an SSH host."),
)

HOOK_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("run", "text or list", "required", "Text for /bin/sh -c, or a list: program and arguments."),
    ("once", "true | false", "false", "Once for the fleet instead of on each host."),
    ("on", "list", "by point", "deploy, rollback; before_activate defaults to deploy only."),
    ("timeout_s", "seconds", "600; migrations 60", "Deadline; then the command and its descendants end."),
    ("idempotent", "true | false", "false", "May run again where its outcome is unknown."),
    ("user", "user name", "deploy's", "Run as this user (`sudo -n -u`)."),
    ("sealed", "true | false", "false", "Run without network, as builds do."),
)
COMMAND_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("run", "text or list", "required", "Text for /bin/sh -c, or a list: program and arguments."),
    ("timeout_s", "seconds", "600", "Deadline; then the command and its descendants end."),
    ("user", "user name", "deploy's", "Run as this user (`sudo -n -u`)."),
)
HEALTH_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("url", "http(s) URL", "one of three", "Asked from the host itself."),
    ("socket", "path", "one of three", "A unix socket that speaks HTTP; absolute, or relative to ROOT."),
    ("command", "COMMAND", "one of three", "Healthy when it exits 0."),
    ("path", "URL path", "the url's, or /", "What to ask for, instead of the url's own path."),
    ("unit", "systemd unit", "none", "Its processes must run from the release: proof where the answer names nobody."),
    ("host_header", "text", "the url's", "The Host header to send."),
    ("expect_status", "status or list", "200", "Answers that count as healthy."),
    ("successes", "count", "2", "How many in a row."),
    ("timeout_s", "seconds", "60", "The whole wait."),
    ("interval_s", "seconds", "0.5", "Between two questions."),
)
DEADLINE_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("connect_s", "seconds", "10", "TCP connect and SSH greeting."),
    ("auth_s", "seconds", "20", "SSH authentication."),
    ("silence_s", "seconds", "20", "Without a heartbeat the line is dead."),
    ("step_s", "seconds", "1800", "One step on a host, builds included."),
    ("reconnect_s", "seconds", "60", "A host whose line is lost after its switch is asked again for so long."),
)
WAVE_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("canary", "count", "0", "So many hosts, the first of the stage, are a wave of their own before all others."),
    ("batch", 'count or "25%"', "all the rest", "Hosts of each further wave; a part of all, rounded down, at least 1."),
    ("pause_s", "seconds", "0", "Rest between two waves."),
    ("soak_s", "seconds", "0", "Wait after each wave; then every host that has switched so far is asked again."),
    ("max_failures", "count", "0", "So many hosts may fail and be left behind, on their own previous release."),
    ("on", "list", "deploy", "deploy, rollback: which commands take waves; the others switch all hosts at once."),
)
SHARED_KEYS: tuple[tuple[str, str, str, str], ...] = (
    ("dirs", "list of paths", "[]", "Folders, relative to src/."),
    ("files", "list of paths", "[]", "Files, relative to src/."),
)


def keys_at(level: Level) -> dict[str, Key]:
    """The keys that may stand at one level, by name."""
    return {key.name: key for key in KEYS if level in key.levels}


def misplaced(name: str, level: Level) -> str | None:
    """Say where a known key belongs when it cannot stand at ``level``; None when no key has that name."""
    known = [key for key in KEYS if key.name == name]
    if not known:
        return None
    places = ", ".join(level for key in known for level in key.levels)
    if known[0].scope == "release":
        return f"belongs to the release scope (the tag's own file), at level: {places}; not at {level} level"
    return f"belongs to the operator scope (control machine), at level: {places}; not at {level} level"
