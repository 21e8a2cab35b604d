"""Asks an advisory service about pinned versions, by pip-audit's library. The one place that knows that library.

pip-audit comes with the extra ``supply-chain``. Its service classes are what its own command uses, behind names that
start with an underscore: hence a bound on its version, and a failure in words where they move.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from packaging.version import Version

from deploy.errors import Failed, Refused

from .advisories import Advisory, describe, merged

SERVICES = ("pypi", "osv")
NEEDS = "pip-audit>=2.9,<3"
_UNKNOWN = "Nothing was changed; whether an advisory speaks of the closure is not known."
_OFFLINE = "or offline: fab vendor.audit --advisories FILE"
_TIMEOUT_S = 15
_SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def ask(pins: Iterable[tuple[str, str]], service: str) -> tuple[list[Advisory], list[str]]:
    """Give the advisories about some pins, and the names and versions that the service knows nothing of.

    ``osv`` is asked at ``PIP_AUDIT_OSV_URL`` where that is set, as pip-audit does. Raises Refused where pip-audit is
    not installed or the service has another name, Failed where it does not answer for every single pin.
    """
    if service not in SERVICES:
        raise Refused(_UNKNOWN, f"there is no advisory service {service!r}", f"--service {' or '.join(SERVICES)}")
    try:
        from pip_audit._service import OsvService, PyPIService, ResolvedDependency
        from pip_audit._service.interface import ServiceError
        from requests import RequestException
    except ImportError as error:
        step = f"{sys.executable} -m pip install '{NEEDS}', {_OFFLINE}"
        raise Refused(_UNKNOWN, f"pip-audit is not installed here, or is of another version: {error}", step) from None
    asked = {(name, version): ResolvedDependency(name, Version(version)) for name, version in sorted(set(pins))}
    found: list[Advisory] = []
    unknown: list[str] = []
    try:
        if service == "osv":
            url = os.environ.get("PIP_AUDIT_OSV_URL", OsvService.DEFAULT_OSV_URL)
            answers = OsvService(timeout=_TIMEOUT_S, osv_url=url).query_all(iter(asked.values()))
        else:
            answers = PyPIService(timeout=_TIMEOUT_S).query_all(iter(asked.values()))
        for (name, version), (told, results) in zip(asked, answers, strict=True):
            if told.is_skipped():
                unknown.append(f"{name} {version}")
            for result in results:
                ids, fixed = (result.id, *result.aliases), map(str, result.fix_versions)
                found.append(describe(name, version, ids, fixed, result.description))
    except (ServiceError, RequestException, ValueError, KeyError, TypeError) as error:
        why = f"the advisory service {service} does not answer as it should: {_cause(error)}"
        raise Failed(_UNKNOWN, why, f"fab vendor.audit again later, {_OFFLINE}") from error
    if len(unknown) == len(asked):
        why = f"the advisory service {service} knows none of the {len(asked)} pins: something else answers in its place"
        raise Failed(_UNKNOWN, why, f"ask another: --service {' or '.join(SERVICES)}, {_OFFLINE}")
    return merged(found), unknown


def _cause(error: BaseException) -> str:
    """What went wrong, and why: pip-audit raises errors without a word over those of requests."""
    told = [f"{type(one).__name__} {one}".strip() for one in (error, error.__cause__) if one]
    return _SECRET.sub("[redacted]", ": ".join(told))
