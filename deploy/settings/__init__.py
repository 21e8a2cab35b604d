"""What the user asked for: typed, validated, frozen; all problems at once. Contacts and prints nothing."""

from deploy.settings.commands import Command, Health
from deploy.settings.declared import OperatorSettings
from deploy.settings.operator import operator_of
from deploy.settings.release import ReleaseSettings, release_from_text, release_of
from deploy.settings.stage import Deadlines, HostSettings, Stage, resolve_stage, stage_name
from deploy.settings.strategy import ALL_AT_ONCE, Strategy
from deploy.settings.trust import Trust

__all__ = [
    "ALL_AT_ONCE",
    "Command",
    "Deadlines",
    "Health",
    "HostSettings",
    "OperatorSettings",
    "ReleaseSettings",
    "Stage",
    "Strategy",
    "Trust",
    "operator_of",
    "release_from_text",
    "release_of",
    "resolve_stage",
    "stage_name",
]
