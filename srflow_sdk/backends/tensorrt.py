"""TensorRT and TensorRT-RTX: a bundle's engines, which of them a GPU runs, and why not the others.

Threads share the engines. Every call takes a lane of its own, with a stream and execution contexts,
and may give it back while the GPU still works: an encoder's work is never waited for, and a
sample's only by who reads it. So a failure of the GPU may be raised by the call after. Conditioning
that one thread made can be used by any other.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends.base import Backend, Conditioning, Drawing, Inverted, still_open
from srflow_sdk.backends.native_library import load_plugins
from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu, DeviceMemory
from srflow_sdk.backends.tensorrt_engines.execution import (
    DrawingKernels,
    EncodedImage,
    Engine,
    EngineLog,
    GpuLane,
    KernelCache,
)
from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import (
    RTX_SMS,
    EnginePrecision,
    EngineRecord,
    engines_command,
)
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.system.hardware import Gpu, cuda_of_wheels, find_gpu, is_installed

# more calls than this wait for each other: one fills a GPU, and each lane holds a tile's
# activations
_LANES = 4
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class TensorRTBackend(Backend):
    """The first of a bundle's engines that this machine can run, for one image at a time."""

    def __init__(self, bundle: Bundle, *, gpu: int = 0) -> None:
        self._bundle = bundle
        self._gpu = self.gpu = gpu
        self._session: _Session | None = None
        self._release: Callable[[], Any] = lambda: None

    @property
    def device(self) -> str:
        """The library: "tensorrt", or "tensorrt_rtx" if that built the engines in use."""
        return self._session.record.runtime if self._session else "tensorrt"

    @property
    def fix(self) -> str:
        return f'use device="cpu", or build engines again: {_build(self._bundle, None)}'

    def activate_impl(self) -> None:
        record, library, properties = select_engines(self._bundle, gpu=self._gpu)
        cuda = CudaGpu.open(self._gpu)
        self._session = _Session(self._bundle, record, library, properties, cuda)
        self.window_limits = record.profile
        # Called by Python too: a backend that nobody closed must not keep the GPU's memory.
        self._release = release = weakref.finalize(self, self._session.close)
        release.atexit = False

    def deactivate_impl(self) -> None:
        self._session = self.window_limits = None
        self._release()

    def encode_impl(self, lr: Floats) -> EncodedImage:
        session = still_open(self._session)

        def encode(lane: GpuLane) -> EncodedImage:
            image: EncodedImage | None = None
            try:
                with lane.binding(session.encoder, {"lr": lr.shape}) as binding:
                    image = EncodedImage(session.memory, session.encoder, binding.output_shapes)
                    binding.run({"lr": np.asarray(lr, np.float32)}, lane.slot(image, filled=False))
                    lane.move_out(image)
                    return image
            except BaseException:
                if image is not None:  # the error's traceback would keep it
                    image.release()
                raise

        return session.run(
            f"encoding {lr.shape[-1]}×{lr.shape[-2]} pixels on {self.device}", encode
        )

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, Floats], tau: float
    ) -> Floats:
        session = still_open(self._session)
        arrays = {f"noise_level{level}": array for level, array in noise.items()}
        arrays["tau"] = np.array([tau], np.float32)
        return session.compute(session.sampler, conditioning, arrays, f"sampling on {self.device}")[
            "sr"
        ]

    def begin(self, conditioning: Conditioning, drawing: Drawing) -> Callable[[], NDArray[Any]]:
        session = still_open(self._session)
        what = f"sampling on {self.device}"
        image = session.own_image(conditioning)
        shapes = {f"noise_level{level}": (1, *shape) for level, shape in drawing.shapes.items()} | {
            "tau": (1,)
        }

        def work(lane: GpuLane) -> Callable[[], NDArray[Any]]:
            with lane.binding(session.sampler, image.shapes | shapes) as binding:
                return session.kernels.draw(binding, lane.slot(image), drawing)

        core = session.run(what, work)
        return lambda: session.wait_for(what, core)

    @property
    def can_invert(self) -> bool:
        return self._session is not None and self._session.record.inverter != ""

    def invert_impl(self, conditioning: Conditioning, hr: Floats) -> Inverted:
        session = still_open(self._session)
        what = f"inverting {hr.shape[-1]}×{hr.shape[-2]} pixels on {self.device}"
        outputs = session.compute(session.inverter(), conditioning, {"hr": hr}, what)
        levels = [entry.level for entry in self._bundle.manifest.latent_levels]
        return {level: outputs[f"latent_level{level}"] for level in levels}, outputs["log_density"]


