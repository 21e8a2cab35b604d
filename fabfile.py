"""The shortest fabfile there can be, and this repository's own: fab --list."""

from deploy.tasks import namespace

ns = namespace()
