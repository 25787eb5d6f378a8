"""The kernels that TensorRT-RTX's builder chooses for the full-size network, without a GPU: its
list, with tensors.

`python -m tests.native.builders_list [PRESET]` prints the table of docs/notes/speed.md. Steps are
the same, so two of them a level tell of sixteen. TensorRT-RTX stands in for TensorRT, with plugins
whose launchers do nothing.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from srflow_export import onnx_models
from srflow_sdk.backends.native_library import PLUGINS
from srflow_training.presets import load_settings
from tests.native.conftest import ROOT, tensorrt_headers
from tests.networks import random_srflow

STEPS = 16  # of a level of the published network
_CUDA = "typedef struct CUstream_st* cudaStream_t;\ntypedef struct CUevent_st* cudaEvent_t;\n"
_BYTES = {"Float": 4, "Half": 2}
_LAYER = re.compile(
    r"Name: (\S+), LayerType: (\w+), Inputs: (.*), Constants: .*, Outputs: (.*), TacticName"
)
_TENSOR = re.compile(
    r"Dimensions: \[([-0-9,]*)\], Strides: \[[^]]*\], StrideOrder: \[[^]]*\], Datatype: (\w+)"
)


@dataclass(frozen=True)
class Kernel:
    """name: the builder's, without numbers, such as "AddRelu". kind: such as "correlation". nbytes:
    what it moves."""

    name: str
    kind: str
    nbytes: int


def kernels_of(log: str) -> list[Kernel]:
    """Read the builder's list in its log. One image and one sample: other extents are given."""
    kernels = list[Kernel]()
    for name, kind, inputs, outputs in _LAYER.findall(log):
        if kind in ("shape_call", "wait", "signal"):
            continue
        read, written = (
            [
                _BYTES[dtype] * math.prod(abs(int(side)) for side in sides.split(","))
                for sides, dtype in found
            ]
            for found in (_TENSOR.findall(inputs), _TENSOR.findall(outputs))
        )
        # What a kernel slices is listed whole: it reads what it writes.
        most = sum(written) if "Slic" in name else max(read)
        plain = re.sub(r"(_U?\d+)*_myl\d+_\d+$", "", name.replace("__myl_", ""))
        kernels.append(Kernel(plain, kind, sum(written) + sum(min(each, most) for each in read)))
    return kernels


def count_bytes(kernels: list[Kernel]) -> int:
    """Bytes that kernels read and write in all."""
    return sum(each.nbytes for each in kernels)


def export(folder: Path, *, steps: int, preset: str = "published-x4") -> None:
    """Write encoder.onnx and sampler.onnx of a published network with two blocks and so many steps
    a level."""
    model = random_srflow(
        load_settings(preset, ["network.blocks=2", f"network.steps={steps}"]).config()
    )
    for name, proto in (
        ("encoder.onnx", onnx_models.encoder_model(model, "fp16")),
        ("sampler.onnx", onnx_models.sampler_model(model, "fp16", flow_nodes=True)),
    ):
        (folder / name).write_bytes(onnx_models.serialise(proto, {}))


def build_plugins(folder: Path) -> Path:
    """Compile the plugins with launchers that do nothing: without nvcc or CUDA."""
    (folder / "cuda_runtime_api.h").write_text(_CUDA)
    source = ROOT / "runtime" / "tensorrt"
    library = folder / "libsrflow_trt.so"
    names = ("creators", "fields", "library", "logging", "ops", "tests/fake_launchers")
    headers = [ROOT / "runtime" / "include", source, folder]
    command = ["c++", "-std=c++17", "-shared", "-fPIC", *(f"-I{each}" for each in headers)]
    command += [
        "-isystem",
        str(tensorrt_headers()),
        *(str(source / f"{name}.cpp") for name in names),
    ]
    subprocess.run([*command, "-o", str(library), "-ldl"], check=True)
    return library


def rtx_links(folder: Path) -> Path:
    """Make a folder with a file named libtensorrt_rtx.so, without which plugins end the process."""
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("TensorRT-RTX is not installed: pip install 'srflow-sdk[rtx]'")
    (real,) = Path(spec.submodule_search_locations[0]).glob("libtensorrt_rtx.so.*")
    (folder / "libtensorrt_rtx.so").symlink_to(real)
    return folder


def run_rtx_builder(
    links: Path, *arguments: object, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run rtx_builder.py with TensorRT-RTX."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    environment[PLUGINS] = ""  # also where a library is installed
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(
        [str(links), os.environ.get("LD_LIBRARY_PATH", "")]
    )
    command = [
        sys.executable,
        str(Path(__file__).with_name("rtx_builder.py")),
        *map(str, arguments),
    ]
    return subprocess.run(
        command,
        env=environment | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def list_kernels(links: Path, model: Path, plugins: Path | None = None) -> list[Kernel]:
    """The kernels of the engine that srflow-export would build of a graph."""
    variables = {} if plugins is None else {PLUGINS: str(plugins)}
    result = run_rtx_builder(links, "without" if plugins is None else "with", model, **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    return kernels_of(json.loads(result.stdout.splitlines()[-1])["log"])


def main(preset: str = "published-x4") -> None:
    """Print what two and four steps a level make of sixteen, in Markdown."""
    counted: dict[str, list[list[Kernel]]] = {}
    with tempfile.TemporaryDirectory() as name:
        links = rtx_links(Path(name))
        library = build_plugins(links)
        for steps in (2, 4):
            export(links, steps=steps, preset=preset)
            for what, graph, plugins in (
                ("sampler, functions", "sampler.onnx", None),
                ("sampler, plugins", "sampler.onnx", library),
                ("encoder, two blocks in the trunk", "encoder.onnx", None),
            ):
                counted.setdefault(what, []).append(list_kernels(links, links / graph, plugins))
    lines = ["| | kernels | GB |", "|---|---|---|"]
    for what, (small, large) in counted.items():
        kernels = len(small)
        nbytes = count_bytes(small)
        kernels += (STEPS - 2) // 2 * (len(large) - kernels)
        nbytes += (STEPS - 2) // 2 * (count_bytes(large) - nbytes)
        lines.append(f"| {what} | {kernels} | {nbytes / 1e9:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
