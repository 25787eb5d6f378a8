"""The SDK on a GPU: TensorRT engines, or ONNX Runtime, from one export that all of them share."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from benchmarks.bench.processes import ROOT
from benchmarks.gpu_report.card import NoGpuError, memory_in_use
from benchmarks.gpu_report.drawing_checks import whole_drawing
from benchmarks.gpu_report.engines import AbsentError, Call, LackingError, Setting, Stages
from benchmarks.gpu_report.network import SEED, TAU, network, picture
from benchmarks.gpu_report.rows import FURTHER, PICTURE
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends import Backend, Drawing, open_backend
from srflow_sdk.backends.native_library import PLUGINS, find_native_library
from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu
from srflow_sdk.errors import DeviceError
from srflow_sdk.system.local_files import file_sha256


def exported(setting: Setting) -> tuple[Bundle, float]:
    """The bundle that all engines share, in fp16 and with the flow's operations as nodes; for TensorRT, with engines.

    Beside it, the seconds that making it took; 0 if it was there. Raises: AbsentError, RuntimeError if that fails.
    """
    work, target = setting.work, setting.folder / "gpu.srflow"
    started, made = time.perf_counter(), False
    if setting.kind == "tensorrt" and target.is_dir() and _stale(Bundle.open(target)):
        shutil.rmtree(target)
    if not target.is_dir():
        made = True
        if not work.checkpoint.is_file():
            from srflow_training import save_checkpoint

            save_checkpoint(work.checkpoint, network(work, quick=setting.quick))
        options = ("--halo", "16", "--no-inverter", "--plugins", "--precision", "fp16")
        _export("--ckpt", str(work.checkpoint), "-o", str(target), *options)
    if setting.kind == "tensorrt" and not Bundle.open(target).manifest.engines:
        made = True
        _export("--engines-for", str(target), "--trt", "fp16", "--shapes", f"{work.smallest},{work.size},{work.size}")
    return Bundle.open(target), time.perf_counter() - started if made else 0.0


def _stale(bundle: Bundle) -> bool:
    """Whether its engines are of another TensorRT or another library of plugins than those that are here."""
    import tensorrt  # type: ignore[import-not-found,unused-ignore]

    library = find_native_library(PLUGINS)
    here = tensorrt.__version__, library and file_sha256(library)
    return any((record.version, record.plugins and record.plugins.sha256) != here for record in bundle.manifest.engines)


def _export(*options: str) -> None:
    """Run srflow-export. Raises: AbsentError if it lacks a package, RuntimeError."""
    command = [sys.executable, "-c", "from srflow_export.cli import main; main()", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        kind = AbsentError if "is not installed" in why or why.startswith("ModuleNotFoundError") else RuntimeError
        raise kind(f"srflow-export failed: {why}")


class SdkEngine:
    """A backend of the SDK, and the bundle that it runs."""

    def __init__(self, bundle: Bundle, device: Any, backend: Backend, *, seconds: tuple[float, float] = (0, 0)) -> None:
        self.bundle, self.device, self.backend = bundle, device, backend
        self.export_seconds, self.load_seconds = seconds
        self.encode, self.sample = backend.encode, backend.sample

    @classmethod
    @contextlib.contextmanager
    def opened(cls, setting: Setting) -> Iterator[SdkEngine]:
        """The engine of a setting. Raises: AbsentError, SRFlowError."""
        bundle, export_seconds = exported(setting)
        device: Any = setting.kind
        started = time.perf_counter()
        backend = open_backend(bundle, device=device)
        seconds = export_seconds, time.perf_counter() - started
        try:
            yield cls(bundle, device, backend, seconds=seconds)
        finally:
            backend.deactivate()

    def upscaler(self, device: Any = None) -> Upscaler:
        """Pictures in one piece, on this device or another."""
        return Upscaler(self.bundle, device=device or self.device, tile=None)

    def tensors(self, conditioning: Any) -> dict[str, np.ndarray]:
        """See `engines.Engine`."""
        if hasattr(conditioning, "values"):
            return {name: value.numpy().astype(np.float32) for name, value in conditioning.values.items()}
        [image] = conditioning.images
        dtype = {"fp16": np.float16, "fp32": np.float32}[self.bundle.manifest.engines[0].precision]
        return {
            name: downloaded(address, image.shapes[name], dtype).astype(np.float32)
            for name, address in image.addresses.items()
        }

    def memory(self) -> tuple[int, str] | None:
        """See `engines.Engine`. The SDK keeps what it has taken."""
        try:
            return memory_in_use(), "nvidia-smi's, of all programs"
        except NoGpuError:
            return None

    def drawing(self, size: int, *, rounded: bool = True) -> Drawing:
        """For :meth:`srflow_sdk.backends.Backend.draw`: the whole of size×size LR pixels."""
        return whole_drawing(self.bundle.manifest.latent_levels, self.bundle.manifest.scale, size, rounded=rounded)

    def stages(self, size: int) -> Stages:
        """Latents and quantisation are numpy's, and the encoder and sampler include their copies.

        `drawn` is what a picture takes instead of the three: with TensorRT, the GPU does them in one graph.
        """
        lr, drawing = picture(size, size), self.drawing(size)
        pixels = np.round(lr[0].transpose(1, 2, 0) * 255).astype(np.uint8)
        noise = drawing.noise()
        made: dict[str, list[Any]] = {"encoder": [], "sampler": [], "encoding": []}  # what stages gave at first
        upscaler, turn = self.upscaler(), count()

        def kept(name: str, call: Callable[[], Any]) -> Call:
            def calling() -> None:
                result = call()
                if len(made[name]) < 2:
                    made[name].append(result)

            return calling

        def further() -> None:
            if not made["encoding"]:
                made["encoding"].append(upscaler.encode(pixels))
            made["encoding"][0].sample(tau=TAU, seed=SEED + next(turn))

        calls: dict[str, Call] = {
            "latents, by the processor": drawing.noise,
            "encoder": kept("encoder", lambda: self.encode(lr)),
            "sampler": kept("sampler", lambda: self.sample(made["encoder"][0], noise, TAU)),
            "quantisation, by the processor": lambda: quantised(made["sampler"][0]),
            "drawn": lambda: self.backend.draw(made["encoder"][0], drawing),
            PICTURE: lambda: upscaler.upscale(pixels, tau=TAU, seed=SEED),
            FURTHER: further,
        }
        without: dict[str, Call] = {}
        if self.device == "tensorrt":  # a graph is bound to the addresses of the conditioning
            without["sampler"] = lambda: self.sample(made["encoder"][next(turn) % 2], noise, TAU)
            without["drawn"] = lambda: self.backend.draw(made["encoder"][next(turn) % 2], drawing)
        lacking = {"copies": "the encoder and the sampler include them"}
        return Stages(calls, _milliseconds, "host's clock", without_graphs=without, lacking=lacking)


def _milliseconds(calls: Sequence[Call], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for call in calls:
            call()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times) / len(calls)


def quantised(sr: np.ndarray) -> np.ndarray:
    """What the SDK does with a picture: N×3×H×W → uint8 N×H×W×3, and the check for values that are not finite."""
    if not np.isfinite(sr).all():
        raise ValueError("the picture has values that are not finite")
    return np.rint(np.clip(sr, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def downloaded(address: int, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """A copy of what lies in GPU memory. Raises: DeviceError."""
    array, gpu = np.empty(shape, dtype), CudaGpu.open()
    with gpu.current():
        stream = gpu.new_stream()
        stream.download(address, array)
        stream.synchronize()
        stream.close()
    return array


@contextlib.contextmanager
def nearly_full(left: int) -> Iterator[None]:
    """In this context, so many bytes of GPU memory are free at most. Raises: LackingError, DeviceError."""
    gpu = CudaGpu.open()
    free, _ = gpu.call("cudaMemGetInfo")
    try:
        (taken,) = gpu.call("cudaMalloc", max(free - left, 1 << 20))
    except DeviceError as error:
        raise LackingError(f"the memory cannot be filled: {error}") from None
    try:
        yield
    finally:
        gpu.call("cudaFree", taken)


def plugin_layers(engine: SdkEngine) -> tuple[int, int]:
    """Layers of the sampler's engine that are plugins, and nodes of our own in the graph that it was built from.

    Raises: LackingError if it was built without the library of plugins.
    """
    import onnx
    import tensorrt

    bundle = engine.bundle
    record = bundle.manifest.engines[0]
    if record.plugins is None:
        raise LackingError("the engines were built without the plugin library: python -m srflow_export.native tensorrt")
    wanted = sum(node.domain == "srflow" for node in onnx.load(bundle.path / "sampler.onnx").graph.node)
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))  # the backend has loaded the plugins
    plan = runtime.deserialize_cuda_engine(bundle.file(record.sampler).read_bytes())
    if plan is None:
        raise RuntimeError("TensorRT cannot load the sampler's engine")
    text = plan.create_engine_inspector().get_engine_information(tensorrt.LayerInformationFormat.JSON)
    return plugins_in(text), wanted


def plugins_in(information: str) -> int:
    """Plugin layers in an inspector's JSON: by their type, or, in an engine that only names layers, by their name."""
    import json

    layers = json.loads(information).get("Layers", [])
    words = ("FlowStepTail", "UnsqueezeSplit")
    return sum(
        "plugin" in str(layer.get("LayerType", "")).lower()
        if isinstance(layer, dict)
        else any(word in str(layer) for word in words)
        for layer in layers
    )
