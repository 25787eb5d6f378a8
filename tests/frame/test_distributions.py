"""The wheel and the sdist: exactly what is in them, and that they install on every Python that is
promised."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path

import pytest
from PIL import Image
from trove_classifiers import classifiers

from tests.docs.pages import links

from .bare_environment import BUILT, ROOT, make_environment_of

PACKAGES = {
    "srflow_sdk": "srflow_sdk",
    "srflow_apps": "apps/srflow_apps",
    "srflow_training": "training/srflow_training",
    "srflow_evaluation": "training/srflow_evaluation",
    "srflow_export": "export/srflow_export",
}
# The oldest numpy and a new one, each on an old and on a new Python.
PYTHONS = {"3.10": "numpy==1.26.*", "3.11": "numpy>=2", "3.12": "numpy==1.26.*", "3.13": "numpy>=2"}


def files(place: str) -> set[str]:
    """Files below a folder of the repository, without what was built there; or the file itself."""
    paths = (ROOT / place).rglob("*") if (ROOT / place).is_dir() else [ROOT / place]
    kept = (path.relative_to(ROOT) for path in paths if path.is_file())
    return {
        path.as_posix()
        for path in kept
        if not any(fnmatch(part, name) for part in path.parts for name in BUILT)
    }


def test_the_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    wanted = {
        f"{name}{path.removeprefix(place)}"
        for name, place in PACKAGES.items()
        for path in files(place)
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name.split("/", 1)[1] for name in names if ".dist-info/" in name}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE"} <= info


def test_the_sdist_has_every_file_that_git_has_but_weights_to_go_on_from(built: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no clone")
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # One that was just deleted is listed, too.
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert len(tracked) > 500
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [member.name.split("/", 1)[1] for member in archive if member.isfile()]
    missing = tracked - set(names)
    assert {str(Path(name).parent) for name in missing} <= {"training/starts"}


def metadata_of(built: Path) -> Message:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheels_description_leads_nowhere_that_pypi_does_not_have(built: Path) -> None:
    metadata = metadata_of(built)
    description = metadata.get_payload(decode=True)
    assert isinstance(description, bytes)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert description.decode().strip() == (ROOT / "PYPI.md").read_text("utf-8").strip()
    found = links(description.decode())
    assert "https://arxiv.org/abs/2006.14200" in found
    assert not [link for link in found if not link.startswith("https://")]


def test_the_wheels_classifiers_exist_and_name_the_pythons_that_are_tried(built: Path) -> None:
    named = metadata_of(built).get_all("Classifier") or []
    assert set(named) <= set(classifiers)
    versions = {
        text.rpartition(" :: ")[2]
        for text in named
        if text.startswith("Programming Language :: Python :: 3.")
    }
    assert versions == set(PYTHONS)
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(named)


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_a_bare_install_upscales_on_every_python(built: Path, tmp_path: Path, version: str) -> None:
    (wheel,) = built.glob("*.whl")
    commands = make_environment_of(version, tmp_path / "env", wheel, PYTHONS[version])
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as photo:
        photo.resize((40, 30)).save(tmp_path / "photo.png")
    command = [commands / "srflow-upscale", "photo.png", "-o", "large.png", "--threads", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (160, 120)
    command = [commands / "python", "-c", "import numpy; print(numpy.__version__)"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.stdout.startswith(PYTHONS[version].strip("numpy=>*"))
