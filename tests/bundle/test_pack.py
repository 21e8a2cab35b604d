"""A tag to its bundle: exact blobs of the tag's tree whatever attributes, filters, clones and work trees say."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.contents import MEMORY, Bundle
from deploy.bundle.pack import pack
from deploy.bundle.repository import Repository
from deploy.errors import DeployError, Failed, Refused
from deploy.wire import manifest as wire_manifest
from deploy.wire.names import Sha256


def packed(folder: Path, tag: str = "v1") -> Bundle:
    """Resolve and pack one tag."""
    repository = Repository(folder)
    return pack(repository, repository.resolve(tag))


def files(bundle: Bundle) -> dict[str, tuple[str, bytes]]:
    """Read every file of the bundle: mode and bytes by path."""
    return {f.path: (f.mode, bundle.read(f.sha256)) for f in bundle.manifest.files}


def refusal(folder: Path) -> DeployError:
    """Give the error that packing v1 ends with."""
    with pytest.raises(Refused) as refused:
        packed(folder)
    return refused.value


def test_packs_exactly_the_tags_tree_without_vendor(project: Any) -> None:
    """Files, modes, sizes and digests are the blobs'; vendor/ travels as archives; the manifest reads back."""
    project.write("bin/run", "#!/bin/sh\n")
    (project.folder / "bin/run").chmod(0o755)
    (project.folder / "link").symlink_to("bin/run")
    project.write("empty", b"")
    project.commit()
    project.tag("v1")
    with packed(project.folder) as bundle:
        found = files(bundle)
        again = wire_manifest.from_bytes(bundle.manifest.to_bytes())
        assert again == bundle.manifest
        for f in bundle.manifest.files:
            assert (hashlib.sha256(found[f.path][1]).hexdigest(), len(found[f.path][1])) == (f.sha256, f.size)
        vendored = {archive.name: bundle.read(digest) for digest, archive in bundle.manifest.archives.items()}
    assert found["bin/run"] == ("100755", b"#!/bin/sh\n")
    assert found["link"] == ("120000", b"bin/run")
    assert found["empty"] == ("100644", b"")
    assert found["app.py"] == ("100644", b"print('hello')\n")
    assert not [path for path in found if path.startswith("vendor/")]
    assert "requirements/app.in" in found
    assert vendored == {path.name: path.read_bytes() for path in (project.folder / "vendor").iterdir()}


def test_the_manifest_names_tag_commit_tree_and_settings(project: Any) -> None:
    """The manifest carries the object ids, the tag's own settings and the closure's targets."""
    project.settings("  exclude: [requirements]\n  shared: {dirs: [media]}\n")
    project.commit()
    oid = project.tag("v1")
    with packed(project.folder) as bundle:
        made = bundle.manifest
    assert (made.app, made.tag, made.tag_object) == ("demo", "v1", oid)
    assert (made.commit, made.tree) == (project.git("rev-parse", "HEAD"), project.git("rev-parse", "HEAD^{tree}"))
    assert made.settings["shared"] == {"dirs": ["media"], "files": []}
    assert [target.name for target in made.targets] == ["python3.11-any"]
    assert not [f.path for f in made.files if f.path.startswith("requirements/")]


def test_the_same_tag_gives_the_same_release_in_every_clone(project: Any, tmp_path: Path) -> None:
    """Two clones, one with a digest memory and one without, give one release id."""
    project.tag("v1")
    with packed(project.folder) as bundle:
        first = bundle.manifest.release_id
    assert (project.folder / ".git" / MEMORY).is_file()
    subprocess.run(["git", "clone", "-q", project.folder, tmp_path / "clone"], check=True)
    for folder in (project.folder, tmp_path / "clone"):
        with packed(folder) as bundle:
            assert bundle.manifest.release_id == first


def test_a_tag_moved_before_packing_ships_what_was_resolved(project: Any) -> None:
    """Line 29: neither the tag's new commit nor what is checked out gets into the bundle."""
    project.tag("v1")
    repository = Repository(project.folder)
    resolved = repository.resolve("v1")
    project.write("app.py", "print('later')\n")
    project.commit()
    project.git("tag", "-f", "-a", "-m", "moved", "v1")
    with pack(repository, resolved) as bundle:
        (app,) = [file for file in bundle.manifest.files if file.path == "app.py"]
        assert bundle.manifest.commit == resolved.commit
        assert bundle.read(app.sha256) == b"print('hello')\n"


