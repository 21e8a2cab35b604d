"""Operator settings: stages, groups and hosts resolved; every problem at once; the right default stage or none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fabric import Config

from deploy.errors import ExitCode, Refused
from deploy.settings import HostSettings, Stage, Trust, operator, operator_of, resolve_stage
from deploy.settings.operator import vendor_store
from deploy.settings.roots import root_problems

HERE = Path("/project")


def stage_of(text: str, name: str | None = "live", /, **narrowing: list[str]) -> Stage:
    """Resolve one stage of settings given as text."""
    return resolve_stage(operator_of(yaml.safe_load(text)), name, project=HERE, **narrowing)


def host_of(text: str, name: str = "web-1") -> HostSettings:
    """Resolve one host of the stage `live`."""
    return next(host for host in stage_of(text).hosts if host.name == name)


def problems_of(text: str) -> tuple[str, ...]:
    """Give the problems that settings are refused with."""
    with pytest.raises(Refused) as refused:
        operator_of(yaml.safe_load(text))
    assert refused.value.exit_code is ExitCode.REFUSED
    return refused.value.problems


def test_a_list_of_names_is_a_fleet_with_defaults() -> None:
    """A list of host names and a root are enough; what ssh_config may decide stays open."""
    stage = stage_of("{root: /srv/demo, python: '3.12', stages: {live: {hosts: [a.example.org, b]}}}")
    assert [host.name for host in stage.hosts] == ["a.example.org", "b"]
    first = stage.hosts[0]
    assert (first.address, first.port, first.user, first.identity) == ("a.example.org", None, None, None)
    assert (first.python, first.keep, first.local, first.accept_seal) == ("python3.12", 5, False, "kernel")
    assert (first.restart, first.health) == (None, None)
    assert first.known_hosts == ("/project/known_hosts", f"{Path.home()}/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
    assert (stage.trust, stage.wait_s) == (Trust(), 0.0)


def test_narrower_levels_win() -> None:
    """App < stage < groups in the host's order < host, key by key."""
    text = """
root: /srv/app
keep: 1
user: app
restart: app-restart
deadlines: {connect_s: 1, step_s: 1}
stages:
  live:
    user: stage
    keep: 2
    groups: {web: {keep: 3, port: 2222, deadlines: {step_s: 3}}, edge: {keep: 4, port: 2223}}
    hosts:
      web-1: {groups: [web, edge], port: 22}
      web-2: {groups: [edge, web], restart: [sudo, -n, systemctl, restart, x], root: /srv/other}
      web-3: null
"""
    one, two, three = (host_of(text, f"web-{n}") for n in (1, 2, 3))
    assert (one.keep, one.port, one.user, one.root) == (4, 22, "stage", "/srv/app")
    assert (two.keep, two.port, two.root) == (3, 2222, "/srv/other")
    assert (three.keep, three.port, three.groups) == (2, None, ())
    assert (one.deadlines.connect_s, one.deadlines.step_s, three.deadlines.step_s) == (1.0, 3.0, 1.0)
    assert one.restart is not None
    assert two.restart is not None
    assert one.restart.to_json() == {"run": "app-restart", "timeout_s": 600.0, "user": None}
    assert two.restart.to_json()["run"] == ["sudo", "-n", "systemctl", "restart", "x"]
    assert one.levels == ("app", "stage:live", "group:live/web", "group:live/edge", "host:live/web-1")


def test_health_merges_and_another_kind_replaces() -> None:
    """A narrower level adds to health key by key; naming a socket instead of a url replaces the url."""
    text = """
root: /srv/app
health: {url: "http://127.0.0.1:8000/healthz", successes: 3, expect_status: [200, 204]}
stages: {live: {hosts: {web-1: {health: {timeout_s: 5}}, web-2: {health: {socket: run/x.sock, path: /h}}}}}
"""
    one, two = host_of(text, "web-1").health, host_of(text, "web-2").health
    assert one is not None
    assert two is not None
    assert (one.url, one.timeout_s, one.successes) == ("http://127.0.0.1:8000/healthz", 5.0, 3)
    assert (two.url, two.socket, two.path, two.expect_status) == (None, "run/x.sock", "/h", (200, 204))
    assert json.loads(json.dumps(one.to_json()))["expect_status"] == [200, 204]


