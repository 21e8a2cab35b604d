"""One table of bad input: what ``check`` says of each project, by the name of what is wrong with it.

A case that expects nothing is closed. Any other finds exactly the problems it names: one text for each, in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from deploy.closure import lockfile
from tests.closure.conftest import Packed, Project, pack, sdist, wheel

Edit = Callable[[Project], object]
LIB = sdist("lib", "1.0")
DEEP = sdist("deep", "2.5")
MID = sdist("mid", "2.0", ["deep>=3"])
TOOL_7, TOOL_8 = sdist("tool", "7.0"), sdist("tool", "8.0")
ONE, TWO = sdist("one", "1.0", [], ["tool<8"]), sdist("two", "1.0", [], ["tool>=8"])
EXTRAS = sdist("lib", "1.0", ['speed; extra == "fast"', 'docs; extra == "docs"', 'lib[fast]; extra == "all"'])
PIP, VIRTUALENV = wheel("pip", "26.3"), wheel("virtualenv", "21.15.8")
NO_DEP = "lib 1.0 -> dep: not in vendor/"


@dataclass(frozen=True)
class Case:
    """One project: what is locked, what is then done to it, and what is found."""

    name: str
    says: tuple[str, ...]
    asked: str
    install: Sequence[Packed]
    builds: Mapping[str, Sequence[Packed]]
    edit: Edit
    lock: Mapping[str, Any]


def case(
    name: str,
    *says: str,
    asked: str = "lib\n",
    install: Sequence[Packed] = (LIB,),
    builds: Mapping[str, Sequence[Packed]] | None = None,
    edit: Edit = lambda project: None,
    **lock: Any,
) -> Case:
    """Describe a case; ``builds`` gives build environments by package name, ``edit`` happens after locking."""
    return Case(name, says, asked, install, builds or {}, edit, lock)


def lib(*requires: str, **more: Any) -> Packed:
    """The package that nearly every case asks for, with requirements."""
    return sdist("lib", "1.0", requires, **more)


def text(path: str, change: Callable[[str], str]) -> Edit:
    """Change the text of a file of requirements/."""

    def edit(project: Project) -> None:
        at = project.folder / "requirements" / path
        at.write_text(change(at.read_text(encoding="utf-8")), encoding="utf-8")

    return edit


def line(path: str, more: str) -> Edit:
    """Add lines to a file of requirements/."""
    return text(path, lambda before: before + more)


def vendored(file: str, data: bytes | None) -> Edit:
    """Put a file into vendor/, or take it out."""

    def edit(project: Project) -> None:
        at = project.vendor / file
        at.unlink() if data is None else at.write_bytes(data)

    return edit


def flipped(file: str) -> Edit:
    """Change one bit in the middle of a vendored file."""

    def edit(project: Project) -> None:
        data = bytearray((project.vendor / file).read_bytes())
        data[len(data) // 2] ^= 1
        (project.vendor / file).write_bytes(data)

    return edit


def linked(project: Project) -> None:
    """Move an archive elsewhere, and leave a link to it: git would ship the name of its target."""
    (project.vendor / LIB[0]).rename(project.folder / "elsewhere")
    (project.vendor / LIB[0]).symlink_to(project.folder / "elsewhere")


def folders(project: Project) -> None:
    """A folder in vendor/ where a file is expected, and one more with an archive in it."""
    (project.vendor / LIB[0]).unlink()
    for folder in (LIB[0], "more"):
        (project.vendor / folder).mkdir()
        (project.vendor / folder / "evil-1.0.tar.gz").write_bytes(b"x")


def moved(project: Project) -> None:
    """The whole checkout is elsewhere now, in a folder with spaces and an umlaut."""
    to = project.folder.parent / "an other pläce"
    project.folder.rename(to)
    project.folder = to


def no_vendor(project: Project) -> None:
    """The folder itself is gone."""
    for path in project.vendor.iterdir():
        path.unlink()
    project.vendor.rmdir()


def second_target(**changes: Any) -> Edit:
    """Lock for one more Python or platform, with the same archives."""

    def edit(project: Project) -> None:
        lock = lockfile.read_lock(project.lock_path.read_bytes(), "x")
        both = dataclasses.replace(lock, targets=(*lock.targets, dataclasses.replace(lock.targets[0], **changes)))
        project.pins_path.write_text(lockfile.write_pins(both))
        project.lock_path.write_text(lockfile.write_lock(both))

    return edit


RUN_TIME = [
    case("nested hole at run time", "lib 1.0 -> mid 2.0 -> deep >=3: not in vendor/", install=[lib("mid"), MID]),
    case(
        "two packages that want different versions of a third",
        "lib 1.0 -> mid 2.0 -> deep >=3: not in vendor/ (have 2.5)",
        install=[lib("deep<3", "mid"), MID, DEEP],
    ),
    case(
        "requirement of a person that nothing meets",
        "requirements/app.in:2 -> lib >=2: not in vendor/ (have 1.0)",
        asked="# comment\nlib>=2\n",
    ),
    case(
        "names that differ in case, dashes and dots",
        asked="Django\n",
        install=[sdist("django", "5.2", ["Zope_Interface>=6"]), sdist("zope.interface", "7.0")],
    ),
    case(
        "two spellings of one package",
        "django-1.2.tar.gz and Django-1.0.tar.gz are one package (django); only one can be installed",
        asked="Django\n",
        install=[sdist("django", "1.2"), sdist("Django", "1.0")],
    ),
    case("extra that a person asks for", NO_DEP.replace("dep", "speed"), asked="lib[Fast]\n", install=[EXTRAS]),
    case(
        "extra that a package asks for",
        "top 1.0 -> lib 1.0 -> speed: not in vendor/",
        asked="top\n",
        install=[EXTRAS, sdist("top", "1.0", ["lib[fast]", "lib"])],
    ),
    case(
        "extra that asks for another extra of its own package",
        "lib 1.0 -> lib 1.0 -> speed: not in vendor/",
        asked="lib[all]\n",
        install=[EXTRAS],
    ),
    case("extra that nobody asks for", install=[EXTRAS]),
    case("extra that the package does not have", asked="lib[slow]\n", install=[EXTRAS]),
    case(
        "URL in a package's own metadata",
        "dep: asks for https://a.example/dep.zip",
        install=[lib("dep @ https://a.example/dep.zip")],
    ),
    case(
        "requirement that cannot be read",
        "states a requirement that cannot be read: 'dep >> 1'",
        install=[lib("dep >> 1")],
    ),
    case(
        "marker that nobody knows", "lib 1.0: states a requirement that cannot be read", install=[lib("dep; a == 'b'")]
    ),
    case(
        "marker that cannot be compared",
        "lib 1.0: states a marker that cannot be judged: 'dep; platform_machine ~= \"a\"'",
        install=[lib('dep; platform_machine ~= "a"')],
    ),
    case(
        "marker that cannot be compared, in the .in file",
        "requirements/app.in:1: 'lib; platform_machine ~= \"a\"' has a marker that cannot be judged",
        asked='lib; platform_machine ~= "a"\n',
        install=[LIB],
    ),
    case("lock that was edited to forget a requirement", NO_DEP, install=[lib("dep")], recorded={LIB[0]: ()}),
    case(
        "old metadata, where the lock's record counts",
        NO_DEP,
        install=[lib(standard="2.1")],
        recorded={LIB[0]: ("dep",)},
    ),
    case(
        "dynamic metadata, where the lock's record counts",
        NO_DEP,
        install=[lib(extra="Dynamic: Requires-Dist\n")],
        recorded={LIB[0]: ("dep",)},
    ),
]

BUILD_TIME = [
    case(
        "nested hole at build time",
        "celery 5.7.0 -> python-dateutil 2.9.0 [build] -> setuptools-scm <8: not in vendor/ (have 10.3.4)",
        asked="celery\n",
        install=[
            sdist("celery", "5.7.0", ["python-dateutil"]),
            sdist("python-dateutil", "2.9.0", [], ["setuptools-scm<8"]),
        ],
        builds={"python_dateutil": [sdist("setuptools-scm", "10.3.4")]},
    ),
    case(
        "build requirement's own requirements, run-time and build",
        "lib 1.0 [build] -> tool 1.0 -> tool-dep: not in vendor/",
        "lib 1.0 [build] -> tool 1.0 [build] -> seed: not in vendor/",
        install=[lib(build=["tool"])],
        builds={"lib": [sdist("tool", "1.0", ["tool-dep"], ["seed"])]},
    ),
    case(
        "build requirement that a backend asks for only when run",
        "lib 1.0 [build] -> calver: not in vendor/",
        dynamic={LIB[0]: ("calver",)},
    ),
    case(
        "build requirement that a build tool's backend asks for only when run",
        "lib 1.0 [build] -> tool 8.0 [build] -> calver: not in vendor/",
        install=[lib(build=["tool"])],
        builds={"lib": [TOOL_8]},
        dynamic={TOOL_8[0]: ("calver",)},
    ),
    case(
        "sdist without pyproject.toml",
        "lib 1.0 [build] -> setuptools >=40.8.0: not in vendor/",
        install=[lib(build=None)],
    ),
    case(
        "two versions of one build tool side by side",
        asked="one\ntwo\n",
        install=[ONE, TWO],
        builds={"one": [TOOL_7], "two": [TOOL_8]},
    ),
    case(
        "build tool that is locked for another build only",
        "two 1.0 [build] -> tool >=8: in vendor/, but not locked for this place (have 7.0, 8.0)",
        asked="one\ntwo\n",
        install=[ONE, TWO, TOOL_8],
        builds={"one": [TOOL_7], "two": [TOOL_7]},
    ),
    case(
        "two build tools that need each other to be built",
        "egg 1.0 -> hen 1.0 -> egg 1.0: each is needed to build the next; lock one as a wheel ('# policy: NAME wheel')",
        asked="egg\n",
        install=[sdist("egg", "1.0", [], ["hen"])],
        builds={"egg": [sdist("hen", "1.0", [], ["egg"])], "hen": [sdist("egg", "1.0", [], ["hen"])]},
    ),
    case(
        "the same loop, one of them as a wheel",
        asked="egg\n# policy: hen wheel\n",
        install=[sdist("egg", "1.0", [], ["hen"])],
        builds={"egg": [wheel("hen", "1.0")]},
    ),
    case(
        "build tool that needs itself",
        "lib 1.0 -> lib 1.0: each is needed",
        install=[lib(build=["lib"])],
        builds={"lib": [lib(build=["lib"])]},
    ),
    case(
        "extra in a build requirement",
        "lib 1.0 [build] -> tool 1.0 -> speed: not in vendor/",
        install=[lib(build=["tool[fast]"])],
        builds={"lib": [sdist("tool", "1.0", ['speed; extra == "fast"'])]},
    ),
    case(
        "URL in a build requirement",
        "lib 1.0 [build] -> tool: asks for git+https://a.example/tool",
        install=[lib(build=["tool @ git+https://a.example/tool"])],
    ),
    case(
        "build requirement that cannot be read",
        "lib 1.0 [build]: states a requirement that cannot be read: '-r more.txt'",
        install=[lib(build=["-r more.txt"])],
    ),
    case("build requirement for another system", install=[lib(build=["tool; sys_platform == 'win32'"])]),
    case(
        "tampered build requirement",
        "vendor/tool-8.0.tar.gz: its bytes are not the pinned ones",
        install=[lib(build=["tool"])],
        builds={"lib": [TOOL_8]},
        edit=flipped(TOOL_8[0]),
    ),
    case(
        "build environment that is not locked",
        "lib 1.0 [build]: its build environment is not locked",
        edit=text(
            "pylock.app.toml",
            lambda t: t[: t.index("[[tool.sealed-deploy.builds")] + t[t.index("[[tool.sealed-deploy.archives") :],
        ),
    ),
    case("missing pip", "toolchain -> pip: not in vendor/", toolchain=[VIRTUALENV]),
    case(
        "virtualenv whose own requirement is missing",
        "toolchain -> virtualenv 21.0 -> filelock: not in vendor/",
        toolchain=[PIP, wheel("virtualenv", "21.0", ["filelock"])],
    ),
    case(
        "pip as a source archive",
        "toolchain: pip-26.3.tar.gz: must be a pure wheel",
        toolchain=[sdist("pip", "26.3"), VIRTUALENV],
    ),
]

MARKERS = [
    case(f"marker: {marker}", *([NO_DEP] if needed else []), install=[lib(f"dep; {marker}")])
    for marker, needed in [
        ("python_version < '3.12'", True),
        ("python_version >= '3.12'", False),
        ("python_full_version < '3.11.8'", True),
        ("sys_platform == 'win32'", False),
        ("platform_machine == 'x86_64'", True),
        ("implementation_name == 'pypy'", False),
        ("extra == 'all'", False),
    ]
]

TARGETS = [
    case(
        "marker that holds on one of two Pythons",
        f"python3.12-linux_x86_64: {NO_DEP}",
        install=[lib("dep; python_version >= '3.12'")],
        edit=second_target(python="3.12", python_full="3.12.4"),
    ),
    case(
        "marker that holds on one of two platforms",
        f"python3.11-linux_aarch64: {NO_DEP}",
        install=[lib("dep; platform_machine == 'aarch64'")],
        edit=second_target(platform="linux_aarch64"),
    ),
    case(
        "Python that a package does not let in",
        "lib-1.0.tar.gz: requires Python >=3.12; the target has 3.11.7",
        install=[lib(extra="Requires-Python: >=3.12\n")],
    ),
    case(
        "Requires-Python that cannot be read",
        "lib-1.0.tar.gz: requires Python three; the target has 3.11.7",
        install=[lib(extra="Requires-Python: three\n")],
    ),
    *(
        case(
            f"wheel for {tag}",
            *([] if fits else [f"lib-1.0-{tag}.whl: does not fit python3.11-linux_x86_64 with glibc 2.28"]),
            install=[wheel("lib", "1.0", tag=tag)],
        )
        for tag, fits in [
            ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
            ("cp311-cp311-manylinux_2_28_x86_64", True),
            ("cp38-abi3-manylinux1_x86_64", True),
            ("cp311-cp311-manylinux_2_34_x86_64", False),
            ("cp312-cp312-manylinux_2_17_x86_64", False),
            ("cp311-cp311-musllinux_1_2_x86_64", False),
            ("cp311-cp311-manylinux_2_17_aarch64", False),
            ("cp311-cp311-macosx_11_0_arm64", False),
        ]
    ),
]

VERSIONS = [
    case(f"version {version} asked for as {asked}", *says, asked=f"lib{asked}\n", install=[sdist("lib", version)])
    for version, asked, says in [
        ("1!2.0", ">=1!1", ()),
        ("1!2.0", ">=3", ()),
        ("2.0", ">=1!1", ("requirements/app.in:1 -> lib >=1!1: not in vendor/ (have 2.0)",)),
        ("1.0.post1", "~=1.0", ()),
        ("1.0.post1", "==1.0", ("requirements/app.in:1 -> lib ==1.0: not in vendor/ (have 1.0.post1)",)),
        ("1.0+local.7", "==1.0", ()),
        (
            "1.0+local.7",
            "==1.0+other",
            ("requirements/app.in:1 -> lib ==1.0+other: not in vendor/ (have 1.0+local.7)",),
        ),
        ("2.0rc1", ">=1", ()),
        ("2024.07.04", "==2024.7.4", ()),
        ("1.0", "==1.0.0", ()),
    ]
]

LOOK_ELSEWHERE = {
    "-i https://a.example/simple": "option lines are refused (-i)",
    "--index-url=https://a.example/simple": "option lines are refused",
    "--extra-index-url https://a.example/simple": "option lines are refused (--extra-index-url)",
    "-f ./elsewhere": "option lines are refused (-f)",
    "--find-links=https://a.example": "option lines are refused (--find-links=https://a.example)",
    "-e .": "option lines are refused (-e)",
    "-r more.in": "option lines are refused (-r)",
    "-c constraints.txt": "option lines are refused (-c)",
    "--pre": "option lines are refused (--pre)",
    "--no-binary :all:": "option lines are refused (--no-binary)",
    "--trusted-host a.example": "option lines are refused (--trusted-host)",
    "more @ https://a.example/more.tar.gz": "a URL requirement is refused",
    "more@https://a.example/more.tar.gz": "a URL requirement is refused",
    "more[fast] @ file:///srv/more.tar.gz": "a URL requirement is refused",
    "https://a.example/more.tar.gz": "a URL requirement is refused",
    "file:///srv/more-1.0.tar.gz": "a URL requirement is refused",
    "git+https://a.example/more": "a VCS requirement is refused",
    "more @ git+ssh://a.example/more": "a VCS requirement is refused",
    "/srv/more-1.0.tar.gz": "not a",
    "./more-1.0.tar.gz": "not a",
    "more==1.0 --config-settings=a=b": "not a",
    "more \\\n  --index-url https://a.example": "",
    "\\\n-i https://a.example": "option lines are refused (-i)",
}
"""Lines that would make pip look past vendor/, and why each is refused."""

PINS = "requirements/app.txt"
FILES = [
    case("missing archive", "vendor/lib-1.0.tar.gz: missing (lib 1.0 is pinned)", edit=vendored(LIB[0], None)),
    case("missing vendor/", *["missing"] * 3, edit=no_vendor),
    case(
        "project's own file",
        "vendor/notes.txt: not an archive; vendor/ holds nothing else",
        edit=vendored("notes.txt", b"x"),
    ),
    case("stray archive", "vendor/stray-1.0.tar.gz: no lock names it", edit=vendored("stray-1.0.tar.gz", b"x")),
    case(
        "archive of the same name in other letter case",
        "vendor/LIB-1.0.tar.gz: no lock names it",
        edit=vendored("LIB-1.0.tar.gz", LIB[1]),
    ),
    case(
        "archive that only its letter case tells from another",
        "vendor/Lib-1.0.tar.gz: no lock names it",
        edit=vendored("Lib-1.0.tar.gz", sdist("Lib", "1.0", ["evil"])[1]),
    ),
    case("one changed bit", "vendor/lib-1.0.tar.gz: its bytes are not the pinned ones", edit=flipped(LIB[0])),
    case(
        "truncated archive",
        "vendor/lib-1.0.tar.gz: its bytes are not the pinned ones",
        edit=vendored(LIB[0], LIB[1][:-20]),
    ),
    case("truncated archive that was locked so", "vendor/lib-1.0.tar.gz: unreadable", install=[(LIB[0], LIB[1][:-20])]),
    case("empty archive that was locked so", "vendor/lib-1.0.tar.gz", install=[(LIB[0], b"")]),
    case("symlink in vendor/", "vendor/lib-1.0.tar.gz: missing (lib 1.0 is pinned)", edit=linked),
    case("folders in vendor/", "vendor/more: not an archive", "vendor/lib-1.0.tar.gz: missing", edit=folders),
    case("moved checkout, in a path with spaces", edit=moved),
    *(
        case(
            f"sdist as {suffix}",
            NO_DEP,
            "lib 1.0 [build] -> tool: not in vendor/",
            install=[lib("dep", build=["tool"], suffix=suffix)],
        )
        for suffix in (".zip", ".tar.bz2", ".tar.xz")
    ),
    case("sdist as .tgz", "vendor/lib-1.0.tgz: no lock names it", edit=vendored("lib-1.0.tgz", LIB[1])),
    case(
        "old file name of an sdist, with dashes",
        asked="django-tagging\n",
        install=[("django-tagging-0.3.tar.gz", sdist("django-tagging", "0.3")[1])],
    ),
    case(
        "file name that states another package than its metadata",
        "vendor/lib-1.0.tar.gz: the file name says lib 1.0, its metadata says evil 1.0",
        install=[(LIB[0], sdist("evil", "1.0")[1])],
    ),
    case(
        "file name that states another version than its metadata",
        "the file name says lib 1.0, its metadata says lib 2.0",
        install=[("lib-1.0-py3-none-any.whl", wheel("lib", "2.0")[1])],
    ),
    case(
        "wheel that holds an sdist",
        "vendor/lib-1.0-py3-none-any.whl: unreadable",
        install=[("lib-1.0-py3-none-any.whl", LIB[1])],
    ),
    case(
        "wheel without metadata",
        "holds 0 folders of metadata",
        install=[("lib-1.0-py3-none-any.whl", pack("x.whl", {"lib.py": ""}))],
    ),
    case(
        "pin removed from the pins",
        f"{PINS}: lib-1.0.tar.gz is locked but not pinned here",
        edit=text("app.txt", lambda t: t[: t.index("./vendor")]),
    ),
    case(
        "pin added to the pins",
        f"{PINS}: new-1.0.tar.gz is pinned here but not locked",
        edit=line("app.txt", f"./vendor/new-1.0.tar.gz --hash=sha256:{'1' * 64}\n"),
    ),
    case(
        "pin with another hash",
        f"{PINS}: lib-1.0.tar.gz has another hash than the lock",
        edit=text("app.txt", lambda t: t[:-65] + "0" * 64 + "\n"),
    ),
    case(
        "pin with a second hash",
        f"{PINS}:4: not a pin",
        f"{PINS}: lib-1.0.tar.gz is locked but not pinned",
        edit=text("app.txt", lambda t: t.rstrip() + f" --hash=sha256:{'0' * 64}\n"),
    ),
    case(
        "pin with a weak hash",
        f"{PINS}:4: not a pin",
        f"{PINS}: lib-1.0.tar.gz is locked but not pinned",
        edit=text("app.txt", lambda t: t.replace("sha256", "md5")),
    ),
    case(
        "pin written twice",
        f"{PINS}:5: lib-1.0.tar.gz is pinned twice",
        edit=text("app.txt", lambda t: t + t.splitlines()[-1] + "\n"),
    ),
    case(
        "pin by name instead of by file",
        f"{PINS}:5: not a pin",
        edit=line("app.txt", f"more==1.0 --hash=sha256:{'1' * 64}\n"),
    ),
    case(
        "pin by an absolute file: path",
        f"{PINS}:5: a URL requirement is refused",
        edit=line("app.txt", f"file:///srv/more-1.0.tar.gz --hash=sha256:{'1' * 64}\n"),
    ),
    case(
        "pin that climbs out of vendor/",
        f"{PINS}:5: not a pin",
        edit=line("app.txt", f"./vendor/../more-1.0.tar.gz --hash=sha256:{'1' * 64}\n"),
    ),
    case(
        "pin with a variable in it",
        f"{PINS}: ${{HOME}}.tar.gz is pinned here but not locked",
        edit=line("app.txt", f"./vendor/${{HOME}}.tar.gz --hash=sha256:{'1' * 64}\n"),
    ),
    case(
        "pins in an encoding that hides a line",
        f"{PINS}: a comment that names an encoding is refused",
        edit=text("app.txt", lambda t: "# -*- coding: utf-7 -*-\n# x+AAo--i https://a.example\n" + t),
    ),
    case("missing pins", f"{PINS}: missing", edit=lambda project: project.pins_path.unlink()),
    case("missing .in file", "requirements/app.in: missing", edit=lambda project: project.asked_path.unlink()),
    case(
        "requirement taken out of the .in file",
        "requirements/app.in: changed since it was locked",
        asked="lib\nlib>=1\n",
        edit=text("app.in", lambda t: "lib\n"),
    ),
    case(
        "policy taken out of the .in file",
        "requirements/app.in: changed since it was locked",
        asked="lib\n# policy: lib source\n",
        edit=text("app.in", lambda t: "lib\n"),
    ),
    case(
        "policy that says neither source nor wheel",
        "requirements/app.in:2: a policy reads '# policy: NAME source'",
        edit=line("app.in", "# policy: lib maybe\n"),
    ),
    case(
        "byte order mark in the .in file",
        "requirements/app.in:1: '\\ufefflib' is not a requirement",
        "requirements/app.in: changed",
        edit=text("app.in", lambda t: "\ufeff" + t),
    ),
    case(
        "lock of another name",
        "requirements/pylock.app.toml locks 'dev', not 'app'",
        edit=text("pylock.app.toml", lambda t: t.replace('requirements = "app"', 'requirements = "dev"')),
    ),
    case(
        "lock of a newer format",
        "upgrade it",
        edit=text("pylock.app.toml", lambda t: t.replace("format = 2", "format = 3")),
    ),
    case(
        "lock with merge conflict marks",
        "requirements/pylock.app.toml: not a lock",
        edit=line("pylock.app.toml", "<<<<<<< HEAD\n"),
    ),
    case(
        "lock merged badly",
        "requirements/pylock.app.toml: its [[packages]] and [tool.sealed-deploy] disagree",
        edit=text("pylock.app.toml", lambda t: t.replace('path = "../vendor/lib', 'path = "/srv/vendor/lib')),
    ),
    case(
        "lock that names a file outside vendor/",
        "'../lib-1.0.tar.gz' is not a plain file name",
        edit=text("pylock.app.toml", lambda t: t.replace('"lib-1.0.tar.gz"', '"../lib-1.0.tar.gz"')),
    ),
    case(
        "broken lock of other requirements beside this one",
        "requirements/pylock.dev.toml: not a lock",
        edit=lambda project: project.lock_path.with_name("pylock.dev.toml").write_text("x"),
    ),
]
"""Files of vendor/ and of requirements/ that are missing, too many, or not what they were."""

TABLE = [*RUN_TIME, *BUILD_TIME, *MARKERS, *TARGETS, *VERSIONS, *FILES]


def locked(project: Project, one: Case) -> None:
    """Make the case's project."""
    sources = [*one.install, *(packed for group in one.builds.values() for packed in group)]
    builds = {
        file: one.builds[name]
        for file, _ in sources
        if (name := file.partition("-")[0]) in one.builds and not file.endswith(".whl")
    }
    project.lock(one.asked, one.install, builds, **one.lock)
    one.edit(project)


@pytest.mark.parametrize("one", TABLE, ids=[one.name for one in TABLE])
def test_line_35_what_check_says(project: Project, one: Case) -> None:
    """Exactly these problems, no other, whatever else is in order."""
    locked(project, one)
    found = project.problems()
    assert len(found) == len(one.says), found
    for problem, says in zip(found, one.says, strict=True):
        assert says in problem


@pytest.mark.parametrize("file", ["app.in", "app.txt"])
@pytest.mark.parametrize("words", LOOK_ELSEWHERE)
def test_lines_that_look_past_vendor(project: Project, file: str, words: str) -> None:
    """Each is refused with file and line, in what people write and in the pins."""
    project.lock("lib\n", [LIB])
    path = project.folder / "requirements" / file
    number = len(path.read_text().splitlines()) + 1
    path.write_text(f"{path.read_text()}{words}\n")
    refused = [one for one in project.problems() if one.startswith(f"requirements/{file}:{number}: ")]
    assert any(LOOK_ELSEWHERE[words] in one for one in refused), project.problems()
