"""The SDK on a GPU: TensorRT engines, or ONNX Runtime, from one export that all of them share."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from itertools import count
from typing import Any

import numpy as np

from benchmarks.bench.processes import ROOT, MissingError
from benchmarks.gpu_report.network import MODEL, SEED, TAU, Setting, draw, network, picture
from benchmarks.gpu_report.report import EMBEDDED, FURTHER, PICTURE
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends.native_library import PLUGINS, find_native_library, plugins_of
from srflow_sdk.system.hardware import find_gpu

_NEEDED = {  # by device: modules, and the names of their packages
    "tensorrt": {"tensorrt": "tensorrt", "cuda.bindings.runtime": "cuda-bindings"},
    "rtx": {"onnxruntime_ep_nv_tensorrt_rtx": "ONNX Runtime's plug-in for TensorRT-RTX"},
    "cuda": {"onnxruntime": "onnxruntime-gpu", "cuda.bindings.runtime": "cuda-bindings"},
}


def check_present(kind: str) -> None:
    """Raises: MissingError if a package behind a device is not installed, or there is no GPU."""
    for module, name in _NEEDED[kind].items():
        try:
            library = importlib.import_module(module)
        except ModuleNotFoundError:
            raise MissingError(f"{name} is not installed") from None
        if (
            module == "onnxruntime"
            and "CUDAExecutionProvider" not in library.get_available_providers()
        ):
            raise MissingError(f"{name} is not installed")
    if find_gpu() is None:
        raise MissingError("this machine has no NVIDIA GPU")


def export_bundle(setting: Setting) -> Bundle:
    """Export the bundle that all engines share, in fp16; for TensorRT, with engines.

    Its name has the TensorRT and the library of plugins that are here, as engines run with no
    others. Raises: RuntimeError if that fails.
    """
    version = "none"
    with contextlib.suppress(ImportError):
        version = importlib.import_module("tensorrt").__version__
    library = find_native_library(PLUGINS)
    smallest = min(setting.pictures()["square"])
    built_by = (version, *(astuple(plugins_of(library)) if library else ()))
    target = setting.folder / f"gpu-{'-'.join(map(str, built_by))}.srflow"
    if not target.is_dir():
        network(setting)
        options = ("--halo", "16", "--no-inverter", "--plugins", "--precision", "fp16")
        _export("--ckpt", str(setting.checkpoint), "-o", str(target), *options)
    if setting.kind == "tensorrt" and not Bundle.open(target).manifest.engines:
        sizes = f"{smallest},{setting.size},{setting.size}"
        _export("--engines-for", str(target), "--trt", "fp16", "--shapes", sizes)
    return Bundle.open(target)


def _export(*options: str) -> None:
    """Run srflow-export. Raises: MissingError if it lacks a package, RuntimeError."""
    command = [sys.executable, "-c", "from srflow_export.cli import main; main()", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        kind = (
            MissingError
            if "is not installed" in why or why.startswith("ModuleNotFoundError")
            else RuntimeError
        )
        raise kind(f"srflow-export failed: {why}")


class SdkEngine:
    """An Upscaler on one device, which draws pictures in one piece."""

    def __init__(self, setting: Setting) -> None:
        """Raises: SRFlowError."""
        check_present(setting.kind)
        self.in_levels = setting.engine == EMBEDDED
        started = time.perf_counter()
        self.bundle = Bundle.open(MODEL) if setting.engine == EMBEDDED else export_bundle(setting)
        made = time.perf_counter()
        device: Any = setting.kind
        self.upscaler = Upscaler(self.bundle, device=device, tile=None)
        self.built = (
            ""
            if setting.engine == EMBEDDED
            else f"{made - started:.0f} s for the export and its engines"
        )
        self.about = f"opening {time.perf_counter() - made:.1f} s"

    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """See `checks.Checks`."""
        return draw(self.upscaler, pixels, in_levels=self.in_levels)

    def samples(self, pixels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of a sample that is drawn with three others and the same one alone."""
        encoding = self.upscaler.encode(pixels)
        for number, sample in enumerate(encoding.samples(4, tau=TAU, seed=SEED)):
            yield sample, encoding.sample(tau=TAU, seed=SEED, sample=number)

    def calls(self, size: int) -> dict[str, Callable[[], object]]:
        """See `checks.Checks`; from pixels to pixels in 8 bits."""
        pixels = np.round(picture(size, size) * 255).astype(np.uint8)
        turn = count()
        self.encoding = encoding = self.upscaler.encode(pixels)
        return {
            PICTURE: lambda: self.upscaler.upscale(pixels, tau=TAU, seed=SEED),
            FURTHER: lambda: encoding.sample(tau=TAU, seed=SEED + next(turn)),
        }


def plugin_layers(bundle: Bundle) -> tuple[int, int]:
    """Count plugins in the sampler's engine, and nodes of our own in its graph.

    Raises: MissingError if it was built without the library of plugins.
    """
    import onnx
    import tensorrt

    record = bundle.manifest.engines[0]
    nodes = {
        node.name
        for node in onnx.load(bundle.path / "sampler.onnx").graph.node
        if node.domain == "srflow"
    }
    if record.plugins is None:
        raise MissingError(
            "the engine has no plugins: python -m srflow_export.native tensorrt builds their "
            "library"
        )
    # the backend has loaded the plugins
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
    plan = runtime.deserialize_cuda_engine(bundle.file(record.sampler).read_bytes())
    if plan is None:
        raise RuntimeError("TensorRT cannot load the sampler's engine")
    text = plan.create_engine_inspector().get_engine_information(
        tensorrt.LayerInformationFormat.JSON
    )
    # Their names, as the builder's verbosity is the default: of nodes, and of copies between
    # formats for nodes.
    return sum(layer in nodes for layer in json.loads(text).get("Layers", [])), len(nodes)
