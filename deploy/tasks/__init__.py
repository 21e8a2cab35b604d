"""Thin Fabric tasks: parse, call, return. A fabfile needs one name from here: ``namespace``."""

from deploy.tasks.namespace import namespace

__all__ = ["namespace"]
