"""The program that runs on a host: receive, verify, build sealed, switch, settle, prune.

Standard library only, Python 3.8 and newer, imports nothing but ``deploy.wire``. The library never imports it: it is
shipped as a zip, named by its sha256, and spoken to in frames. ``serve`` is the conversation, ``stage`` and
``activate`` the two verbs, ``children`` the only place that starts a process.
"""
