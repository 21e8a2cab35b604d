"""Sandbox hosts: three hosts of one's own on this machine, so that anyone can rehearse without a server.

They are reached through the very same SSH code as real hosts, and differ in nothing that a deploy can see. ``server``
and ``supervisor`` are daemons; ``lifecycle`` starts and ends them; ``hosts`` knows where everything lies.
"""

from .lifecycle import DEFAULT_HOSTS, down, status, up

__all__ = ["DEFAULT_HOSTS", "down", "status", "up"]
