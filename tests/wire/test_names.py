"""The names that may reach a host: what no shell, path or log line ever needs to quote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from deploy.wire import names

DIGEST = "0123456789abcdef" * 4
HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "-rf",
    "--upload-pack=x",
    "+1",
    "_x",
    ".hidden",
    "v1/../../etc",
    "a..b",
    "v1.0 ",
    " v1.0",
    "v1.0\n",
    "v1.0\r",
    "v1\0",
    "v1\tx",
    "$(touch${IFS}/x)",
    "`id`",
    "a;b",
    "a|b",
    "a&b",
    "a>b",
    "a'b",
    'a"b',
    "a\\b",
    "a*b",
    "a?b",
    "a[b]",
    "a{b}",
    "a~1",
    "a^b",
    "a:b",
    "a@b",
    "a!b",
    "a#b",
    "a%b",
    "feature/x",
    "HEAD",
    "FETCH_HEAD",
    "ORIG_HEAD",
    "MERGE_HEAD",
    "current",
    "previous",
    "v1.٣",  # Arabic-Indic digit three: str.isdigit says yes
    "v1.0\u200b",
    "v\u202e1",
    "v1\u0301",
    "\u0432\u0031",  # Cyrillic ve
    "\uff561",  # fullwidth v
    "a" * 101,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_no_tags(name: str) -> None:
    """What a shell, a path, git or this layout would read otherwise, and look-alikes of letters and digits."""
    assert not names.is_tag(name)
    with pytest.raises(ValueError, match="not a deployable tag"):
        names.release_id(name, DIGEST)
    assert not names.is_release_id(f"{name}-01234567")


@pytest.mark.parametrize("name", ["v1", "1", "v1.4.2", "2026-11-23", "v1.0.0-rc.1+build.7", "a_b", "a" * 100, "Head"])
def test_ordinary_names_are_tags(name: str) -> None:
    """Versions, dates and semver's pre-release and build parts, up to a hundred characters."""
    assert names.is_tag(name)
    release = names.release_id(name, DIGEST)
    assert release == f"{name}-01234567"
    assert names.is_release_id(release)
    assert names.tag_of(release) == name


@given(st.text(max_size=110))
def test_a_tag_needs_no_quoting_anywhere(text: str) -> None:
    """Whatever passes is made of one small ASCII alphabet and does not start like an option or a hidden file."""
    if names.is_tag(text):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+\-]*", text, re.ASCII)
        assert len(text) <= 100


@given(st.from_regex(names.TAG_PATTERN, fullmatch=True), st.from_regex("[0-9a-f]{64}", fullmatch=True))
def test_a_release_id_gives_its_tag_back(tag: str, digest: str) -> None:
    """Tags may hold dashes and hex digits themselves; the last dash counts."""
    if names.is_tag(tag):
        assert names.tag_of(names.parse_release_id(names.release_id(tag, digest))) == tag


@pytest.mark.parametrize(
    "text", ["v1", "v1-0123456", "v1-012345678", "v1-0123456G", "v1-ABCDEF01", "-01234567", "v1-01234567\n"]
)
def test_other_names_below_releases_are_not_ours(text: str) -> None:
    """A digest of another length or letter case, or no tag: left alone, never parsed."""
    assert not names.is_release_id(text)
    with pytest.raises(ValueError, match="not a release id"):
        names.parse_release_id(text)


@pytest.mark.parametrize(
    "text", ["", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), DIGEST[:-1] + "g", DIGEST[:-1] + "\n", DIGEST + "\n"]
)
def test_a_digest_is_64_lower_case_hex_digits(text: str) -> None:
    """Digests become file names on hosts, so there is one spelling of each."""
    assert not names.is_sha256(text)
    with pytest.raises(ValueError, match="not a sha256"):
        names.sha256(text)
    assert names.sha256(DIGEST) == DIGEST


SPELLINGS = [
    *(
        "1.0",
        "1.0.0",
        "v1.0",
        "2024.07.04",
        "2024.7.4",
        "1.0-alpha",
        "1.0a1",
        "1.0.alpha.1",
        "1.0b",
        "1.0.beta2",
        "1.0rc1",
    ),
    *("1.0-c1", "1.0.pre1", "1.0preview", "1.0.post1", "1.0-1", "1.0.rev2", "1.0r2", "1.0.dev3", "1.0dev", "1!2.0"),
    *("1.0a1.post2.dev3", "1.0+ubuntu.1", "1.0+ubuntu_1", "1.0.0+ubuntu-1", "0.1", "0", "10.20.30", "1.10", "1.1"),
    *("1.0.post0", "1.0.dev0", "1.0rc0"),
]


def test_versions_are_equal_exactly_where_packaging_says_so() -> None:
    """Every pair of spellings, against the reference implementation of PEP 440."""
    for one in SPELLINGS:
        for other in SPELLINGS:
            same = names.canonical_version(one) == names.canonical_version(other)
            assert same == (Version(one) == Version(other)), (one, other)


def test_a_name_has_one_spelling() -> None:
    """PEP 503: the original story's Django and django are one package."""
    spellings = ("Django-Utils", "django_utils", "DJANGO.utils", "django-_utils")
    assert {names.canonical_name(text) for text in spellings} == {"django-utils"}
