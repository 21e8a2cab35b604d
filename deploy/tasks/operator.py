"""Who asks: the person at this machine, or the person and job that a CI system names. Environment is text, so cleaned.

What is told is for colleagues, in locks and journals; nothing is decided by it.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

NAME_CHARACTERS, JOB_CHARACTERS = 100, 300


class Ci(NamedTuple):
    """One CI system: which variable says that it is one, which name its user (the first set one), and its job."""

    mark: str
    users: tuple[str, ...]
    job: str
    """A template of variables (``str.format``)."""


SYSTEMS = (
    # docs.github.com/actions/reference/workflows-and-actions/variables
    Ci("GITHUB_ACTIONS", ("GITHUB_ACTOR",), "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}"),
    # docs.gitlab.com/ci/variables/predefined_variables
    Ci("GITLAB_CI", ("GITLAB_USER_LOGIN",), "{CI_JOB_URL}"),
    # circleci.com/docs/reference/variables
    Ci("CIRCLECI", ("CIRCLE_USERNAME",), "{CIRCLE_BUILD_URL}"),
    # support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets: a user is only an id there
    Ci(
        "BITBUCKET_BUILD_NUMBER",
        ("BITBUCKET_STEP_TRIGGERER_UUID",),
        "{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
    ),
    # learn.microsoft.com/azure/devops/pipelines/build/variables
    Ci(
        "TF_BUILD",
        ("BUILD_REQUESTEDFOR",),
        "{SYSTEM_TEAMFOUNDATIONCOLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
    ),
    # buildkite.com/docs/pipelines/configure/environment-variables
    Ci("BUILDKITE", ("BUILDKITE_BUILD_CREATOR", "BUILDKITE_UNBLOCKER"), "{BUILDKITE_BUILD_URL}"),
    # www.jenkins.io/doc/book/pipeline/jenkinsfile; its user by plugins.jenkins.io/build-user-vars-plugin
    Ci("JENKINS_URL", ("BUILD_USER_ID", "BUILD_USER"), "{BUILD_URL}"),
)


class Operator(NamedTuple):
    """``by`` is ``ann@laptop``; ``job`` the address of a CI job, or empty."""

    by: str
    job: str


def operator(environment: Mapping[str, str]) -> Operator:
    """Name who runs this command. Never fails: what is not known is ``unknown``."""
    host = _clean(socket.gethostname(), NAME_CHARACTERS)
    for system in SYSTEMS:
        if environment.get(system.mark):
            named = [name for variable in system.users if (name := _clean(environment.get(variable, "")))]
            return Operator(f"{(named or [_user()])[0]}@{host}", _job(system.job, environment))
    own, before = _user(), _clean(environment.get("SUDO_USER", ""))  # sudo(8)
    return Operator(f"{before} as {own}@{host}" if before and before != own else f"{own}@{host}", "")


def _user() -> str:
    try:
        return _clean(getpass.getuser()) or "unknown"
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return "unknown"


def _job(template: str, environment: Mapping[str, str]) -> str:
    try:
        address = _clean(template.format_map(environment), JOB_CHARACTERS)
    except KeyError:
        return ""
    address = re.sub(r"//[^/@]*@", "//", address)  # a name and password in an address are nobody's business
    return address if address.startswith(("https://", "http://")) else ""


def _clean(text: str, limit: int = NAME_CHARACTERS) -> str:
    """Only what can be printed on one line, and not too much of it."""
    return "".join(char for char in text if char.isprintable())[:limit].strip()
