"""Sealed deploys: a git tag and its vendored dependencies to your own hosts, with no index and no network there.

A newcomer's map. ``deploy.pipeline`` is the table of contents: check, pack, connect, stage everywhere, gate,
activate in waves, confirm, prune. Data flows one way, each arrow one function over frozen values::

    settings -> closure -> bundle -> (link) -> onhost -> events -> outcomes -> report

- ``tasks``     thin Fabric tasks: parse, call, return; the colon syntax; errors become exit codes
- ``settings``  what the user asked for: typed, validated, all problems at once
- ``closure``   requirements/ and vendor/: lock, fetch, check
- ``bundle``    tag -> tree -> manifest -> bundle; the program that hosts run
- ``wire``      what crosses SSH: names, manifest, framing, messages. Standard library only
- ``onhost``    the program that runs on a host. Standard library and ``wire`` only; never imported here
- ``fleet``     hosts, waves, the two-phase run, outcomes
- ``link``      the line to one host: ssh, local, dry
- ``report``    the only place that prints
- ``sandbox``   hosts on this machine's loopback, to rehearse on
- ``errors``, ``events``  the vocabulary of failure and of progress

Importing this package costs nothing: it imports nothing.
"""

__version__ = "0.1.0"
