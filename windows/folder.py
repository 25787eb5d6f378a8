"""Write the folder that Windows users download, as a zip: `make windows-zip`.

It holds a Python, the wheels of docker/windows.txt, the SDK with its models, and the files of
windows/commands/.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from email import message_from_string
from pathlib import Path

from srflow_sdk._version import __version__

from .python import install, write_interpreter

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "windows" / "commands"
NAME = f"srflow-sdk-{__version__}"
# Where python.exe looks for modules. It reads no variables and no other folders, whatever else is
# installed.
_SEARCHED = "python312.zip\n.\n..\\packages\n"
_RUNTIME = (
    "msvcp140.dll",
    "msvcp140_1.dll",
)  # of Visual C++, which ONNX Runtime needs and not every Windows has
_LEFT_OUT = (
    "**/tests",
    "**/__pycache__",
    "**/*.lib",
    "**/*.pyi",
    "bin",
    "Scripts",
    "*.whl",
    "[cmv]*140*.dll",
)
_LICENCES = (
    "docs/licences.md of the source names the licences of what is inside, besides its own "
    "files:\n\n"
)


def write_zip(wheel: Path, folder: Path) -> Path:
    """Write the zip of an SDK's wheel into a folder; returns its path."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name) / NAME
        _write_python(top / "python")
        _write_packages(top / "packages", wheel, beside=top / "python")
        for file in filter(Path.is_file, COMMANDS.iterdir()):
            lines = file.read_text(encoding="utf-8")
            ends = "\n" if file.suffix == ".py" else "\r\n"  # cmd.exe misreads other ends
            (top / file.name).write_text(lines, encoding="utf-8", newline=ends)
        (top / "drop.py").rename(top / "python" / "drop.py")
        for text in ("LICENSE", "NOTICE"):
            shutil.copy(ROOT / text, top / f"{text}.txt")
        (top / "LICENCES.txt").write_text(
            _licences(top / "packages"), encoding="utf-8", newline="\r\n"
        )
        folder.mkdir(exist_ok=True)
        return Path(
            shutil.make_archive(
                str(folder / f"{NAME}-windows-x64"), "zip", root_dir=name, base_dir=NAME
            )
        )


def _write_python(folder: Path) -> None:
    write_interpreter(folder)
    (folder / "python312._pth").write_text(_SEARCHED, encoding="ascii")


def _write_packages(folder: Path, wheel: Path, *, beside: Path) -> None:
    install(folder, "--require-hashes", "-r", ROOT / "docker" / "windows.txt")
    install(folder, "--no-deps", wheel)
    for library in _RUNTIME:
        shutil.move(folder / library, beside / library)
    for pattern in _LEFT_OUT:
        for path in list(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _licences(packages: Path) -> str:
    """A line for each package: its version, its licence, and where its texts are."""
    lines = [_LICENCES, "Python: PSF-2.0, python/LICENSE.txt\n"]
    for info in sorted(packages.glob("*.dist-info")):
        said = message_from_string((info / "METADATA").read_text(encoding="utf-8"))
        classifiers = said.get_all("Classifier", [])
        names = [
            text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")
        ]
        licence = (
            said.get("License-Expression") or ", ".join(names) or str(said.get("License"))[:60]
        )
        lines.append(f"{said['Name']} {said['Version']}: {licence}, packages/{info.name}\n")
    return "".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    path = write_zip(chosen.wheel, chosen.folder)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