def test_a_health_command() -> None:
    """A command may prove health; it travels as JSON like any other."""
    found = host_of("{root: /srv/x, health: {command: {run: check, timeout_s: 3}}, stages: {live: {hosts: [web-1]}}}")
    assert found.health is not None
    assert found.health.to_json()["command"] == {"run": "check", "timeout_s": 3.0, "user": None}


def test_a_health_path_takes_the_place_of_the_urls_own() -> None:
    """What travels to the host is one complete url."""
    found = host_of(
        "{root: /srv/x, health: {url: 'http://127.0.0.1:8000/', path: '/h?x'}, stages: {live: {hosts: [web-1]}}}"
    )
    assert found.health is not None
    assert (found.health.url, found.health.path) == ("http://127.0.0.1:8000/h?x", None)


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ("{successes: 3}", "stages.live.hosts.web-1.health: name one of url, socket, command"),
        ("{url: 'http://[::1/'}", "health.url: expected an http:// or https:// URL"),
        ("{url: 'http://h:99999/'}", "health.url: expected an http:// or https:// URL"),
        ("{url: 'ftp://h/'}", "health.url: expected an http:// or https:// URL"),
        ("{url: 'http://h/', expect_status: [200, 20]}", "health.expect_status: expected a status from 100 to 599"),
        ("{socket: x, path: h}", "health.path: expected a path that starts with /"),
        ("{expects_status: 200}", "health.expects_status: unknown key; did you mean 'expect_status'?"),
        ("[x]", "health: expected a mapping, got a list"),
    ],
)
def test_health_that_cannot_be_asked_is_refused(health: str, says: str) -> None:
    """A health check that says nothing, or something impossible, is a problem with its path."""
    assert any(
        says in text
        for text in problems_of(f"{{root: /srv/x, health: {health}, stages: {{live: {{hosts: [web-1]}}}}}}")
    )


def test_a_local_directory_as_a_host() -> None:
    """`local: true` makes a directory of this machine a host; two of them need two roots."""
    assert host_of("{stages: {live: {hosts: {web-1: {local: true, root: /srv/one}}}}}").local
    found = problems_of("{root: /srv/x, stages: {live: {hosts: {a: {local: true}, b: {local: true}}}}}")
    assert found == ("stages.live.hosts.b: the same machine and root as 'a'",)


def test_paths_are_absolute_from_the_project() -> None:
    """known_hosts and identity are relative to the project; `~` is the operator's home."""
    host = host_of(
        "{root: /srv/x, identity: keys/id, known_hosts: [~/kh, ops/known_hosts], stages: {live: {hosts: [web-1]}}}"
    )
    assert host.identity == "/project/keys/id"
    assert host.known_hosts == (str(Path.home() / "kh"), "/project/ops/known_hosts")


MISTAKES = """
app: demo
keep: many
health: {url: foo, socket: x}
default_stage: prodution
tags: sigend
stages:
  production:
    requirements: y
    restart: {run: x, timout_s: 3}
    groups: {web: {hosts: [a]}}
    hosts:
      web-1: {prot: 22, root: /srv/a/../b, groups: [wbe]}
      web-2: {address: "-oProxyCommand=x", root: /, port: 99999}
      deploy@web-3: null
      3: null
  empty: {root: /srv/x, hosts: []}
  staging: {hosts: [a, b, a, 7], default_stage: x}
  signed: {root: /srv/x, hosts: [a], tags: signed}
  sandbox: {hosts: [a]}
"""