def test_line_33_attributes_and_the_work_tree_have_no_say(project: Any) -> None:
    """export-ignore, export-subst, eol, ident, filters, a dirty tree and untracked files leave the bytes alone."""
    project.git("config", "filter.shout.clean", "tr a-z A-Z")
    project.git("config", "filter.shout.smudge", "tr a-z A-Z")
    project.git("config", "core.autocrlf", "true")
    project.write("subst.txt", "$Format:%H$ $Id$\n")
    project.write("ignored.txt", "still shipped\n")
    project.write("crlf.txt", "one\ntwo\n")
    project.write("shout.txt", "quiet\n")
    project.git("add", "-A")
    project.write(".gitattributes", "subst.txt export-subst ident\nignored.txt export-ignore\ncrlf.txt text eol=crlf\n")
    project.git("add", ".gitattributes")
    project.git("commit", "-q", "-m", "attributes")
    project.tag("v1")
    project.write(".git/info/attributes", "shout.txt filter=shout\n")
    project.write("app.py", "dirty\n")
    project.write("untracked.py")
    with packed(project.folder) as bundle:
        found = files(bundle)
    assert found["subst.txt"][1] == b"$Format:%H$ $Id$\n"
    assert found["ignored.txt"][1] == b"still shipped\n"
    assert found["crlf.txt"][1] == b"one\ntwo\n"
    assert found["shout.txt"][1] == b"quiet\n"
    assert found["app.py"][1] == b"print('hello')\n"
    assert "untracked.py" not in found


def test_replaced_blobs_have_no_say(project: Any) -> None:
    """`git replace` of a blob changes nothing that ships."""
    project.tag("v1")
    other = project.git("hash-object", "-w", "--stdin", stdin=b"evil\n")
    project.git("replace", project.git("rev-parse", "HEAD:app.py"), other)
    with packed(project.folder) as bundle:
        assert files(bundle)["app.py"][1] == b"print('hello')\n"


@pytest.mark.parametrize(
    "name", ["ünï çødé.txt", "a\nb", 'a\tb"c\\d', " lead", b"latin-\xe9.txt", "-rf", "CASE", "case"]
)
def test_odd_file_names_survive(project: Any, name: str | bytes) -> None:
    """Unicode, newlines, quotes, bytes that are not UTF-8: the path on the wire is the path in git."""
    project.write(name, b"odd\n")
    project.commit()
    project.tag("v1")
    raw = name if isinstance(name, bytes) else name.encode()
    with packed(project.folder) as bundle:
        again = wire_manifest.from_bytes(bundle.manifest.to_bytes())
    assert raw in [os.fsencode(f.path) for f in again.files]


def test_submodules_are_refused_and_all_named(project: Any, make: Callable[[str], Any]) -> None:
    """A tag does not hold a submodule's files: refused, naming each; `exclude` is the way out."""
    commit = make("library").commit()
    for path in ("one", "sub/two"):
        project.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    project.git("commit", "-q", "-m", "submodules")
    project.tag("v1")
    assert [text.split(" ")[0] for text in refusal(project.folder).problems] == ["'one'", "'sub/two'"]
    project.git("checkout", "-q", "-f", "HEAD")
    project.write("fabric.yaml", 'deploy: {app: demo, python: "3.11", exclude: [one, sub/two]}\n')
    project.git("add", "fabric.yaml")
    project.git("commit", "-q", "-m", "excluded")
    project.tag("v2")
    packed(project.folder, "v2").close()


