"""A real tritonserver without Docker: the one in the wheel nvidia-pytriton, in an environment of
its own.

`make tritonserver` installs it (60 MB, and what it needs) into the user's cache folder, once for
all trees. It has the python backend and runs on CPUs; it has neither the onnxruntime nor the
tensorrt backend.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

VERSION = "0.7.0"
ROOT = Path(__file__).parents[2]
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# The SDK's dependencies: it is imported from the tree. This tritonserver gives empty outputs with
# numpy 2.
_PACKAGES = (
    f"nvidia-pytriton=={VERSION}",
    "numpy<2",
    "onnxruntime",
    "pillow",
    "platformdirs",
    "psutil",
    "pyvips[binary]",
    "click",
    "filelock",
)
_PIP_SECONDS = 900


class UnavailableError(Exception):
    """No server can be had here; the message says why."""


@dataclass(frozen=True)
class ServerEnvironment:
    """An installed server. folder: with its environment in `venv` and its backends in
    `backends`."""

    folder: Path

    @property
    def packages(self) -> Path:
        return self.folder / "venv" / "lib" / _PYTHON / "site-packages"

    @property
    def binary(self) -> Path:
        return self.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    def with_tree(self, folder: Path) -> tuple[dict[str, str], Path]:
        """Make what a server with this tree's SDK needs: environment variables and a folder of
        backends."""
        # The server's Python ignores PYTHONPATH: it takes the packages of the environment that is
        # first on the PATH.
        own = folder / "venv"
        venv.create(own, symlinks=True, with_pip=False)
        (own / "lib" / _PYTHON / "site-packages" / "tree.pth").write_text(
            f"{self.packages}\n{ROOT}\n{ROOT / 'apps'}\n"
        )
        backends = folder / "backends"
        shutil.copytree(self.folder / "backends", backends)
        libraries = [
            str(self.packages / "nvidia_pytriton.libs"),
            sysconfig.get_config_var("LIBDIR"),
        ]
        variables = {
            **os.environ,
            "PATH": f"{own / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),  # without it, the server hangs for ever
            "OMP_NUM_THREADS": "1",
        }
        return {name: value for name, value in variables.items() if name != "LD_PRELOAD"}, backends


def server_environment() -> ServerEnvironment:
    """The server, installed if it is not yet. Raises: UnavailableError."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError(
            f"nvidia-pytriton has no wheel for {sys.platform} on {platform.machine()}"
        )
    libraries = Path(sysconfig.get_config_var("LIBDIR"))
    if not list(libraries.glob(f"lib{_PYTHON}*.so*")):
        raise UnavailableError(
            f"this Python was built without a shared library, which the server needs in {libraries}"
        )
    cache = platformdirs.user_cache_path("srflow-sdk") / "tritonserver"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"pytriton-{VERSION}-{_PYTHON}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
            (folder / "complete").touch()
    return ServerEnvironment(folder)


def _install(folder: Path) -> None:
    venv.create(folder / "venv", symlinks=True, with_pip=True)
    command = [folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", *_PACKAGES]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"pip did not install nvidia-pytriton within {_PIP_SECONDS} s"
        ) from error
    if done.returncode:
        raise UnavailableError(
            f"pip cannot install nvidia-pytriton: {done.stderr.strip().splitlines()[-1]}"
        )
    server = ServerEnvironment(folder).packages / "pytriton" / "tritonserver"
    stub = (
        server
        / "python_backend_stubs"
        / _PYTHON.removeprefix("python")
        / "triton_python_backend_stub"
    )
    if not stub.is_file():
        raise UnavailableError(f"nvidia-pytriton has no python backend for {_PYTHON}")
    python = folder / "backends" / "python"
    shutil.copytree(
        server / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(stub, python)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{server_environment().binary}\n")
    except UnavailableError as error:
        sys.exit(f"error: {error}")