class _Session:
    """Loaded engines with their memory and lanes, until the last call after it is closed."""

    def __init__(
        self,
        bundle: Bundle,
        record: EngineRecord,
        library: ModuleType,
        properties: Gpu,
        gpu: CudaGpu,
    ) -> None:
        self.record = record
        self._properties = properties
        self._bundle = bundle
        self._library = library
        self._gpu = gpu
        name = re.sub(r"\W", "-", properties.name)
        self._kernel_cache = KernelCache(f"{bundle.model_sha256[:32]}-{name}")
        with gpu.current():
            self._log = EngineLog(library)
            self._runtime = library.Runtime(self._log.logger)
            self.encoder, self.sampler = self._load(record.encoder), self._load(record.sampler)
            self.kernels = DrawingKernels(gpu)
            self.memory = DeviceMemory(gpu)
        self._inverter: Engine | None = None
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._turns = threading.BoundedSemaphore(_LANES)
        self._idle: list[GpuLane] = []
        self._busy = 0
        self._closed = False

    def inverter(self) -> Engine:
        """The inverter's engine, loaded when it is first needed: most programs never do."""
        with self._loading, self._gpu.current():
            if self._inverter is None:
                self._inverter = self._load(self.record.inverter)
            return self._inverter

    def _load(self, name: str) -> Engine:
        path = self._bundle.file(name)
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            failure = self._log.failure(f"{path} cannot be loaded")
            raise type(failure)(
                f"{failure}; build it again: {_build(self._bundle, self._properties, self.record)}"
            )
        own_graphs = self.record.runtime == "tensorrt_rtx"
        return Engine(
            self._library, engine, log=self._log, kernels=self._kernel_cache, own_graphs=own_graphs
        )

    def own_image(self, conditioning: Conditioning) -> EncodedImage:
        """Conditioning as this session made it. Raises: DeviceError for another one's."""
        if not isinstance(conditioning, EncodedImage) or conditioning.memory is not self.memory:
            raise DeviceError(
                "conditioning is from another backend or from before this one was closed; encode "
                "again"
            )
        return conditioning

    def compute(
        self, engine: Engine, conditioning: Conditioning, arrays: Mapping[str, Floats], what: str
    ) -> dict[str, Floats]:
        """The outputs of an engine by name, for an image and the arrays of its other inputs."""
        image = self.own_image(conditioning)
        uploads = {name: np.asarray(array, np.float32) for name, array in arrays.items()}

        def work(lane: GpuLane) -> Callable[[], dict[str, Floats]]:
            inputs = image.shapes | {name: one.shape for name, one in uploads.items()}
            with lane.binding(engine, inputs) as binding:
                binding.run(uploads, lane.slot(image))
                shapes = binding.output_shapes
                sizes = [engine.nbytes(*output) for output in shapes.items()]
                sent = binding.sent(
                    [*zip(map(binding.buffer, shapes), sizes, strict=True)], most=sum(sizes)
                )

            def outputs() -> dict[str, Floats]:
                with sent.read() as came:
                    parts = np.split(came.view(np.float32).copy(), np.cumsum(sizes)[:-1] // 4)
                pairs = zip(shapes.items(), parts, strict=True)
                return {name: part.reshape(shape) for (name, shape), part in pairs}

            return outputs

        return self.wait_for(what, self.run(what, work))

    def run(self, what: str, work: Callable[[GpuLane], _T]) -> _T:
        """Do work in a lane.

        what: it in words, for errors. Raises: DeviceError, OutOfMemoryError.
        """
        with _name_in_errors(what), self._lane() as lane:
            with contextlib.suppress(OutOfMemoryError):
                return work(lane)
            # Other lanes' and earlier sizes' memory may be what is missing. It is freed outside the
            # handler: the error's traceback keeps memory alive.
            self._clear(lane)
            try:
                return work(lane)
            except OutOfMemoryError:
                self._clear(lane)
                raise

    def wait_for(self, what: str, read: Callable[[], _T]) -> _T:
        """Read results, which the GPU may still compute. what, errors: as of :meth:`run`."""
        with _name_in_errors(what), self._gpu.current():
            return read()

    @contextlib.contextmanager
    def _lane(self) -> Iterator[GpuLane]:
        with self._turns, self._gpu.current():
            with self._lock:
                still_open(None if self._closed else self)
                self._busy += 1
                # The one that was used last: a single thread always gets the same one, with its
                # graphs.
                lane = self._idle.pop() if self._idle else None
            try:
                lane = lane or GpuLane(self._gpu, self.memory)
                yield lane
            finally:
                with self._lock:
                    self._idle += [lane] if lane is not None else []
                    self._busy -= 1
                    done = self._closed and not self._busy
                if done:
                    self._dispose()

    def close(self) -> None:
        """Release everything, at once or after the calls that are still running."""
        with self._lock:
            done = not self._closed and not self._busy
            self._closed = True
        if done:
            self._dispose()

    def _clear(self, lane: GpuLane) -> None:
        """Free what the lane and the idle ones hold, and unused blocks."""
        with self._lock:
            idle = self._idle
            self._idle = []
        for one in (lane, *idle):
            one.clear()
        with self._lock:
            self._idle = idle + self._idle
        self.memory.trim()

    def _dispose(self) -> None:
        try:
            with self._gpu.current():
                self._kernel_cache.save()
                for lane in self._idle:
                    lane.close()
                self.memory.close()
                self.kernels.unload()  # last: captured graphs launch it
        except DeviceError as error:
            # after a failure on the GPU, nothing works there until the program ends
            _log.warning("GPU memory could not be released: %s", error)
        self._idle.clear()


@contextlib.contextmanager
def _name_in_errors(what: str) -> Iterator[None]:
    """Say in the errors of the block what failed."""
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{what} failed: out of memory ({error}); use smaller tiles"
        ) from error
    except DeviceError as error:
        raise DeviceError(f"{what} failed: {error}") from error