def test_lfs_pointers_are_refused_and_stay_refused(project: Any) -> None:
    """A Git LFS pointer is refused, with and without a digest memory; a text that merely mentions LFS is not."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    project.write("media/big.bin", pointer)
    project.write("about-lfs.md", b"see version https://git-lfs.github.com/spec/v1\n")
    project.write("long.txt", pointer + b"#" * 1024)
    project.commit()
    project.tag("v1")
    for _ in range(2):
        error = refusal(project.folder)
        assert error.problems == ("'media/big.bin'",)
        assert "Git LFS" in error.why


def test_an_archive_that_is_an_lfs_pointer_is_called_that(project: Any) -> None:
    """vendor/ under Git LFS gets the real reason, not a wrong hash."""
    project.write("vendor/tiny-1.0-py3-none-any.whl", b"version https://git-lfs.github.com/spec/v1\noid x\nsize 1\n")
    project.commit()
    project.tag("v1")
    assert "Git LFS" in refusal(project.folder).why


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("out", "/etc/passwd"),
        ("out", "../outside"),
        ("deep/er/out", "../../../outside"),
        ("out", "deep/../../outside"),
        ("via", "hop/../../outside"),
        ("loop", "loop"),
    ],
)
def test_links_that_leave_the_tree_are_refused(project: Any, link: str, target: str) -> None:
    """Absolute links, links above the top, also through another link, and loops are refused by name."""
    (project.folder / "a/b").mkdir(parents=True)
    (project.folder / "hop").symlink_to("a")
    (project.folder / link).parent.mkdir(parents=True, exist_ok=True)
    (project.folder / link).symlink_to(target)
    project.commit()
    project.tag("v1")
    assert refusal(project.folder).problems == (f"{link!r} -> {target!r}",)


def test_links_inside_the_tree_are_shipped(project: Any) -> None:
    """Relative links that stay inside are fine, dangling ones and ones through other links included."""
    project.write("a/b/c", b"")
    (project.folder / "a/up").symlink_to("../app.py")
    (project.folder / "hop").symlink_to("a/b")
    (project.folder / "through").symlink_to("hop/../up")
    (project.folder / "dangling").symlink_to("nowhere")
    project.commit()
    project.tag("v1")
    with packed(project.folder) as bundle:
        assert {p for p, (mode, _) in files(bundle).items() if mode == "120000"} == {
            "a/up",
            "hop",
            "through",
            "dangling",
        }


@pytest.mark.parametrize(
    ("path", "shared"), [("media/.gitkeep", "media"), (".env", ".env"), ("var", "var/log"), ("media", "media")]
)
def test_a_file_in_the_place_of_a_shared_path_is_refused(project: Any, path: str, shared: str) -> None:
    """A blob at, below or above a shared path is refused by name; excluding it is the way out."""
    for exclude in ("[]", f"['{path}']"):
        project.settings(f"  shared: {{dirs: ['{shared}']}}\n  exclude: {exclude}\n")
        project.write(path)
        project.commit()
        project.git("tag", "-f", "v1")
        if exclude == "[]":
            assert refusal(project.folder).problems == (f"{path!r} is in the place of the shared path {shared!r}",)
        else:
            packed(project.folder).close()


def test_a_hole_in_the_closure_is_refused_whatever_the_work_tree_holds(project: Any) -> None:
    """The tag's own vendor/ counts: an archive that only the work tree has is missing."""
    path = project.folder / "vendor/tiny-1.0-py3-none-any.whl"
    data = path.read_bytes()
    path.unlink()
    project.commit()
    project.tag("v1")
    path.write_bytes(data)
    assert any("tiny-1.0-py3-none-any.whl: missing" in text for text in refusal(project.folder).problems)


def test_a_python_that_was_not_locked_is_refused(project: Any) -> None:
    """Settings that ask for another Python than the lock holds are refused, naming both."""
    project.write("fabric.yaml", 'deploy: {app: demo, python: "3.12"}\n')
    project.commit()
    project.tag("v1")
    refused = refusal(project.folder)
    assert refused.problems == (
        "requirements/pylock.app.toml is locked for python3.11-linux_x86_64; the settings ask for Python 3.12",
    )  # fmt: skip
    assert refused.next_step == "fab vendor.lock && fab vendor.fetch, then commit and tag anew: v1 stays as it is"


