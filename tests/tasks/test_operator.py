"""Who asks, as locks and journals tell it: a person, or a CI system's user and job."""

from __future__ import annotations

import getpass
import socket

import pytest

from deploy.tasks.operator import SYSTEMS, operator

CASES = {
    "GitHub Actions": (
        {
            "GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "octocat", "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "shop/shop", "GITHUB_RUN_ID": "77",
        },
        "octocat", "https://github.com/shop/shop/actions/runs/77",
    ),
    "GitLab": (
        {"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "ann", "CI_JOB_URL": "https://git.example/-/jobs/5"},
        "ann", "https://git.example/-/jobs/5",
    ),
    "Jenkins": (
        {"JENKINS_URL": "https://ci.example/", "BUILD_USER": "Ann", "BUILD_URL": "https://bot:pw@ci.example/job/1/"},
        "Ann", "https://ci.example/job/1/",
    ),
    "CircleCI": (
        {"CIRCLECI": "true", "CIRCLE_USERNAME": "ann", "CIRCLE_BUILD_URL": "https://circleci.com/gh/s/1"},
        "ann", "https://circleci.com/gh/s/1",
    ),
    "Bitbucket": (
        {
            "BITBUCKET_BUILD_NUMBER": "9", "BITBUCKET_STEP_TRIGGERER_UUID": "{1-2}",
            "BITBUCKET_GIT_HTTP_ORIGIN": "https://bitbucket.org/s/shop",
        },
        "{1-2}", "https://bitbucket.org/s/shop/pipelines/results/9",
    ),
    "Azure": (
        {
            "TF_BUILD": "True", "BUILD_REQUESTEDFOR": "Ann B", "SYSTEM_TEAMPROJECT": "shop", "BUILD_BUILDID": "3",
            "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI": "https://dev.azure.com/s/",
        },
        "Ann B", "https://dev.azure.com/s/shop/_build/results?buildId=3",
    ),
    "Buildkite": (
        {"BUILDKITE": "true", "BUILDKITE_UNBLOCKER": "ann", "BUILDKITE_BUILD_URL": "https://buildkite.com/s/1"},
        "ann", "https://buildkite.com/s/1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("system", CASES)
def test_a_ci_system_names_its_user_and_job(system: str) -> None:
    """The person who started it, on the runner's machine, and the address of the job; never a password in it."""
    environment, user, job = CASES[system]
    assert operator(environment) == (f"{user}@{socket.gethostname()}", job)


def test_every_system_of_the_table_is_tried() -> None:
    """One case for each row."""
    assert {system.mark for system in SYSTEMS} == {next(iter(case[0])) for case in CASES.values()}


def test_a_person_at_a_terminal() -> None:
    """User and machine; behind sudo both users."""
    me, host = getpass.getuser(), socket.gethostname()
    assert operator({}) == (f"{me}@{host}", "")
    assert operator({"SUDO_USER": "ann-of-the-night"}).by == f"ann-of-the-night as {me}@{host}"
    assert operator({"SUDO_USER": me}).by == f"{me}@{host}"


def test_what_the_environment_says_is_only_text() -> None:
    """No line break or escape sequence gets through, nothing without end, no address that is none."""
    hostile = {"GITHUB_ACTIONS": "1", "GITHUB_ACTOR": "a\n\x1b[2Jb" + "c" * 5000, "GITHUB_SERVER_URL": "javascript:x"}
    found = operator(hostile)
    assert found.by.isprintable()
    assert len(found.by) < 250
    assert found.job == ""
    assert operator({"GITLAB_CI": "1", "GITLAB_USER_LOGIN": "ann", "CI_JOB_URL": "file:///etc"}).job == ""


def test_a_ci_system_that_names_nobody_leaves_the_machines_user() -> None:
    """Better than nobody."""
    assert operator({"JENKINS_URL": "https://ci.example/"}).by == f"{getpass.getuser()}@{socket.gethostname()}"
