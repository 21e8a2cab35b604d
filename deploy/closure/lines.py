"""Reads what people and ``vendor.lock`` write line by line: ``requirements/NAME.in`` and ``NAME.txt``. No resolving.

``NAME.in`` holds one requirement a line (PEP 508), ``#`` comments, and policy comments of the form::

    # policy: cryptography wheel       (or: # policy: cryptography source)

Anything that would make pip look elsewhere than ``vendor/`` is refused with its file and line.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.markers import UndefinedComparison
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.wire.names import Sha256

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CODING = re.compile(rb"^#.*?coding[:=]\s*([-\w.]+)", re.MULTILINE)
_POLICY = re.compile(r"#\s*policy:\s*(?P<rest>.*)$")
_POLICY_WORDS = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s+(?P<policy>source|wheel)\s*$")
_PIN = re.compile(r"\./vendor/(?P<file>[^/\s;]+)(?P<marker>\s*;.*?)?\s+--hash=sha256:(?P<sha256>[0-9a-f]{64})$")
_ENCODING = re.compile(r"^#.*?coding[:=]", re.MULTILINE)
_VCS = re.compile(r"(^|@\s*|\s)(git|hg|svn|bzr)\+", re.IGNORECASE)


@dataclass(frozen=True)
class Root:
    """One requirement that a person wrote, and where."""

    where: str
    requirement: Requirement


@dataclass(frozen=True)
class Asked:
    """All that a ``NAME.in`` says. ``policies`` maps a normalised name to ``source`` or ``wheel``."""

    roots: tuple[Root, ...]
    policies: dict[str, str]
    problems: tuple[str, ...]

    @property
    def spelled(self) -> tuple[str, ...]:
        """The requirements in one spelling, sorted: what a lock records so that a later change shows."""
        return tuple(sorted({spell(root.requirement) for root in self.roots}))

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(f"{name} {policy}" for name, policy in sorted(self.policies.items()))


def spell(requirement: Requirement) -> str:
    """Write a requirement in one spelling: normalised name, sorted extras and specifiers."""
    extras = ",".join(sorted(canonicalize_name(extra) for extra in requirement.extras))
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{canonicalize_name(requirement.name)}{f'[{extras}]' if extras else ''}{requirement.specifier}{marker}"


def read_asked(text: str, path: str) -> Asked:
    """Read a ``NAME.in``; every line that cannot stand becomes a problem, none is skipped."""
    roots: list[Root] = []
    policies: dict[str, str] = {}
    problems: list[str] = []
    for number, line in logical_lines(text):
        where = f"{path}:{number}"
        if policy := _POLICY.match(line):
            words = _POLICY_WORDS.match(policy["rest"])
            if words:
                policies[canonicalize_name(words["name"])] = words["policy"]
            else:
                problems.append(f"{where}: a policy reads '# policy: NAME source' or '# policy: NAME wheel'")
            continue
        stripped = without_comment(line)
        if not stripped:
            continue
        if refusal := _refusal(stripped):
            problems.append(f"{where}: {refusal}")
            continue
        try:
            requirement = Requirement(stripped)
            if requirement.marker:
                requirement.marker.evaluate()
            roots.append(Root(where, requirement))
        except UndefinedComparison as error:
            problems.append(f"{where}: {stripped!r} has a marker that cannot be judged: {error}")
        except InvalidRequirement as error:
            problems.append(f"{where}: {stripped!r} is not a requirement: {str(error).splitlines()[0]}")
    return Asked(tuple(roots), policies, tuple(problems))


def read_pins(text: str, path: str) -> tuple[dict[str, Sha256], tuple[str, ...]]:
    """Read a ``NAME.txt``: file name to sha256 of every pin, and a problem for every line that is anything else."""
    pins: dict[str, Sha256] = {}
    problems: list[str] = []
    # pip decodes the file as such a comment says (PEP 263), and in UTF-7 another comment can hold a line of its own.
    if _ENCODING.search(text):
        problems.append(f"{path}: a comment that names an encoding is refused: pip would read other lines than these")
    for number, line in logical_lines(text):
        stripped = without_comment(line)
        if not stripped:
            continue
        where = f"{path}:{number}"
        pin = _PIN.fullmatch(stripped)
        if pin is None:
            problems.append(
                f"{where}: {_refusal(stripped) or 'not a pin (./vendor/FILE --hash=sha256:...)'}: {stripped!r}"
            )
        elif pin["file"] in pins:
            problems.append(f"{where}: {pin['file']} is pinned twice")
        else:
            pins[pin["file"]] = Sha256(pin["sha256"])
    return pins, tuple(problems)


def decoded(data: bytes) -> str:
    """Decode as pip does: a byte order mark, a coding comment in the first two lines, else UTF-8. Raises ValueError."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    stated = _CODING.search(b"\n".join(data.splitlines()[:2]))
    try:
        return data.decode(stated[1].decode("ascii") if stated else "utf-8")
    except LookupError as error:
        raise ValueError(str(error)) from None


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join lines that end in a backslash, as pip does, and number each by where it starts."""
    start, held = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        start = start if held else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            held += line[:-1] + " "
            continue
        yield start, (held + line).strip()
        held = ""
    if held:
        yield start, held.strip()


def without_comment(line: str) -> str:
    """Cut a comment off: what starts with ``#`` at the beginning or after a space, as pip has it."""
    return re.sub(r"(^|\s+)#.*$", "", line).strip()


def name_of(line: str) -> str:
    """Give the normalised name that a line of a ``NAME.in`` asks for; nothing for a comment."""
    plain = without_comment(line)
    return canonicalize_name(Requirement(plain).name) if plain else ""


def _refusal(line: str) -> str:
    if line.startswith("-"):
        return f"option lines are refused ({line.split(maxsplit=1)[0]}): everything comes from vendor/"
    if _VCS.search(line):
        return "a VCS requirement is refused: vendor an archive and pin it"
    # PEP 508 direct references (`name @ URL`) and bare URLs both reach past vendor/, even under --no-index.
    if "://" in line or re.match(r"[A-Za-z0-9._-]+(\[[^]]*\])?\s*@", line):
        return "a URL requirement is refused: vendor an archive and pin it"
    return ""