def tensorrt_offered(bundle: Bundle) -> bool:
    """True if some engines are for this GPU, and a library for them is installed.

    Nothing large is loaded.
    """
    records = [record for record in bundle.manifest.engines if is_installed(record.runtime)]
    properties = find_gpu() if records else None
    return properties is not None and any(
        properties.compute_capability in record.compute_capabilities for record in records
    )


def select_engines(bundle: Bundle, *, gpu: int = 0) -> tuple[EngineRecord, ModuleType, Gpu]:
    """The first engines that this machine can run, their library, and the GPU.

    Raises: DeviceError, all reasons.
    """
    properties = find_gpu(gpu)
    reasons = []
    if not bundle.manifest.engines:
        raise DeviceError(
            f'{bundle.path} has no TensorRT engines; use device="cuda" or device="cpu", which run '
            f"its ONNX graphs, or build engines: {_build(bundle, properties)}"
        )
    if properties is None:
        raise DeviceError(
            f"engines need an NVIDIA GPU, but the driver shows no GPU {gpu} or is not installed; "
            "check it with "
            'nvidia-smi, or use device="cpu"; run srflow-doctor for details'
        )
    for record in bundle.manifest.engines:
        try:
            return record, _library(bundle, record, properties), properties
        except DeviceError as error:
            reasons.append(f"{record.encoder}: {error}")
    raise DeviceError(f"{bundle.path} has no engines that can run here; {'; '.join(reasons)}")


def _library(bundle: Bundle, record: EngineRecord, gpu: Gpu) -> ModuleType:
    """The library that runs these engines.

    Raises: DeviceError if they do not fit this machine or bundle.
    """
    rebuild = _build(bundle, gpu, record)
    package = record.runtime.replace("_", "-")
    for name, digest in record.graphs.items():
        if bundle.manifest.files.get(name, {}).get("sha256") != digest:
            raise DeviceError(
                f"built from a different {name} than the bundle's; build them again: {rebuild}"
            )
    exactly = f'pip install "{package}-cu{cuda_of_wheels(gpu.cuda)}=={record.version}"'
    try:
        library = importlib.import_module(record.runtime)
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"they need {package} {record.version}, which cannot be imported ({error}): {exactly}"
        ) from error
    if (installed := library.__version__) != record.version:
        raise DeviceError(
            f"built by {package} {record.version}, but {installed} is installed, and no other "
            f"version runs them: {exactly}, or build them for this one: {rebuild}"
        )
    if gpu.compute_capability not in record.compute_capabilities:
        capabilities = " or ".join(record.compute_capabilities)
        model = f" ({record.gpu})" if record.gpu else ""
        raise DeviceError(
            f"built for compute capability {capabilities}{model}, but this GPU, {gpu.name}, has "
            f"{gpu.compute_capability}; build them for it, on this machine: {rebuild}"
        )
    if record.plugins is not None:
        load_plugins(library, record.plugins, rebuild=rebuild)
    return library


def _build(bundle: Bundle, gpu: Gpu | None, record: EngineRecord | None = None) -> str:
    """The command that builds a bundle's first engines, or such as a record's again, for this GPU.

    TensorRT builds for GPUs that TensorRT-RTX does not support, such as data-centre ones.
    """
    if record is None or gpu is None:
        precision: EnginePrecision = "fp16" if bundle.manifest.precision == "fp16" else "fp32"
        return engines_command(bundle.path, runtime="tensorrt", precision=precision)
    sm = int(gpu.compute_capability.replace(".", ""))
    runtime = record.runtime if sm in RTX_SMS else "tensorrt"
    profile = record.profile
    return engines_command(
        bundle.path, runtime=runtime, precision=record.precision, sms=(sm,), profile=profile
    )
