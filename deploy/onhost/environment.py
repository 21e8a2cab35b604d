"""Give one release its virtualenv: linked to packages that are known and intact here, or built and installed.

Trusts nothing it did not hash in this run: an entry of the env store that rotted, or was built under a weaker seal than
the operator accepts now, is never linked again. Where releases still link to it, the new one gets packages of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from deploy.wire.manifest import Manifest, Target
from deploy.wire.names import canonical_name

from . import envs, landlock, marker, toolchain, venvs
from .install import install
from .layout import remove_tree
from .sealed import Sealer, open_sealer
from .session import Session
from .wheels import Wheels, wheel_keys

Entry = Dict[str, Any]
_OF_THE_PACKAGES = ("packages", "wheels", "build_wheels", "sealed", "landlock", "attempts")
"""What is known of installed packages, kept with them and with each release that links to them."""


def usable(session: Session, manifest: Manifest, target: Target) -> Optional[Entry]:
    """The record of the shared packages that this release can link to, or None: looked at once per run, every byte.

    Raises OSError. An entry that cannot be used is removed where no release links to it any more.
    """
    if manifest.settings["site_packages"] == "copy":
        return None
    key = envs.env_key(target)
    if key not in session.environments:
        session.environments[key] = _intact(session, key)
    return session.environments[key]


def give(session: Session, manifest: Manifest, target: Target, work: Path) -> Tuple[Sealer, Dict[str, Any]]:
    """Make the release's virtualenv, complete; returns the seal it was made under and the proof. Raises StepFailed."""
    venv = session.layout.release(manifest.release_id) / "venv"
    tools = toolchain.unpack(session, target)
    key = envs.env_key(target)
    known = usable(session, manifest, target)
    # Where the environment is known here nothing foreign runs but virtualenv, in the seal that was proven then.
    sealer = Sealer(session, work, tools, str(known["sealed"])) if known else open_sealer(session, work, tools)
    with session.step("venv", "virtualenv"):
        venvs.make(session, sealer, venv)
    before = envs.contents(venv)
    if known:
        with session.step("packages", "%d packages, as installed before" % len(target.install)):
            envs.link(session.layout, key, venv)
        told = {name: known[name] for name in _OF_THE_PACKAGES if name in known}
        told["provenance"] = _provenance(target, known.get("wheels", {}))
        return sealer, dict(told, env_key=key, env_shared=True)
    wheels = Wheels(session, target, dict(manifest.archives), sealer)
    installed = wheels.all_of(target.install)
    proof = dict(install(session, sealer, venv, target, installed), built=wheels.built, sealed=wheels.seal())
    proof["landlock"] = landlock.abi()
    proof["attempts"] = wheels.attempts()
    proof["build_wheels"] = wheels.other_than(target.install)
    proof["provenance"] = _provenance(target, proof["wheels"])
    shared = manifest.settings["site_packages"] != "copy" and not (session.layout.envs / key).exists()
    if shared:
        facts = {name: proof[name] for name in _OF_THE_PACKAGES}
        shared = envs.capture(session.layout, key, venv, before, facts)
    return sealer, dict(proof, env_key=key, env_shared=shared)


def _provenance(target: Target, wheels: Mapping[str, str]) -> Dict[str, Dict[str, Optional[str]]]:
    """What each installed package was made of: the digests of its archive, of its build and of the wheel installed.

    ``build`` is the key of store/wheels: archive, exact build environment and interpreter; None where a wheel was
    vendored. Told from the target and the wheels alone, so a release that links to packages kept earlier has the same.
    """
    keys = wheel_keys(target)
    digests = {canonical_name(file.split("-")[0]): digest for file, digest in wheels.items()}
    found: Dict[str, Dict[str, Optional[str]]] = {}
    for package in (target.packages[digest] for digest in target.install):
        name = canonical_name(package.name)
        build = keys[package.sha256] if package.kind == "sdist" else None
        found[name] = {"archive": package.sha256, "build": build, "wheel": digests.get(name)}
    return found


def _intact(session: Session, key: str) -> Optional[Entry]:
    layout = session.layout
    about = envs.marker(layout, key)
    if about is not None and (about.get("sealed") == "kernel" or session.policy.accept_seal == "pip"):
        with session.step("verify", "packages"):
            wrong = envs.differences(layout, key)
        if not wrong:
            return about
        session.tell("verify", "warned", "; ".join(wrong[:5]))
    if not any(_links_to(session, key, name) for name in layout.present()):
        remove_tree(layout.envs / key)
    return None


def _links_to(session: Session, key: str, name: Any) -> bool:
    try:
        selection = marker.read(session.layout, name).selection
    except marker.NotARelease:
        return False
    return bool(selection.get("env_shared")) and selection.get("env_key") == key
