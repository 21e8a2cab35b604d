"""Deploys this project: fab --list says how."""

from deploy.tasks import namespace

ns = namespace()
