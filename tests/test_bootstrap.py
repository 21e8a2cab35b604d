"""./bootstrap: what it refuses, what it leaves alone, and the layer it puts over a release.

That it works with no network, no privilege and no environment is proven by .ci/run on a fresh clone.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

from deploy.wire.manifest import Target

ROOT = Path(__file__).parents[1]
ARCHIVE = "vendor/rich-15.0.0.tar.gz"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    """The script, imported as a module."""
    loader = importlib.machinery.SourceFileLoader("bootstrap", str(ROOT / "bootstrap"))
    spec = importlib.util.spec_from_loader("bootstrap", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what ./bootstrap reads, to break."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    shutil.copy2(ROOT / "bootstrap", copy)
    for folder in ("deploy", "requirements", "vendor"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(checkout: Path, *arguments: str, python: str = sys.executable, path: str = "/usr/bin:/bin") -> tuple[int, str]:
    """Run the script as a person would, and give its exit code and all it said."""
    answer = subprocess.run(
        [python, str(checkout / "bootstrap"), *arguments],
        env={"PATH": path, "HOME": os.environ["HOME"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return answer.returncode, answer.stdout


def test_an_altered_archive_is_named_and_nothing_is_made(checkout: Path) -> None:
    """One changed byte stops it before anything is installed."""
    archive = checkout / ARCHIVE
    data = bytearray(archive.read_bytes())
    data[-9] ^= 1
    archive.write_bytes(data)
    code, said = run(checkout)
    assert code == 1
    assert "rich-15.0.0.tar.gz" in said
    assert "Traceback" not in said
    assert not (checkout / ".venv").exists()
    assert not (checkout / ".bootstrap").exists()


@pytest.mark.parametrize("missing", [ARCHIVE, "vendor/pip-26.3-py3-none-any.whl"])
def test_a_missing_archive_is_named(checkout: Path, missing: str) -> None:
    """Also where it is the pip that the check itself borrows from."""
    (checkout / missing).unlink()
    code, said = run(checkout)
    assert code == 1
    assert Path(missing).name in said
    assert "Traceback" not in said


def test_a_refusal_leaves_an_older_environment_as_it_was(checkout: Path) -> None:
    """Whoever has a working .venv keeps it."""
    venv.EnvBuilder(symlinks=True).create(checkout / ".venv")
    (checkout / ".venv/kept").write_text("here")
    (checkout / ARCHIVE).unlink()
    code, said = run(checkout)
    assert code == 1
    assert ".venv is as it was" in said
    assert (checkout / ".venv/kept").read_text() == "here"


def test_something_else_named_venv_is_not_deleted(checkout: Path, bootstrap: ModuleType) -> None:
    """A folder that is no virtualenv is somebody's work."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv/thesis.txt").write_text("mine")
    with pytest.raises(bootstrap.Stop, match="is not a virtualenv"):
        bootstrap.make_venv(checkout / ".venv", None)
    assert (checkout / ".venv/thesis.txt").exists()


def test_an_old_python_says_which_ones_will_do(checkout: Path, pythons: dict[str, str], tmp_path: Path) -> None:
    """Started by a Python that vendor/ does not serve, with no other on PATH, it names those it looked for."""
    old = next((pythons[version] for version in ("3.8", "3.9", "3.15") if version in pythons), None)
    if old is None:
        pytest.skip("no Python here that vendor/ does not serve")
    code, said = run(checkout, python=old, path=str(tmp_path))
    assert code == 1
    assert "python3.11" in said
    assert "Traceback" not in said


