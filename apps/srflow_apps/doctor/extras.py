"""The doctor's checks of the SDK's extras: which of their packages are installed here, in versions that fit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from srflow_apps.doctor.checks import Check

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


@dataclass(frozen=True, kw_only=True)
class _Found:
    """An extra's packages: as they are installed, absent, in another version, or not made for this machine."""

    present: list[str]
    absent: list[str]
    other: list[str]
    elsewhere: list[str]


def check_extra(extra: str) -> Check:
    """Check an extra of :data:`PURPOSES` against the distributions that are installed."""
    name, purpose = PURPOSES[extra]
    try:
        found = _found(extra)
    except metadata.PackageNotFoundError:  # the SDK itself, started from its files
        return Check(name=name, state="missing", detail=f"{purpose}: unknown, because {DISTRIBUTION} is not installed")
    except ImportError as error:  # packaging, absent or broken
        fix = "pip install --force-reinstall packaging"
        return Check(name=name, state="problem", detail=f"{purpose}: unknown: {error}", fixes=(("", fix),))
    fixes = (("", f'pip install "{DISTRIBUTION}[{extra}]"'),)
    elsewhere = f"not made for this Python or machine: {', '.join(found.elsewhere)}" if found.elsewhere else ""
    if found.other:
        return Check(name=name, state="problem", detail=f"{purpose}: {', '.join(found.other)}", fixes=fixes)
    if found.absent:
        return Check(
            name=name, state="missing", detail=f"{purpose}; not installed: {', '.join(found.absent)}", fixes=fixes
        )
    if not found.present:
        return Check(name=name, state="missing", detail=f"{purpose}; {elsewhere}")
    return Check(name=name, state="ok", detail="; ".join(filter(None, (", ".join(found.present), elsewhere))))


def _found(extra: str) -> _Found:
    found = _Found(present=[], absent=[], other=[], elsewhere=[])
    for requirement in _requirements(extra):
        assert requirement.marker is not None  # for the type checker: see _requirements
        if not requirement.marker.evaluate({"extra": extra}):
            found.elsewhere.append(requirement.name)
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found.absent.append(requirement.name)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            found.present.append(f"{requirement.name} {version}")
        else:
            found.other.append(f"{requirement.name} {version} is installed, {requirement.specifier} is needed")
    return found


def _requirements(extra: str) -> list[Requirement]:
    """What the extra asks for on any machine, from the SDK's own metadata. Each has a marker that names the extra."""
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    return [one for one in asked if re.search(rf'extra == "{extra}"', str(one.marker))]
