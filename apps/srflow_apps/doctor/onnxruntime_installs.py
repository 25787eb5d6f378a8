"""Finds the distributions that claim the import name `onnxruntime`, and how they have damaged each other.

`onnxruntime`, `onnxruntime-gpu`, `onnxruntime-directml` and others all install a folder `onnxruntime/`, and pip does
not object: the one installed last overwrites the other's files, and uninstalling either then removes files of both.
Nothing here imports onnxruntime, which may be broken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

IMPORT_NAME = "onnxruntime"
CPU = "onnxruntime"
GPU = "onnxruntime-gpu"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A distribution that says it owns files of `onnxruntime/`.

    missing: how many of those files are not on the disk. folder: where they should be.
    """

    name: str
    version: str
    missing: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_claims(found: Iterable[Distribution] | None = None) -> list[Claim]:
    """All distributions of this environment (or the given ones) that own the import name, by name."""
    claims = {}
    for distribution in distributions() if found is None else found:
        claim = _claim(distribution)
        if claim is not None:
            claims[claim.name, claim.folder] = claim
    return sorted(claims.values(), key=lambda claim: claim.name)


def clashing(claims: Iterable[Claim]) -> list[Claim]:
    """The claims that share a folder with another, and so overwrite each other. Empty if all is well."""
    claims = list(claims)
    folders = [claim.folder for claim in claims]
    return [claim for claim in claims if folders.count(claim.folder) > 1]


def fix_command(claims: Iterable[Claim], *, keep: str) -> str:
    """The command that leaves only `keep`, complete, whatever was installed.

    Both are uninstalled first, because pip would otherwise leave files of either behind; `--no-deps`, because the
    dependencies are already installed.
    """
    names = sorted({CPU, GPU} | {claim.name for claim in claims})
    return f"pip uninstall -y {' '.join(names)} && pip install --force-reinstall --no-deps {keep}"


def _claim(distribution: Distribution) -> Claim | None:
    record = distribution.read_text("RECORD") or ""  # as it is: parsing every row would take seconds
    rows = record.splitlines() if f"{IMPORT_NAME}/" in record else []
    paths = [row.split(",", 1)[0].strip('"') for row in rows]
    # Wheels hold Python files; compiled caches are recorded too, and come and go.
    files = [path for path in paths if path.startswith(f"{IMPORT_NAME}/") and "__pycache__" not in path]
    if not files:
        return None
    return Claim(
        name=distribution.metadata["Name"].lower().replace("_", "-"),
        version=distribution.version,
        missing=sum(not Path(str(distribution.locate_file(path))).exists() for path in files),
        folder=Path(str(distribution.locate_file(IMPORT_NAME))),
    )
