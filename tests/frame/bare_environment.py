"""Environments with only the wheel and its base dependencies: no torch, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    ".ci",
    "srflow_sdk",
    "apps",
    "training",
    "export",
    "runtime",
    "examples",
    "benchmarks",
    "docker",
    "docs",
    "tests",
    "windows",
)
# by Python, and by npm in examples/web
BUILT = ("__pycache__", "*.egg-info", "*.pyc", "node_modules", "dist")


@dataclass(frozen=True)
class BareEnvironment:
    """A virtual environment without pip."""

    path: Path

    @property
    def site_packages(self) -> Path:
        return next(self.path.glob("lib/python*/site-packages"))

    def run(
        self, command: str, *arguments: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a console script of the environment, or its python."""
        return subprocess.run(
            [self.path / "bin" / command, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=cwd or self.path,
            env=_clean_environ(),
        )


def build_distributions(folder: Path) -> None:
    """Build as a release does: an sdist from a clean copy of the tree, the wheel from that."""
    source = folder / "source"
    source.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*BUILT))
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":  # of a worktree
            shutil.copy(path, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def make_bare_environment(path: Path, wheel: Path) -> BareEnvironment:
    """Install the wheel in a new environment, and link the base dependencies from this one."""
    venv.create(path, with_pip=False, symlinks=True)
    environment = BareEnvironment(path)
    _pip("--python", str(path / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel))
    for distribution in base_distributions():
        link_distribution(distribution, environment.site_packages)
    return environment


def base_distributions() -> list[metadata.Distribution]:
    """The dependencies that `pip install srflow-sdk` also installs, as installed here."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(Requirement(text), "") for text in metadata.requires("srflow-sdk") or []]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        distribution = metadata.distribution(requirement.name)
        seen = distribution.metadata["Name"] in found
        found[distribution.metadata["Name"]] = distribution
        for wanted in requirement.extras if seen else ("", *requirement.extras):
            waiting += [(Requirement(text), wanted) for text in distribution.requires or []]
    return list(found.values())


def link_distribution(distribution: metadata.Distribution, site_packages: Path) -> None:
    for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        link = site_packages / top
        if not link.exists():
            link.symlink_to(str(distribution.locate_file(top)))


def interpreter(version: str) -> Path | None:
    """A Python of this machine: on the PATH, or of pyenv."""
    places = [
        Path(folder) / f"python{version}"
        for folder in os.environ["PATH"].split(os.pathsep)
        if "shims" not in folder
    ]
    places += sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    return next((place for place in places if place.is_file()), None)


def make_environment_of(version: str, path: Path, *requirements: str | Path) -> Path:
    """Install requirements for a Python, as pipx does it, in an environment of its own; returns the
    commands' folder.

    Skips the test if this machine does not have that Python, or reaches no package index.
    """
    if (python := interpreter(version)) is None:
        pytest.skip(f"this machine has no Python {version}")
    subprocess.run([python, "-m", "venv", "--without-pip", path], check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "--python", path / "bin/python"]
    # To compile all takes longest.
    options = ["--disable-pip-version-check", "--quiet", "--no-compile"]
    command = [*pip, "install", *options, *requirements]
    done = subprocess.run(command, capture_output=True, text=True)
    offline = ("No matching distribution found for click", "onnection")
    if done.returncode and any(text in done.stderr for text in offline):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return path / "bin"


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=_clean_environ())
    assert done.returncode == 0, done.stderr


def _clean_environ() -> dict[str, str]:
    """The environment variables, without those that would add packages of another environment."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}
