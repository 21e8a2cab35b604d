"""The documents do not drift: links, commands, options, exit codes, settings and names are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.errors import ExitCode
from deploy.settings import operator_of, release_from_text, resolve_stage
from deploy.settings.yaml_text import load
from deploy.tasks import namespace
from deploy.wire.commands import POINTS

TOP = Path(__file__).parents[1]
PAGES = sorted([TOP / "README.md", *(TOP / "docs").rglob("*.md")])
COMMANDS = TOP / "docs/reference/commands.md"
HOOKS = TOP / "docs/reference/hooks.md"
NOT_YET = {"docs/adr/0005-colon-syntax.md"}
"""Pages that quote command lines which are errors."""


def test_every_link_leads_somewhere() -> None:
    """A relative link names a file of the repository, and its anchor a heading there."""
    broken: list[str] = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, anchor = link.partition("#")
            if path.startswith(("http:", "https:")):
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(TOP)}: {link}")
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    """No page is an orphan; the decisions are reached through their folder."""
    reached, todo = set[Path](), [TOP / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        todo += [target for link in links if (target := (page.parent / link).resolve()) not in reached]
    assert [page for page in PAGES if page not in reached and page.parent.name != "adr"] == []


def test_every_command_line_is_one_that_fab_takes() -> None:
    """Each `fab ...` in the pages names a task that exists, or a stage and a task, with options that it has."""
    tasks, wrong = flags_by_task(), list[str]()
    for page in PAGES:
        if str(page.relative_to(TOP)) in NOT_YET:
            continue
        stages = {"NAME", "production"}
        for line in command_lines(page.read_text()):
            words = [word for word in line if not word.startswith("-")]
            if words and words[0] in stages:
                words = words[1:]
            task = words[0].partition(":")[0].partition("[")[0] if words else ""
            after = line[next((at for at, word in enumerate(line) if word in words), 0) :]
            options = {word.partition("=")[0] for word in after if word.startswith("--")}
            if words and (task not in tasks or not options <= tasks[task]):
                wrong.append(f"{page.relative_to(TOP)}: fab {' '.join(line)}")
    assert wrong == []


def test_the_table_of_commands_is_complete() -> None:
    """The reference lists every task of this library, with exactly the options that it has."""
    rows = re.findall(r"^\| `fab ([\w.]+)[^`]*` \|.*\|([^|]*)\|$", COMMANDS.read_text(), re.MULTILINE)
    documented = {task: {f"--{word}" for word in re.findall(r"[a-z-]+", options)} for task, options in rows}
    for task in (
        "deploy",
        "rollback",
        "verify",
        "pin",
        "unpin",
        "vendor.sbom",
        "vendor.licences",
        "vendor.audit",
    ):  # told by [:TAG]
        documented[task].add("--tag")
        documented["freeze"].add("--reason")  # told by REASON
        documented["vendor.why"].add("--name")  # told by NAME
        documented["vendor.upgrade"].add("--name")
        documented["vendor.add"].add("--requirement")
        documented["vendor.adopt"].add("--source")
    assert documented == flags_by_task()


@pytest.mark.parametrize("page", [TOP / "README.md", COMMANDS], ids=["README", "commands"])
def test_the_table_of_exit_codes_is_the_one_of_the_code(page: Path) -> None:
    """Both tables list each exit code once, with the word that the closing line says."""
    rows = re.findall(r"^\| (\d+) \| ([A-Z]+) \|", page.read_text(), re.MULTILINE)
    assert rows == [(str(int(code)), code.name) for code in ExitCode]


def test_every_settings_example_is_accepted(tmp_path: Path) -> None:
    """Each YAML example of the pages is valid in both scopes, and each of its stages resolves."""
    examples = [text for page in PAGES for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(examples) >= 3
    for text in examples:
        settings = operator_of(cast("dict[str, Any]", load(text))["deploy"], text=text)
        assert release_from_text(text, "fabric.yaml").app
        for stage in settings.declared:
            assert resolve_stage(settings, stage, project=tmp_path).hosts


def test_hooks_find_the_documented_variables() -> None:
    """The page names every DEPLOY_ variable that the host program sets, and every point."""
    page = HOOKS.read_text()
    source = (TOP / "deploy/onhost/hooks.py").read_text()
    assert set(re.findall(r"DEPLOY_[A-Z]+", page)) == set(re.findall(r"\bDEPLOY_[A-Z]+(?==)", source))
    assert set(POINTS) <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """What GitHub and most renderers make of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `fab` in code: between backticks, and in indented or fenced lines."""
    code = re.findall(r"`([^`\n]+)`", text)
    code += [line for line in text.splitlines() if line.startswith("    ")]
    for part in code:
        for command in re.split(r"&&|;|\(|\)|, | - |\s#", part):
            found = re.search(r"(?:^|\s)fab\s+([\w-].*)$", command.strip())
            if found:
                yield shlex.split(found[1])


def flags_by_task() -> dict[str, set[str]]:
    """The long options of every task of the library, by the task's name."""
    contexts: list[Any] = cast("Any", namespace()).to_contexts()
    return {
        [context.name, *context.aliases][-1]: {flag for flag in context.flags if flag.startswith("--")}
        for context in contexts
    }
