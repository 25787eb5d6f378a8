"""A Windows of a kind: its Python and its wheels under Wine, made once in build/windows/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import platformdirs

from .python import install, write_interpreter

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "windows"
_PACKAGES = (
    *(
        "-r",
        ROOT / "pyproject.toml",
        "--extra",
        "export",
        "--extra",
        "train",
        "--extra",
        "demo",
        "--extra",
        "heic",
    ),
    *("pytest", "hypothesis", "tifffile", "opencv-python-headless", "scikit-image"),
    # Linux's, so that pictures can be compared to the bit
    f"onnxruntime=={metadata.version('onnxruntime')}",
    *("numpy<2.1", "torch<2.14"),  # newer ones need what Wine 10 does not have
)
_VARIABLES = {
    "WINEARCH": "win64",
    # Not in the tree: drive Z: is a link to /, and setuptools follows links when it looks for
    # files.
    "WINEPREFIX": str(platformdirs.user_cache_path("srflow-sdk") / "wine"),
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree,mshtml=",  # it would ask to download these
    "XDG_RUNTIME_DIR": str(FOLDER),  # or it complains
    "KMP_AFFINITY": "disabled",  # torch's OpenMP asks Wine for what it does not have
    "OMP_NUM_THREADS": "1",
}


def wine() -> str | None:
    """The program that starts Windows' programs; None if this machine has none."""
    return shutil.which("wine64", path=f"{os.environ['PATH']}:/usr/lib/wine")


def windows_path(path: Path) -> str:
    """A path of this machine as Windows' programs name it."""
    return f"Z:{path.resolve()}".replace("/", "\\")


def windows_python() -> Path:
    """python.exe with all that the tests need, installed if it is not yet, as in a developer's
    environment.
    """
    python = FOLDER / "python"
    packages = python / "Lib" / "site-packages"
    is_made = FOLDER / "made-of.txt"
    made_of = "\n".join(
        [*map(str, _PACKAGES), (ROOT / "pyproject.toml").read_text(encoding="utf-8")]
    )
    if not is_made.is_file() or is_made.read_text(encoding="utf-8") != made_of:
        shutil.rmtree(FOLDER, ignore_errors=True)
        write_interpreter(python)
        (python / "python312._pth").unlink()  # with it, PYTHONPATH would be ignored
        install(packages, *_PACKAGES)
        name = f"srflow_sdk-{metadata.version('srflow-sdk')}.dist-info"
        shutil.copytree(Path(sysconfig.get_path("purelib"), name), packages / name)
        is_made.write_text(made_of, encoding="utf-8")
    return python / "python.exe"


def command(program: Path, *words: str) -> list[str]:
    """What starts a program of Windows."""
    return [str(wine()), str(program), *words]


def variables(**more: str) -> dict[str, str]:
    """The environment of such a command; PYTHONPATH is the tree."""
    places = [ROOT, ROOT / "apps", ROOT / "training", ROOT / "export"]
    return {**os.environ, **_VARIABLES, "PYTHONPATH": ";".join(map(windows_path, places)), **more}


def run_python(*words: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run that Python in the tree's root; its output is shown as it comes, or returned."""
    whole = command(windows_python(), *words)
    Path(_VARIABLES["WINEPREFIX"]).parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        whole, cwd=ROOT, env=variables(), text=True, capture_output=capture, check=False
    )
