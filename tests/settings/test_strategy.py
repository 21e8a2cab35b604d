"""``waves`` as people write it: app and stage level laid over each other, every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.errors import Refused
from deploy.settings import Strategy, operator_of, resolve_stage

FOUND = """
stages.live.hosts.a.waves: belongs to the operator scope (control machine), at level: app, stage; not at host level
stages.live.waves.batch: expected a count of hosts from 1 on, or a part such as "25%", got 0
stages.live.waves.on: name at least one of deploy, rollback
stages.staging.waves: expected a mapping, got '25%'
stages.test.waves.batch: expected a count of hosts from 1 on, or a part such as "25%", got '12.5%'
waves.batch: expected a count of hosts from 1 on, or a part such as "25%", got '0%'
waves.canary: expected a whole number from 0 to 100000, got -1
waves.max_failures: expected a whole number from 0 to 100000, got True
waves.on: expected deploy or rollback, got 'deploi'; did you mean 'deploy'?
waves.pause_s: expected seconds, 0 to 86400, got -3
waves.soak_s: expected seconds, 0 to 86400, got 'soon'
waves.wave: unknown key
"""


def of(text: str, stage: str = "live") -> Strategy:
    """Resolve the waves of one stage of settings given as text."""
    return resolve_stage(operator_of(yaml.safe_load(text)), stage, project=Path("/project")).waves


def test_all_hosts_at_once_unless_somebody_says_otherwise() -> None:
    """No canary, no batches, no failure tolerated."""
    assert of("{root: /srv/x, stages: {live: {hosts: [a]}}}") == Strategy()


def test_the_stages_keys_are_laid_over_the_apps() -> None:
    """One by one, and a count takes the place of a percentage; another stage keeps the app's."""
    text = """
root: /srv/x
waves: {canary: 1, batch: 25%, soak_s: 30, on: [deploy, rollback]}
stages:
  live: {hosts: [a], waves: {batch: 10, max_failures: 2, pause_s: 0}}
  staging: {hosts: [b]}
"""
    both = ("deploy", "rollback")
    assert of(text) == Strategy(canary=1, batch=10, soak_s=30.0, max_failures=2, on=both)
    assert of(text, "staging") == Strategy(canary=1, batch=25, batch_is_percent=True, soak_s=30.0, on=both)


def test_every_mistake_is_reported_at_once() -> None:
    """Each with its path, what is expected and what was found; a host cannot have waves of its own."""
    text = """
root: /srv/x
waves: {canary: -1, batch: 0%, pause_s: -3, soak_s: soon, max_failures: yes, on: [deploi], wave: 3}
stages:
  live: {hosts: {a: {waves: {canary: 1}}}, waves: {batch: 0, on: []}}
  staging: {hosts: [b], waves: 25%}
  test: {hosts: [c], waves: {batch: "12.5%"}}
"""
    with pytest.raises(Refused) as refused:
        operator_of(yaml.safe_load(text))
    assert sorted(refused.value.problems) == FOUND.strip().splitlines()
