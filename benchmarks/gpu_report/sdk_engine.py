"""The SDK on a GPU: TensorRT engines, or ONNX Runtime, from one export that all of them share."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np

from benchmarks.bench.processes import ROOT
from benchmarks.gpu_report.network import SEED, TAU, AbsentError, LackingError, Setting, network, picture
from benchmarks.gpu_report.rows import FURTHER, PICTURE
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends.native_library import PLUGINS, find_native_library, plugins_of

_NEEDED = {  # by device: modules, and the names of their packages
    "tensorrt": {"tensorrt": "tensorrt", "cuda.bindings": "cuda-bindings"},
    "rtx": {"onnxruntime_ep_nv_tensorrt_rtx": "ONNX Runtime's plug-in for TensorRT-RTX"},
    "cuda": {},
}


def check_present(kind: str) -> None:
    """Raises: AbsentError if a package behind a device is not installed."""
    for module, name in _NEEDED[kind].items():
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # of the package around it
            found = None
        if found is None:
            raise AbsentError(f"{name} is not installed")
    if kind == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise AbsentError("onnxruntime-gpu is not installed")


def exported(setting: Setting) -> Bundle:
    """The bundle that all engines share, in fp16 and with the flow's operations as nodes; for TensorRT, with engines.

    Raises: AbsentError, RuntimeError if that fails.
    """
    target, smallest = setting.folder / "gpu.srflow", min(setting.pictures()["square"])
    if setting.kind == "tensorrt" and target.is_dir() and _stale(Bundle.open(target)):
        shutil.rmtree(target)
    if not target.is_dir():
        network(setting)
        options = ("--halo", "16", "--no-inverter", "--plugins", "--precision", "fp16")
        _export("--ckpt", str(setting.checkpoint), "-o", str(target), *options)
    if setting.kind == "tensorrt" and not Bundle.open(target).manifest.engines:
        sizes = f"{smallest},{setting.size},{setting.size}"
        _export("--engines-for", str(target), "--trt", "fp16", "--shapes", sizes)
    return Bundle.open(target)


def _stale(bundle: Bundle) -> bool:
    """Whether its engines are of another TensorRT or another library of plugins than those that are here."""
    import tensorrt  # type: ignore[import-not-found,unused-ignore]

    library = find_native_library(PLUGINS)
    here = tensorrt.__version__, library and plugins_of(library)
    return any((record.version, record.plugins) != here for record in bundle.manifest.engines)


def _export(*options: str) -> None:
    """Run srflow-export. Raises: AbsentError if it lacks a package, RuntimeError."""
    command = [sys.executable, "-c", "from srflow_export.cli import main; main()", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        kind = AbsentError if "is not installed" in why or why.startswith("ModuleNotFoundError") else RuntimeError
        raise kind(f"srflow-export failed: {why}")


class SdkEngine:
    """An Upscaler on one device, which draws pictures in one piece."""

    def __init__(self, upscaler: Upscaler, bundle: Bundle, about: str, built: str) -> None:
        self.upscaler, self.bundle, self.about, self.built = upscaler, bundle, about, built

    @classmethod
    @contextlib.contextmanager
    def opened(cls, setting: Setting) -> Iterator[SdkEngine]:
        """The engine of a setting. Raises: AbsentError, SRFlowError."""
        check_present(setting.kind)
        started = time.perf_counter()
        bundle = exported(setting)
        made = time.perf_counter()
        device: Any = setting.kind
        with Upscaler(bundle, device=device, tile=None) as upscaler:
            about = f"opening {time.perf_counter() - made:.1f} s"
            yield cls(upscaler, bundle, about, f"{made - started:.0f} s for the export and its engines")

    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """See `checks.Opened`."""
        drawn: np.ndarray = self.upscaler.upscale(pixels, tau=TAU, seed=SEED)
        return drawn

    def samples(self, pixels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of a sample that is drawn with three others and the same one alone."""
        encoding = self.upscaler.encode(pixels)
        for number, drawn in enumerate(encoding.samples(4, tau=TAU, seed=SEED)):
            yield drawn, encoding.sample(tau=TAU, seed=SEED, sample=number)

    def calls(self, size: int) -> dict[str, Callable[[], object]]:
        """See `checks.Opened`; from pixels to pixels in 8 bits."""
        pixels, turn = np.round(picture(size, size) * 255).astype(np.uint8), count()
        self.encoding = encoding = self.upscaler.encode(pixels)
        return {
            PICTURE: lambda: self.upscaler.upscale(pixels, tau=TAU, seed=SEED),
            FURTHER: lambda: encoding.sample(tau=TAU, seed=SEED + next(turn)),
        }

    def milliseconds(self, call: Callable[[], object], rounds: int) -> float:
        """See `checks.Opened`; the host's clock."""
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - started))
        return statistics.median(times)


@contextlib.contextmanager
def nearly_full(left: int) -> Iterator[None]:
    """In this context, so many bytes of GPU memory are free at most. Raises: LackingError."""
    try:
        from cuda.bindings import runtime  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise LackingError("cuda-bindings is not installed") from None
    _, free, _ = runtime.cudaMemGetInfo()
    error, taken = runtime.cudaMalloc(max(free - left, 1 << 20))
    if int(error):
        raise LackingError(f"the memory cannot be filled: CUDA error {int(error)}")
    try:
        yield
    finally:
        runtime.cudaFree(taken)


def plugin_layers(bundle: Bundle) -> tuple[int, int]:
    """Layers of the sampler's engine that are plugins, and nodes of our own in the graph that it was built from.

    (0, nodes) if it was built without the library of plugins.
    """
    import onnx
    import tensorrt

    record = bundle.manifest.engines[0]
    wanted = sum(node.domain == "srflow" for node in onnx.load(bundle.path / "sampler.onnx").graph.node)
    if record.plugins is None:
        return 0, wanted
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))  # the backend has loaded the plugins
    plan = runtime.deserialize_cuda_engine(bundle.file(record.sampler).read_bytes())
    if plan is None:
        raise RuntimeError("TensorRT cannot load the sampler's engine")
    text = plan.create_engine_inspector().get_engine_information(tensorrt.LayerInformationFormat.JSON)
    return plugins_in(text), wanted


def plugins_in(information: str) -> int:
    """Plugin layers in an inspector's JSON: by their type, or, in an engine that only names layers, by their name."""
    words = ("FlowStepTail", "UnsqueezeSplit")
    return sum(
        "plugin" in str(layer.get("LayerType", "")).lower()
        if isinstance(layer, dict)
        else any(word in str(layer) for word in words)
        for layer in json.loads(information).get("Layers", [])
    )