FOUND = """
default_stage: no such stage; did you mean 'production'?
health.url: expected an http:// or https:// URL, got 'foo'
health: name only one of url, socket, command; found url, socket
keep: expected a whole number from 1 to 1000, got 'many'
stages.empty.hosts: no hosts; a deploy to nobody is an error
stages.production.groups.web.hosts: belongs to the operator scope (control machine), at level: stage; not at group level
stages.production.hosts.'deploy@web-3': a name only; write {NAME: {address: ..., user: ..., port: ...}}
stages.production.hosts.3: a key must be text; put it in quotes
stages.production.hosts.web-1.groups: no such group 'wbe'; did you mean 'web'?
stages.production.hosts.web-1.prot: unknown key; did you mean 'port'?
stages.production.hosts.web-1.root: '/srv/a/../b' has an empty, '.' or '..' part; write the plain path
stages.production.hosts.web-2.address: expected a name or IP (a port goes under `port`), got '-oProxyCommand=x'
stages.production.hosts.web-2.port: expected a whole number from 1 to 65535, got 99999
stages.production.hosts.web-2.root: '/' belongs to the system; name a folder of the service's own, such as /srv/NAME
stages.production.requirements: belongs to the release scope (the tag's own file), at level: app; not at stage level
stages.production.restart.timout_s: unknown key; did you mean 'timeout_s'?
stages.sandbox.hosts: the sandbox's hosts come from `fab sandbox.up`; name this stage otherwise
stages.signed.allowed_signers: required where tags is signed (or gpg_keys): a file that `fab trust.add` writes
stages.staging.default_stage: belongs to the operator scope (control machine), at level: app; not at stage level
stages.staging.hosts.a.root: required, here or at a wider level: an absolute path such as /srv/NAME
stages.staging.hosts.b.root: required, here or at a wider level: an absolute path such as /srv/NAME
stages.staging.hosts: 'a' is listed twice
stages.staging.hosts: expected names, got 7
tags: expected any or annotated or signed, got 'sigend'; did you mean 'signed'?
"""


def test_every_problem_of_every_stage_is_reported_at_once() -> None:
    """All mistakes in one answer: path, what is expected, the nearest right word, the scope of a misplaced key."""
    assert sorted(problems_of(MISTAKES)) == FOUND.strip().splitlines()


@pytest.mark.parametrize("second", ["{address: A}", "{address: a, port: 22}", "{address: a, groups: [web]}"])
def test_one_machine_under_two_names_is_refused(second: str) -> None:
    """The same user, address, port and root under two names is one clear error."""
    text = f"{{root: /srv/x, user: d, stages: {{live: {{hosts: {{a: null, b: {second}}}}}}}}}"
    assert problems_of(text) == ("stages.live.hosts.b: the same machine and root as 'a'",)


@pytest.mark.parametrize("second", ["{address: a, port: 23}", "{address: a, user: e}", "{address: a, root: /srv/y}"])
def test_two_services_on_one_machine_are_fine(second: str) -> None:
    """Another port, user or root makes another host."""
    assert len(stage_of(f"{{root: /srv/x, user: d, stages: {{live: {{hosts: {{a: null, b: {second}}}}}}}}}").hosts) == 2


def test_fabrics_own_config_is_accepted() -> None:
    """The `deploy` part of a live Fabric config, which is no Mapping, reads like a dict."""
    plain = {"root": "/srv/x", "stages": {"live": {"hosts": {"web-1": {"port": 2222}}}}}
    config = Config(overrides={"deploy": plain})
    assert operator_of(config.deploy) == operator_of(plain)


def test_a_key_set_twice_in_the_file_is_refused() -> None:
    """Fabric keeps the last of two; the file's own text tells."""
    text = "deploy:\n  root: /srv/x\n  root: /srv/y\n"
    with pytest.raises(Refused) as refused:
        operator_of(yaml.safe_load(text)["deploy"], text=text)
    assert refused.value.problems == ("line 3: 'root' is already set on line 2",)


SEVERAL = "{root: /srv/x, stages: {live: {hosts: [a, b]}, staging: {hosts: [c]}}}"


@pytest.mark.parametrize("text", [SEVERAL, "{root: /srv/x, stages: {live: {hosts: [a]}}}"])
def test_no_stage_named_among_several_is_refused(text: str) -> None:
    """With a declared stage beside the sandbox nobody guesses: exit 2, and the stages are listed."""
    with pytest.raises(Refused) as refused:
        stage_of(text, None)
    assert "live" in refused.value.why
    assert "sandbox" in refused.value.why
    assert "--stage live" in refused.value.next_step