def test_settings_of_the_tag_count_and_their_problems_name_it(project: Any) -> None:
    """Settings come from the tag's own file, whatever the work tree says."""
    project.write("fabric.yaml", "deploy: {app: demo, python: 3.11, requirement: x}\n")
    project.commit()
    project.tag("v1")
    project.settings()
    problems = refusal(project.folder).problems
    assert len(problems) == 2
    assert all(text.startswith("fabric.yaml of tag v1: ") for text in problems)


def test_a_tag_without_settings_is_refused(make: Callable[[str], Any]) -> None:
    """A tag older than fabric.yaml gets a next step."""
    bare = make("bare")
    bare.write("app.py")
    bare.commit()
    bare.tag("v1")
    assert refusal(bare.folder).why == "tag v1 has no fabric.yaml"


def test_what_git_left_out_of_the_tag_is_told_with_its_rule(project: Any) -> None:
    """The usual cause of a hole that the work tree does not have: a rule that ignores wheels."""
    project.write(".gitignore", "*.whl\n")
    project.git("rm", "-q", "--cached", "vendor/tiny-1.0-py3-none-any.whl")
    project.commit()
    project.tag("v1")
    refused = refusal(project.folder)
    assert "git ignores vendor/tiny-1.0-py3-none-any.whl, by .gitignore:1: *.whl" in refused.problems
    assert "fab vendor.fetch --mend, then commit and tag anew" in refused.next_step


def test_a_monorepo_ships_the_subdirectory_with_the_closure_above_it(project: Any) -> None:
    """`subdirectory` ships that folder alone; without requirements/ of its own the closure is the project's."""
    project.settings("  subdirectory: services/shop\n")
    project.write("services/shop/shop.py")
    project.write("services/shop/vendor/jquery.js")
    project.write("services/other/other.py")
    project.commit()
    project.tag("v1")
    with packed(project.folder) as bundle:
        assert bundle.manifest.subdirectory == "services/shop"
        assert set(files(bundle)) == {"shop.py", "vendor/jquery.js"}
        assert len(bundle.manifest.archives) == 3


def test_a_monorepo_subdirectory_may_have_a_closure_of_its_own(make: Callable[[str], Any]) -> None:
    """A subdirectory with requirements/ uses its own vendor/, which is not shipped as files."""
    mono = make("mono")
    mono.settings("  subdirectory: shop\n")
    mono.closure("shop/")
    mono.write("shop/shop.py")
    mono.commit()
    mono.tag("v1")
    with packed(mono.folder) as bundle:
        assert {"shop.py", "requirements/app.txt"} < set(files(bundle))
        assert not [path for path in files(bundle) if "vendor" in path]


def test_a_project_below_the_top_of_the_repository(make: Callable[[str], Any]) -> None:
    """With fabric.yaml in a folder of a monorepo, that folder is what ships and where the closure lies."""
    mono = make("mono")
    mono.settings(folder="services/shop/")
    mono.closure("services/shop/")
    mono.write("services/shop/shop.py")
    mono.write("elsewhere.py")
    mono.commit()
    mono.tag("v1")
    with packed(mono.folder / "services/shop") as bundle:
        assert bundle.manifest.subdirectory == "services/shop"
        assert "shop.py" in files(bundle)
        assert "elsewhere.py" not in files(bundle)


def test_an_absent_subdirectory_is_refused(project: Any) -> None:
    """A subdirectory that the tag does not hold is an error, not an empty release."""
    project.settings("  subdirectory: shop\n")
    project.commit()
    project.tag("v1")
    assert "no folder 'shop'" in refusal(project.folder).why


def test_excluding_everything_is_refused(project: Any) -> None:
    """An empty release is an error."""
    project.settings("  exclude: ['*']\n")
    project.commit()
    project.tag("v1")
    assert refusal(project.folder).problems == ("no file remains to ship",)


def test_line_31_missing_blobs_are_named(project: Any) -> None:
    """A clone that lacks a blob is refused with the object's id, never a truncated bundle."""
    project.tag("v1")
    oid = project.git("rev-parse", "HEAD:app.py")
    (project.folder / ".git/objects" / oid[:2] / oid[2:]).unlink()
    assert oid in refusal(project.folder).why


