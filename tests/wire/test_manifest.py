"""The manifest: one spelling, one digest, one release id; and every reason to refuse one."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.wire import manifest as manifests
from deploy.wire.manifest import Archive, BadManifest, Manifest, Package, Target, TreeFile, canonical, from_bytes
from deploy.wire.names import Sha256, sha256

A, B, C, D = (sha256(letter * 64) for letter in "abcd")


def example() -> Manifest:
    """A manifest with one of everything."""
    packages = {
        A: Package(A, "tiny", "1.0", "sdist", (B,)),
        B: Package(B, "flit_core", "3.12", "wheel"),
        C: Package(C, "pip", "26.3", "wheel"),
    }
    return Manifest(
        app="demo",
        tag="v1.0",
        commit="1" * 40,
        tree="2" * 40,
        tag_object=None,
        subdirectory="",
        files=(
            TreeFile("app.py", "100644", D, 3),
            TreeFile("bin/run", "100755", D, 3),
            TreeFile("link", "120000", D, 3),
        ),
        archives={A: Archive("tiny-1.0.tar.gz", 10), B: Archive("b.whl", 20), C: Archive("c.whl", 30)},
        targets=(Target("3.11", "any", packages, (A,), (C,)),),
        settings={"requirements": "app", "hooks": {}, "shared": {"dirs": [], "files": []}},
    )


def changed(change: Any) -> bytes:
    """The example's JSON after a change."""
    value = copy.deepcopy(example().to_json())
    change(value)
    return json.dumps(value).encode()


def test_it_survives_the_way_through_json() -> None:
    """What is parsed is what was written, byte for byte."""
    manifest = example()
    assert from_bytes(manifest.to_bytes()) == manifest
    assert from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()


def test_its_digest_does_not_depend_on_order_or_spacing() -> None:
    """Two machines that build dictionaries in another order name the release alike."""
    manifest = example()
    backwards = replace(
        manifest,
        archives=dict(list(manifest.archives.items())[::-1]),
        settings=dict(list(manifest.settings.items())[::-1]),
    )
    pretty = json.dumps(manifest.to_json(), indent=4).encode()
    assert {backwards.digest, from_bytes(pretty).digest} == {manifest.digest}
    assert manifest.release_id == f"v1.0-{manifest.digest[:8]}"


def test_every_field_reaches_the_digest() -> None:
    """Change any one thing, and it is another release."""
    other = {
        "app": "x", "tag": "v2", "commit": "3" * 40, "tree": "3" * 40, "tag_object": "4" * 40, "subdirectory": "s",
        "files": (), "archives": {}, "targets": (), "settings": {},
    }  # fmt: skip
    assert set(other) == set(Manifest.__dataclass_fields__)
    digests = {replace(example(), **{name: value}).digest for name, value in other.items()}
    assert len(digests | {example().digest}) == len(other) + 1


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
paths = st.from_regex(r"[a-z][a-z0-9]{0,4}(/[a-zé\udc80][a-z0-9]{0,4}){0,2}", fullmatch=True)


@given(
    st.dictionaries(st.text(max_size=5), plain, max_size=4),
    st.lists(st.tuples(paths, st.sampled_from(manifests.MODES), st.integers(0, 2**40)), max_size=5),
)
def test_any_settings_and_paths_survive(settings: dict[str, Any], files: list[tuple[str, str, int]]) -> None:
    """Round trip of whatever JSON settings hold and of file names, non-UTF-8 ones included; or refused as a whole."""
    manifest = replace(example(), settings=settings, files=tuple(TreeFile(p, m, D, s) for p, m, s in files))
    names = [path for path, _, _ in files]
    if len(set(names)) < len(names) or any(name.startswith(f"{other}/") for name in names for other in names):
        with pytest.raises(BadManifest, match=r"twice|both a file and a folder"):
            from_bytes(manifest.to_bytes())
    else:
        again = from_bytes(manifest.to_bytes())
        assert again == manifest
        assert again.digest == manifest.digest


def test_canonical_json_is_ascii_sorted_and_ends_with_one_newline() -> None:
    """The one spelling that digests are taken of, written out once."""
    assert canonical({"b": 1, "a": ["é", {"d": None, "c": True}]}) == b'{"a":["\\u00e9",{"c":true,"d":null}],"b":1}\n'


def test_a_newer_format_is_refused_by_name() -> None:
    """An old program must not guess what a newer one meant."""

    def newer(value: dict[str, Any]) -> None:
        value["format"] = manifests.FORMAT + 1

    with pytest.raises(BadManifest, match=f"format {manifests.FORMAT + 1}.* reads format {manifests.FORMAT}"):
        from_bytes(changed(newer))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/./b",
        "./a",
        "a//b",
        "a/",
        "..",
        ".",
        ".git/hooks/x",
        ".GIT/config",
        ".git",
        "a\0b",
    ],
)
def test_paths_that_leave_the_tree_are_refused(path: str) -> None:
    """Relative, inside, no empty part, nothing below .git."""
    assert not manifests.is_safe_path(path)
    with pytest.raises(BadManifest, match="unsafe path"):
        from_bytes(changed(lambda value: value.update(files=[[path, "100644", D, 1]])))