def test_the_default_stage_is_used_where_set() -> None:
    """default_stage answers for a command that names none."""
    assert stage_of(SEVERAL.replace("{root", "{default_stage: staging, root"), None).name == "staging"


def test_an_unknown_stage_names_the_nearest() -> None:
    """A misspelt stage is refused with the nearest and the list."""
    with pytest.raises(Refused, match=r"did you mean 'staging'\?"):
        stage_of(SEVERAL, "stagin")


def test_narrowing_to_hosts_and_groups() -> None:
    """Hosts and groups narrow a stage; both together narrow to what is in both."""
    text = "{root: /srv/x, stages: {live: {hosts: {a: {groups: [web]}, b: {groups: [web, db]}, c: null}}}}"
    assert [h.name for h in stage_of(text, hosts=["c", "a"]).hosts] == ["a", "c"]
    assert [h.name for h in stage_of(text, groups=["web"]).hosts] == ["a", "b"]
    assert [h.name for h in stage_of(text, hosts=["a", "b"], groups=["db"]).hosts] == ["b"]


@pytest.mark.parametrize(
    ("narrowing", "says"),
    [
        ({"hosts": ["a", "bb"]}, "no host 'bb'"),
        ({"groups": ["wbe"]}, "no group 'wbe'; did you mean 'web'?"),
        ({"hosts": []}, "no host of stage live remains"),
        ({"hosts": ["b"], "groups": ["web"]}, "no host of stage live remains"),
    ],
)
def test_narrowing_to_nothing_is_an_error(narrowing: dict[str, list[str]], says: str) -> None:
    """An unknown name, or no host left, never means a smaller deploy or an empty one."""
    with pytest.raises(Refused) as refused:
        stage_of("{root: /srv/x, stages: {live: {hosts: {a: {groups: [web]}, b: null}}}}", **narrowing)
    assert says in str(refused.value)


def sandbox(project: Path, **more: Any) -> None:
    """Write what a running sandbox writes."""
    host = {"name": "sandbox-1", "address": "127.0.0.1", "port": 4022, "user": "me", "root": f"{project}/.sandbox/1",
            "identity": f"{project}/.sandbox/id", "known_hosts": f"{project}/.sandbox/known_hosts", **more}  # fmt: skip
    (project / ".sandbox").mkdir()
    (project / ".sandbox/hosts.json").write_text(json.dumps({"format": 1, "hosts": [host]}))


def test_the_sandbox_is_the_default_of_a_fresh_project(tmp_path: Path) -> None:
    """With no stage declared, the running sandbox's hosts are the fleet; its roots override the configured one."""
    sandbox(tmp_path, url="http://127.0.0.1:9000/", extra="ignored")
    settings = operator_of({"root": "/srv/x", "health": {"url": "http://127.0.0.1:8000/healthz?x", "successes": 1}})
    stage = resolve_stage(settings, None, project=tmp_path)
    (host,) = stage.hosts
    assert (stage.name, host.name, host.port, host.user) == ("sandbox", "sandbox-1", 4022, "me")
    assert (host.root, host.known_hosts) == (f"{tmp_path}/.sandbox/1", (f"{tmp_path}/.sandbox/known_hosts",))
    assert host.health is not None
    assert (host.health.url, host.health.successes) == ("http://127.0.0.1:9000/healthz?x", 1)
    assert host.levels == ("app", "stage:sandbox", "host:sandbox/sandbox-1")


def test_the_sandbox_may_be_overridden_but_not_given_hosts(tmp_path: Path) -> None:
    """Settings under stages.sandbox apply; a health command stays a command; the sandbox remains the default."""
    sandbox(tmp_path, url="http://127.0.0.1:9000/")
    settings = operator_of({"stages": {"sandbox": {"keep": 2, "health": {"command": "true"}}}})
    (host,) = resolve_stage(settings, None, project=tmp_path).hosts
    assert host.keep == 2
    assert host.health is not None
    assert host.health.url is None