def test_a_partial_clone_does_not_fetch_by_itself(project: Any, tmp_path: Path) -> None:
    """Blobs that a partial clone left behind are reported; git is not allowed to fetch them one by one."""
    project.tag("v1")
    project.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "partial"
    url = project.folder.as_uri()
    subprocess.run(["git", "clone", "-q", "--filter=blob:none", "--no-checkout", url, clone], check=True)
    error = refusal(clone)
    assert "git cannot read tag v1" in error.why
    assert "git fetch --refetch origin tag v1" in error.next_step
    subprocess.run(["git", "-C", clone, "fetch", "-q", "--refetch", "--no-filter", "origin", "tag", "v1"], check=True)
    packed(clone).close()


def test_a_shallow_clone_at_the_tag_is_enough(project: Any, tmp_path: Path) -> None:
    """History is not needed: a depth-1 clone of the tag packs the same release."""
    project.write("later.py")
    project.commit()
    project.tag("v1")
    clone = tmp_path / "shallow"
    url = project.folder.as_uri()
    subprocess.run(["git", "clone", "-q", "--depth=1", "--branch=v1", url, clone], check=True, capture_output=True)
    with packed(project.folder) as full, packed(clone) as shallow:
        assert full.manifest.release_id == shallow.manifest.release_id


def test_a_corrupt_object_is_refused(project: Any) -> None:
    """An object whose content is not what its id says stops the deploy."""
    project.tag("v1")
    ours, other = project.git("rev-parse", "HEAD:app.py"), project.git("rev-parse", "HEAD:fabric.yaml")
    folder = project.folder / ".git/objects"
    (folder / ours[:2] / ours[2:]).unlink()
    shutil.copy(folder / other[:2] / other[2:], folder / ours[:2] / ours[2:])
    assert "git cannot read tag v1" in refusal(project.folder).why


def test_a_lying_or_torn_digest_memory_never_reaches_a_host(project: Any) -> None:
    """What the memory says is proven on reading; torn lines are ignored; an unwritable place costs only time."""
    project.tag("v1")
    memory = project.folder / ".git" / MEMORY
    packed(project.folder).close()
    oid = project.git("rev-parse", "HEAD:app.py")
    memory.write_text(f"garbage\n{oid[:20]}\n{oid} {'0' * 64} 15\n\xff")
    with packed(project.folder) as bundle, pytest.raises(Failed, match="another digest"):
        bundle.read(Sha256("0" * 64))
    shutil.rmtree(memory.parent)
    memory.parent.write_text("a file in the way")
    packed(project.folder).close()


def test_known_blobs_are_not_read_again(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second pack reads no shipped file but settings and links: digests are remembered by object id."""
    project.tag("v1")
    packed(project.folder).close()
    oid = project.git("rev-parse", "HEAD:app.py")
    (project.folder / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with packed(project.folder) as bundle:
        digest = {f.path: f.sha256 for f in bundle.manifest.files}["app.py"]
        with pytest.raises(Failed, match=oid):
            bundle.read(digest)


def test_blobs_are_read_from_many_threads_at_once(project: Any) -> None:
    """Hosts are served in parallel: every thread gets the right bytes."""
    for number in range(40):
        project.write(f"many/{number}", os.urandom(3000))
    project.commit()
    project.tag("v1")
    with packed(project.folder) as bundle, ThreadPoolExecutor(8) as pool:
        wanted = [f.sha256 for f in bundle.manifest.files] * 5
        got = list(pool.map(bundle.read, wanted))
    assert [hashlib.sha256(data).hexdigest() for data in got] == wanted


def test_a_sha256_repository_packs_too(tmp_path: Path) -> None:
    """Object ids of 64 digits (git init --object-format=sha256) are as good as those of 40."""
    from deploy.bundle.git import Objects

    folder = tmp_path / "new"
    subprocess.run(["git", "init", "-q", "--object-format=sha256", folder], check=True)
    (folder / "x").write_bytes(b"x\n")
    subprocess.run("git add x && git commit -q -m x && git tag -a v1 -m x", shell=True, cwd=folder, check=True)
    repository = Repository(folder)
    found = repository.resolve("v1")
    assert len(found.commit) == 64
    with Objects(repository.git) as objects:
        assert objects.read(found.tree)[0] == "tree"
