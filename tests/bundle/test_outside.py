"""Archives that the tag's tree does not hold: the lock's hash finds them, wherever they lie, or nothing is packed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle.contents import Bundle
from deploy.bundle.pack import pack
from deploy.bundle.repository import Repository
from deploy.bundle.tagged import closure_of
from deploy.closure import check
from deploy.errors import Failed, Refused

FILE = "tiny-1.0-py3-none-any.whl"


def packed(project: Any, store: str = "") -> Bundle:
    """Resolve and pack v1."""
    repository = Repository(project.folder)
    return pack(repository, repository.resolve("v1"), store)


def refusal(project: Any, store: str = "") -> Refused:
    """Give the error that packing v1 ends with."""
    with pytest.raises(Refused) as refused:
        packed(project, store)
    return refused.value


def shipped(bundle: Bundle) -> dict[str, bytes]:
    """Every archive as a host would get it."""
    return {archive.name: bundle.read(digest) for digest, archive in bundle.manifest.archives.items()}


@pytest.fixture
def stored(project: Any, tmp_path: Path) -> tuple[Any, Path]:
    """A tag whose tree has no vendor/, and a store that has all of it."""
    store = tmp_path / "store"
    project.write(".gitignore", "vendor/\n")
    project.git("rm", "-q", "-r", "--cached", "vendor")
    project.commit()
    project.tag("v1")
    (project.folder / "vendor").rename(store)
    return project, store


def test_questions_about_a_tag_see_the_store_too(stored: tuple[Any, Path]) -> None:
    """A bill of materials, licences and an audit of a tag that deploys."""
    project, store = stored
    with closure_of(Repository(project.folder), "v1", str(store)) as tagged:
        assert check(tagged.source, "app", ("3.11",)).run_time()
    with pytest.raises(Refused), closure_of(Repository(project.folder), "v1") as tagged:
        check(tagged.source, "app", ("3.11",))


def test_a_store_gives_what_the_tag_lacks(stored: tuple[Any, Path]) -> None:
    """The manifest is that of a tag with vendor/ in it, and so are the bytes; without the store the tag has a hole."""
    project, store = stored
    with packed(project, str(store)) as bundle:
        assert shipped(bundle) == {path.name: path.read_bytes() for path in store.iterdir()}
        assert f"{FILE}: missing" in "\n".join(refusal(project).problems)
    with packed(project, str(store)) as bundle:
        (store / FILE).write_bytes(b"changed meanwhile")
        with pytest.raises(Failed, match="was changed meanwhile"):
            shipped(bundle)
        (store / FILE).unlink()
        with pytest.raises(Failed, match="No such file"):
            shipped(bundle)


def test_the_working_tree_stands_in_for_an_address(stored: tuple[Any, Path]) -> None:
    """A deploy asks no address: what fetch brought into vendor/ counts, by hash, links included in a folder alone."""
    project, store = stored
    address = "https://files.example.org/python"
    assert refusal(project, address).next_step == ("git switch --detach v1 && fab vendor.fetch, then fab deploy:v1")
    store.rename(project.folder / "vendor")
    packed(project, address).close()
    (project.folder / "vendor" / FILE).write_bytes(b"other bytes")
    assert [problem.partition(": ")[0] for problem in refusal(project, address).problems] == [f"vendor/{FILE}"]


def test_what_the_tag_holds_counts_even_if_it_is_wrong(project: Any, tmp_path: Path) -> None:
    """A store mends no tag that has other bytes under the name."""
    good = (project.folder / "vendor" / FILE).read_bytes()
    project.write(f"vendor/{FILE}", b"other bytes")
    project.commit()
    project.tag("v1")
    (tmp_path / FILE).write_bytes(good)
    assert "its bytes are not the pinned ones" in refusal(project, str(tmp_path)).problems[0]


def point(project: Any, digest: str, size: int) -> None:
    """Commit and tag a Git LFS pointer in place of the archive."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    project.write(f"vendor/{FILE}", text.encode())
    project.commit()
    project.tag("v1")


def test_a_pointer_to_the_locked_bytes_stands_for_them(project: Any) -> None:
    """The content comes from where Git LFS keeps it, or from the working tree; else the refusal says how to get it."""
    data = (project.folder / "vendor" / FILE).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    point(project, digest, len(data))
    refused = refusal(project)
    assert (refused.problems, refused.next_step) == ((f"'vendor/{FILE}'",), "git lfs fetch origin v1")
    kept = project.folder / ".git/lfs/objects" / digest[:2] / digest[2:4] / digest
    kept.parent.mkdir(parents=True)
    kept.write_bytes(data[:-1] + b"x")
    assert refusal(project).next_step == "git lfs fetch origin v1"
    for place in (kept, project.folder / "vendor" / FILE):
        place.write_bytes(data)
        with packed(project) as bundle:
            assert shipped(bundle)[FILE] == data
        place.unlink()


def test_a_pointer_to_other_bytes_stands_for_nothing(project: Any) -> None:
    """Even if the right ones lie beside it."""
    data = (project.folder / "vendor" / FILE).read_bytes()
    point(project, "0" * 64, len(data))
    (project.folder / "vendor" / FILE).write_bytes(data)
    assert "Git LFS" in refusal(project).why
