"""The only place that prints: sinks for events, tables for answers, lines for errors. Decides and contacts nothing.

rich is imported only when a terminal is there to draw on.
"""

from deploy.report.answers import (
    show_audit,
    show_bug,
    show_error,
    show_host_keys,
    show_licences,
    show_log,
    show_outdated,
    show_releases,
    show_sandbox,
    show_signer,
    show_status,
    show_stopped,
    show_text,
    show_trust,
)
from deploy.report.records import state_folder
from deploy.report.sinks import quiet_sink, sink

__all__ = [
    "quiet_sink",
    "show_audit",
    "show_bug",
    "show_error",
    "show_host_keys",
    "show_licences",
    "show_log",
    "show_outdated",
    "show_releases",
    "show_sandbox",
    "show_signer",
    "show_status",
    "show_stopped",
    "show_text",
    "show_trust",
    "sink",
    "state_folder",
]