@pytest.mark.parametrize(
    "path", ["a", "a/b", ".gitignore", ".github/x", "a b", "-rf", "é", "a/.git", "...", "a\nb", "~"]
)
def test_odd_paths_that_stay_inside_are_taken(path: str) -> None:
    """Git tracks such names, so releases may hold them."""
    assert manifests.is_safe_path(path)
    assert from_bytes(changed(lambda value: value.update(files=[[path, "100644", D, 1]]))).files[0].path == path


REFUSED = {
    "a hostile tag": (lambda v: v.update(tag="v1/../x"), "not a deployable tag"),
    "a path twice": (lambda v: v.update(files=[["a", "100644", D, 1]] * 2), "listed twice"),
    "a file where a folder is": (
        lambda v: v.update(files=[["a", "120000", D, 1], ["a/b", "100644", D, 1]]),
        "both a file and a folder",
    ),
    "a submodule's mode": (lambda v: v.update(files=[["a", "160000", D, 1]]), "mode '160000'"),
    "a group-writable mode": (lambda v: v.update(files=[["a", "100664", D, 1]]), "mode '100664'"),
    "an archive that is a path": (lambda v: v["archives"][A].update(name="../x.tar.gz"), "unsafe archive name"),
    "an archive in a folder": (lambda v: v["archives"][A].update(name="a/x.tar.gz"), "unsafe archive name"),
    "an archive without a name": (lambda v: v["archives"][A].update(name=""), "unsafe archive name"),
    "two archives of one name": (lambda v: v["archives"][A].update(name="b.whl"), "listed twice"),
    "a kind of package nobody knows": (lambda v: v["targets"][0]["packages"][A].update(kind="egg"), "kind 'egg'"),
    "a pin without a package": (lambda v: v["targets"][0]["install"].append(D), f"no archive {D}"),
    "a tool without a package": (lambda v: v["targets"][0]["toolchain"].append(D), f"no archive {D}"),
    "a build requirement without a package": (
        lambda v: v["targets"][0]["packages"][A]["build"].append(D),
        f"no archive {D}",
    ),
    "a package without an archive": (lambda v: v["archives"].pop(B), f"no archive {B}"),
    "a digest in capitals": (lambda v: v["files"].append(["z", "100644", D.upper(), 1]), "not a sha256"),
    "an archive under no digest": (lambda v: v["archives"].update(x={"name": "x", "size": 1}), "not a sha256"),
    "a size that is no number": (lambda v: v["files"].append(["z", "100644", D, "many"]), "unreadable"),
    "a size without end": (lambda v: v["files"].append(["z", "100644", D, float("inf")]), "unreadable"),
    "a file of three fields": (lambda v: v["files"].append(["z", "100644", D]), "unreadable"),
    "files that are no list": (lambda v: v.update(files=7), "unreadable"),
    "targets that are text": (lambda v: v.update(targets=["x"]), "unreadable"),
    "archives that are a list": (lambda v: v.update(archives=[]), "unreadable"),
    "settings that are a number": (lambda v: v.update(settings=7), "unreadable"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_broken_contract_is_refused_with_its_reason(what: str) -> None:
    """Each rule of the shape, broken alone."""
    change, reason = REFUSED[what]
    with pytest.raises(BadManifest, match=reason):
        from_bytes(changed(change))


@pytest.mark.parametrize("key", sorted(example().to_json()))
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    """Nothing has a silent default."""
    with pytest.raises(BadManifest, match=key):
        from_bytes(changed(lambda value: value.pop(key)))


def test_every_problem_is_told_at_once() -> None:
    """One round for the person who mends it."""

    def several(value: dict[str, Any]) -> None:
        value.update(tag="-x", files=[["/a", "100644", D, 1], ["b", "777", D, 1]])

    with pytest.raises(BadManifest) as caught:
        from_bytes(changed(several))
    assert all(part in str(caught.value) for part in ("not a deployable tag", "unsafe path", "mode '777'"))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"null", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_object_are_refused(data: bytes) -> None:
    """Whatever lies in a marker or comes over the line ends in the one error."""
    with pytest.raises(BadManifest):
        from_bytes(data)


def test_targets_are_named_by_python_and_platform() -> None:
    """The name that messages use."""
    assert example().targets[0].name == "python3.11-any"
    assert isinstance(Sha256(A), str)