def test_it_goes_on_under_a_python_that_vendor_serves(checkout: Path, pythons: dict[str, str], tmp_path: Path) -> None:
    """Started by an old Python, it becomes a newer one found on PATH, past a shim that fails."""
    old = next((pythons[version] for version in ("3.8", "3.9", "3.15") if version in pythons), None)
    new = next((version for version in ("3.11", "3.12", "3.13", "3.10", "3.14") if version in pythons), None)
    if old is None or new is None:
        pytest.skip("needs a Python that vendor/ serves and one that it does not")
    shims, real = tmp_path / "shims", tmp_path / "real"
    for folder, content in ((shims, "#!/bin/sh\nexit 127\n"), (real, f'#!/bin/sh\nexec {pythons[new]} "$@"\n')):
        folder.mkdir()
        (folder / f"python{new}").write_text(content)
        (folder / f"python{new}").chmod(0o755)
    (checkout / ARCHIVE).unlink()
    code, said = run(checkout, python=old, path=str(shims))
    assert (code, "on PATH" in said) == (1, True)
    code, said = run(checkout, python=old, path=str(real))
    assert (code, f"making .venv with Python {new}" in said) == (1, True)


def test_a_machine_without_archives_is_told_of_the_way_out(bootstrap: ModuleType) -> None:
    """Where vendor/ does not serve, --online is offered, and what is served is listed."""
    elsewhere = Target("3.11", "linux_riscv64", {}, (), ())
    with pytest.raises(bootstrap.Stop, match=r"it serves python3\.11-linux_riscv64.*--online"):
        bootstrap.here_among((elsewhere,))


def test_a_target_of_any_platform_serves_here(bootstrap: ModuleType) -> None:
    """A closure of pure archives needs no processor of its own."""
    anywhere = Target("%d.%d" % sys.version_info[:2], "any", {}, (), ())
    assert bootstrap.here_among((anywhere,)) is anywhere


def test_a_layer_sees_the_packages_and_has_its_own_scripts(bootstrap: ModuleType, tmp_path: Path) -> None:
    """What the release below holds can be imported and run, with the upper environment's own interpreter."""
    below, above, top = tmp_path / "below", tmp_path / "above", tmp_path / "top"
    venv.EnvBuilder(symlinks=True).create(below)
    site = bootstrap.site_packages(below)
    (site / "greeter.py").write_text("import sys\ndef main():\n    print('hello from', sys.prefix)\n")
    script = below / "bin/greet"
    script.write_text(f"#!{below}/bin/python\nfrom greeter import main\nmain()\n")
    script.chmod(0o755)
    bootstrap.make_venv(above, below)
    bootstrap.make_venv(top, above)
    for path in (above, top):
        answer = subprocess.run([path / "bin/greet"], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == f"hello from {path}"
    see = [top / "bin/python", "-c", "import deploy; print(deploy.__file__)"]
    answer = subprocess.run(see, capture_output=True, text=True, check=True, cwd="/")
    assert answer.stdout.strip() == str(ROOT / "deploy/__init__.py")


def test_an_environment_without_its_stamp_is_made_anew(bootstrap: ModuleType, tmp_path: Path) -> None:
    """The stamp is written last: an interrupted run leaves nothing that passes for complete."""
    venv.EnvBuilder(symlinks=True).create(tmp_path)
    assert not bootstrap.is_fresh(tmp_path, "abc")
    (tmp_path / bootstrap.STAMP).write_text("abc")
    assert bootstrap.is_fresh(tmp_path, "abc")
    assert not bootstrap.is_fresh(tmp_path, "abd")


def test_the_fingerprint_follows_the_pins(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed lock, or changed test tools, are a reason to make the environment anew."""
    monkeypatch.setattr(bootstrap, "HERE", checkout)
    before = bootstrap.fingerprint(), bootstrap.fingerprint("dev.txt")
    with (checkout / "requirements/dev.txt").open("a") as file:
        file.write("# changed\n")
    assert bootstrap.fingerprint() == before[0]
    assert bootstrap.fingerprint("dev.txt") != before[1]
    with (checkout / "requirements/pylock.app.toml").open("a") as file:
        file.write("# changed\n")
    assert bootstrap.fingerprint() != before[0]


def test_tools_from_an_index_are_pinned_by_hash() -> None:
    """Whatever is not in vendor/ is named by version and hash, and by no index."""
    for name in ("dev.txt", "checks.txt", "online.txt"):
        lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
        pins = [number for number, line in enumerate(lines) if "==" in line]
        assert pins
        assert all("--hash=sha256:" in lines[number + 1] for number in pins), name
        assert not [line for line in lines if "://" in line or line.startswith("-")], name
