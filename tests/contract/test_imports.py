"""The walls of the design: who may import whom, and what host code may rely on."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST_CODE = sorted((ROOT / "deploy/wire").rglob("*.py")) + sorted((ROOT / "deploy/onhost").rglob("*.py"))


def test_import_contracts_are_kept() -> None:
    """import-linter finds every contract of pyproject.toml kept."""
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", HOST_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_host_code_imports_the_standard_library_and_itself_only(path: Path) -> None:
    """Whatever is shipped to hosts needs nothing installed there."""
    strangers = {name for name in _imported(path) if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in strangers if not name.startswith(("deploy.wire", "deploy.onhost"))} == set()
    if "wire" in path.parts:
        assert {name for name in strangers if not name.startswith("deploy.wire")} == set()


def test_importing_the_package_imports_nothing_else() -> None:
    """``import deploy`` is free: ``fab --list`` and hosts pay for nothing they do not use."""
    script = "import sys; before = set(sys.modules); import deploy; print(sorted(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['deploy']"


def _imported(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *((node.module,) if node.module else ())))
            # `from . import names` imports a module of the package; `from deploy import wire` would, too.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base in {"deploy", ""} else (base,)
