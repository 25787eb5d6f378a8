"""`python -m srflow_export.native cpu|cuda|tensorrt`: build native libraries for the SDK.

It runs in a clone of srflow-sdk, or in its unpacked sdist, which have the sources in runtime/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

import click

from srflow_sdk.backends.native_library import _BESIDE
from srflow_sdk.errors import ArgumentError, ExportError, MissingExtraError, SRFlowError
from srflow_sdk.system.hardware import cuda_of_wheels, find_gpu
from srflow_sdk.system.local_files import write_atomically

_NEEDED = {"cpu": "libsrflow_ort", "cuda": "libsrflow_cuda", "tensorrt": "libsrflow_trt"}
_TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
# wheels that carry TensorRT's headers, by their major version
_HEADERS = {"10": "kernel-lens==2.0.1"}
_NVCC = ("nvidia-cuda-nvcc", "nvidia-cuda-cccl")  # of CUDA 13: PyPI has none of CUDA 12
# The installed SDK, although `python -m` finds the clone's first; they are the same in an editable
# install.
_SDK = next(
    folder
    for folder in (Path(__file__).parents[1] / "srflow_sdk", _BESIDE.parent)
    if folder.is_dir()
)


# no -h: it would be found in -DTensorRT_… too
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("preset", type=click.Choice(list(_NEEDED)))
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-DNAME=VALUE]...")
def main(preset: str, options: tuple[str, ...]) -> None:
    """Build the native libraries of a preset, and place them where the SDK looks for them.

    cpu and cuda: kernels for ONNX Runtime. tensorrt: plugins too. Further options go to CMake
        (docs/native.md).
    """
    try:
        build(Path.cwd(), preset, *options, into=_SDK / "native")
    except (SRFlowError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def build(source: Path, preset: str, *options: str, into: Path) -> None:
    """Build below `source`/build/, and place all libraries in the folder `into`.

    CMake's output passes through.

    TensorRT's headers and nvcc come from PyPI where the options name none and there is none.
    Raises: ArgumentError for sources of another version, MissingExtraError without CMake or nvcc,
    ExportError if CMake or pip fails.
    """
    version = source / "srflow_sdk" / "_version.py"
    folder = source / "build" / f"native-{preset}"
    if not version.is_file() or version.read_bytes() != (_SDK / "_version.py").read_bytes():
        raise ArgumentError(
            f"{source} is no clone or sdist of the srflow-sdk that is installed in {_SDK}; go to "
            "the folder of one"
        )
    tool_options = _fetch_tools(source / "build" / "native-tools", preset, " ".join(options))
    generator = ("-G", "Ninja") if _find_tool("ninja") else ()
    _run_cmake(
        "--fresh",
        "-S",
        source,
        "--preset",
        preset,
        "-B",
        folder,
        *generator,
        "-DSRFLOW_TESTS=OFF",
        *tool_options,
        *options,
    )
    _run_cmake("--build", folder, "--parallel", os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as stage:
        _run_cmake("--install", folder, "--prefix", stage)
        built = sorted(Path(stage, "lib").glob("libsrflow_*"))
        if _NEEDED[preset] not in {path.stem for path in built}:
            raise ExportError(
                f"{_NEEDED[preset]} was left out; CMake's warning above says what it needs"
            )
        into.mkdir(exist_ok=True)
        for path in built:
            # processes may have the older one loaded
            write_atomically(into / path.name, path.read_bytes())
            click.echo(f"wrote {into / path.name}")


def _fetch_tools(tools: Path, preset: str, given: str) -> list[str]:
    """Fetch TensorRT's headers and nvcc where there are none; returns CMake's options for them.

    Raises: MissingExtraError if the driver is too old for this nvcc, ExportError if pip fails.
    """
    tensorrt = [each.version for name in _TENSORRT for each in metadata.distributions(name=name)]
    options = [f"-DSRFLOW_TENSORRT_VERSION={version}" for version in tensorrt[:1]]
    major = tensorrt[0].partition(".")[0] if tensorrt else "10"
    has_headers = "TensorRT_INCLUDE_DIR" in given or "TENSORRT_INCLUDE_DIR" in os.environ
    if preset == "tensorrt" and not has_headers and major in _HEADERS:  # else CMake names them
        headers = tools / "kernel_lens" / "include" / "tensorrt"
        _fetch(headers, tools, "--no-deps", _HEADERS[major])
        options.append(f"-DTensorRT_INCLUDE_DIR={headers}")
    has_nvcc = "CMAKE_CUDA_COMPILER" in given or _find_tool("nvcc") or "CUDACXX" in os.environ
    if preset != "cpu" and not has_nvcc:
        if (gpu := find_gpu()) is not None and cuda_of_wheels(gpu.cuda) < 13:
            raise MissingExtraError(
                f"nvcc is not on the PATH, and this driver needs one of CUDA {gpu.cuda} or older"
            )
        nvcc = tools / "nvidia" / "cu13" / "bin" / "nvcc"
        _fetch(nvcc, tools, *_NVCC)
        options.append(f"-DCMAKE_CUDA_COMPILER={nvcc}")
    return options


def _fetch(tool: Path, tools: Path, *packages: str) -> None:
    """Install packages into a folder of tools. Raises: ExportError if pip fails."""
    if not tool.exists():
        click.echo(f"fetching {' '.join(packages)} into {tools}")
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(tools),
            *packages,
        ]
        if subprocess.run(command, check=False).returncode != 0 or not tool.exists():
            raise ExportError(
                f"pip did not bring {tool}; its output above says why, and docs/native.md the "
                "way without"
            )


def _find_tool(name: str) -> str | None:
    """The environment's own first, even if it is not active."""
    return shutil.which(
        name, path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    )


def _run_cmake(*arguments: object) -> None:
    if (cmake := _find_tool("cmake")) is None:
        raise MissingExtraError("CMake is not installed: pip install '.[native]'")
    if (status := subprocess.run([cmake, *map(str, arguments)], check=False).returncode) != 0:
        raise ExportError(
            f"cmake {arguments[0]} failed with status {status}; its output above says why"
        )


if __name__ == "__main__":
    main()