def test_no_sandbox_up_says_how_to_bring_it_up(tmp_path: Path) -> None:
    """The default stage without a sandbox is one error with the command that makes one."""
    with pytest.raises(Refused) as refused:
        resolve_stage(operator_of({"root": "/srv/x"}), None, project=tmp_path)
    assert "fab sandbox.up" in refused.value.next_step


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 2, "hosts": []}', '{"format": 1, "hosts": [{}]}', '{"format": 1, "hosts": []}'],
)
def test_an_unreadable_sandbox_file_is_refused(tmp_path: Path, text: str) -> None:
    """A torn, foreign or empty hosts.json is an error with a next step, not a traceback."""
    (tmp_path / ".sandbox").mkdir()
    (tmp_path / ".sandbox/hosts.json").write_text(text)
    with pytest.raises(Refused, match=r"hosts\.json"):
        resolve_stage(operator_of({"root": "/srv/x"}), "sandbox", project=tmp_path)


@pytest.mark.parametrize("root", ["/srv/demo", "/srv/with space/ünï", "/app", "/home/deploy/app", "/srv/" + "x" * 255])
def test_good_roots(root: str) -> None:
    """A folder of the service's own may be anywhere, with spaces and unicode."""
    assert root_problems(root) == []


@pytest.mark.parametrize(
    "root",
    ["", "srv", "~/x", "/", "/home", "/srv", "/var/lib", "/proc/x/y", "/srv//x", "/srv/./x", "/srv/x/..", "/srv/a\nb",
     "/srv/\x1b[31m", "/srv/" + "x" * 256, "/srv" + "/x" * 2048, "//"],
)  # fmt: skip
def test_bad_roots(root: str) -> None:
    """Relative, climbing, unprintable, too long and the system's own folders cannot be ROOT."""
    assert root_problems(root)


def test_a_trailing_slash_of_root_does_not_matter() -> None:
    """/srv/x/ is /srv/x."""
    assert host_of("{root: /srv/x/, stages: {live: {hosts: [web-1]}}}").root == "/srv/x"


def test_root_needs_a_build_user() -> None:
    """Foreign builds never run as root; local hosts and the sandbox run as whoever started them."""
    text = "{{root: /srv/demo, allow_root: true, stages: {{live: {{hosts: {{a: {}}}}}}}}}"
    (problem,) = problems_of(text.format("{address: a.example.org}"))
    assert problem.startswith("stages.live.hosts.a.build_user: required")
    assert stage_of(text.format("{build_user: builder}")).hosts[0].build_user == "builder"
    assert stage_of(text.format("{local: true}")).hosts[0].allow_root


@pytest.mark.parametrize("address", ["web-1", "web_1.example.org.", "10.0.0.11", "::1", "fe80::1%eth0", "2001:db8::1"])
def test_names_and_addresses_are_taken(address: str) -> None:
    """As DNS and the kernel spell them."""
    assert re.fullmatch(operator._ADDRESS, address)


@pytest.mark.parametrize("address", ["web1:2222", "web..example", "a" * 64, "-o", "web 1", "user@web", "", ":22"])
def test_what_is_neither_is_refused(address: str) -> None:
    """A port has a key of its own; a name that no resolver takes is told before anything is contacted."""
    assert not re.fullmatch(operator._ADDRESS, address)


def test_a_store_is_a_folder_of_the_project_or_an_address(tmp_path: Path) -> None:
    """Relative folders count from the project; nothing but a folder, http and https is an address."""
    assert vendor_store({"vendor_store": "../archives"}, tmp_path) == f"{tmp_path}/../archives"
    assert vendor_store({"vendor_store": "https://files.example.org/"}, tmp_path) == "https://files.example.org/"
    assert vendor_store({"stages": "whatever else is wrong"}, tmp_path) == ""
    with pytest.raises(Refused) as refused:
        vendor_store({"vendor_store": "s3://bucket"}, tmp_path)
    assert "vendor_store: expected a folder or an http(s) address" in refused.value.problems[0]
