"""The doctor's checks of the SDK's extras: which of their packages are installed here, in versions that fit."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

from srflow_apps.doctor.checks import Check, fix

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "srflow-sdk"
PURPOSES = {
    "export": ("srflow-export", "checkpoints become bundles"),
    "train": ("srflow-train", "training and srflow-eval"),
    "demo": ("srflow-demo", "a local page"),
    "triton": ("Triton client", "--server"),
    "cloud": ("URLs", "s3:// in the place of paths"),
    "ray": ("Ray", "--ray"),
}
"""Name of the line and what it is for, by the extra."""
CHECKED_ELSEWHERE = {"gpu", "openvino", "rtx", "tensorrt", "webgpu"}
"""Extras whose devices have checks of their own."""
IN_A_CLONE = {"bench", "dev", "docs"}
"""Extras for working on the SDK itself."""

_STATES = ("present", "absent", "other", "elsewhere")
"""Installed as needed, not installed, installed in another version, not made for this machine."""


def check_extra(extra: str) -> Check:
    """Check an extra of :data:`PURPOSES` against the distributions that are installed."""
    name, purpose = PURPOSES[extra]
    try:
        found = _found(extra)
    except metadata.PackageNotFoundError:  # the SDK itself, started from its files
        return Check(name, "missing", f"{purpose}: unknown, because {DISTRIBUTION} is not installed")
    except ImportError as error:  # packaging, absent or broken
        return Check(name, "problem", f"{purpose}: unknown: {error}", fix("pip install --force-reinstall packaging"))
    install = fix(f'pip install "{DISTRIBUTION}[{extra}]"')
    present, absent, other, elsewhere = (", ".join(found[state]) for state in _STATES)
    if elsewhere:
        elsewhere = f"not made for this Python or machine: {elsewhere}"
    if other:
        return Check(name, "problem", f"{purpose}: {other}", install)
    if absent:
        return Check(name, "missing", f"{purpose}; not installed: {absent}", install)
    if not present:
        return Check(name, "missing", f"{purpose}; {elsewhere}")
    return Check(name, "ok", "; ".join(filter(None, (present, elsewhere))))


def _found(extra: str) -> dict[str, list[str]]:
    """The extra's packages by how they are found, one of :data:`_STATES`."""
    found: dict[str, list[str]] = {state: [] for state in _STATES}
    for requirement in _requirements(extra):
        name, marker = requirement.name, requirement.marker
        assert marker is not None  # for the type checker: see _requirements
        if not marker.evaluate({"extra": extra}):
            found["elsewhere"].append(name)
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found["absent"].append(name)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            found["present"].append(f"{name} {version}")
        else:
            found["other"].append(f"{name} {version} is installed, {requirement.specifier} is needed")
    return found


def _requirements(extra: str) -> list[Requirement]:
    """The extra's requirements on any machine, from the SDK's own metadata. Each has a marker that names the extra."""
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    return [one for one in asked if re.search(rf'extra == "{extra}"', str(one.marker))]
