"""The wheel and the sdist: exactly what is in them, and that they install on every Python that is promised."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from .bare_environment import ROOT

PACKAGES = {
    "srflow_sdk": "srflow_sdk",
    "srflow_training": "training/srflow_training",
    "srflow_export": "export/srflow_export",
}
BESIDE = (
    *("LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"),
    *("CMakeLists.txt", "CMakePresets.json"),
)
_EGG_INFO = ("PKG-INFO", "SOURCES.txt", "dependency_links.txt", "entry_points.txt", "requires.txt", "top_level.txt")
MADE = {"PKG-INFO", "setup.cfg", *(f"srflow_sdk.egg-info/{name}" for name in _EGG_INFO)}
# The oldest numpy and a new one, each on an old and on a new Python.
PYTHONS = {"3.10": "numpy==1.26.*", "3.11": "numpy>=2", "3.12": "numpy==1.26.*", "3.13": "numpy>=2"}


def files(folder: str) -> set[str]:
    """Files below a folder of the repository, without what Python leaves there."""
    paths = (ROOT / folder).rglob("*") if (ROOT / folder).is_dir() else [ROOT / folder]
    kept = (path for path in paths if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix() for path in kept}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both, made as a release makes them: the sdist from the tree, the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in (
        "pyproject.toml",
        "MANIFEST.in",
        "srflow_sdk",
        "training",
        "export",
        "runtime",
        "docs",
        "tests",
        *BESIDE,
    ):
        leftovers = shutil.ignore_patterns("__pycache__", "*.egg-info")
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, source / name, **({"ignore": leftovers} if (ROOT / name).is_dir() else {})
        )
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_the_three_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    wanted = {f"{name}{path.removeprefix(place)}" for name, place in PACKAGES.items() for path in files(place)}
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name.split("/", 1)[1] for name in names if ".dist-info/" in name}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert info == {
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "top_level.txt",
        "licenses/LICENSE",
        "licenses/NOTICE",
    }


def test_the_sdist_holds_the_packages_the_native_code_and_the_papers(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    wanted = {
        path
        for place in (*PACKAGES.values(), "runtime", "MANIFEST.in", "pyproject.toml", *BESIDE)
        for path in files(place)
    }
    assert names == wanted | MADE


def interpreter(version: str) -> Path | None:
    """A Python of this machine: on the PATH, or of pyenv."""
    places = [
        Path(folder) / f"python{version}" for folder in os.environ["PATH"].split(os.pathsep) if "shims" not in folder
    ]
    places += sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    return next((place for place in places if place.is_file()), None)


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_a_bare_install_upscales_on_every_python(built: Path, tmp_path: Path, version: str) -> None:
    if (python := interpreter(version)) is None:
        pytest.skip(f"this machine has no Python {version}")
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    # As pipx does it: an environment of its own, the commands started by their path.
    pip = [tmp_path / "env/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, wheel, PYTHONS[version]], capture_output=True, text=True)
    if done.returncode and ("No matching distribution found for click" in done.stderr or "onnection" in done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as photo:
        photo.resize((40, 30)).save(tmp_path / "photo.png")
    command = [tmp_path / "env/bin/srflow-upscale", "photo.png", "-o", "large.png", "--threads", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (160, 120)
    found = subprocess.run(
        [tmp_path / "env/bin/python", "-c", "import numpy; print(numpy.__version__)"], capture_output=True, text=True
    )
    assert found.stdout.startswith(PYTHONS[version].strip("numpy=>*"))
