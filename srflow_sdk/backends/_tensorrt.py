"""TensorRT and TensorRT-RTX: a bundle's engines, run on a GPU without torch.

Threads share the engines. Every call takes a lane of its own, with a stream and execution contexts, and waits for its
work before it gives the lane back. So memory can be reused as soon as a call has ended, and conditioning that one
thread made can be used by any other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._base import Backend, Conditioning, Drawing, own, still_open
from srflow_sdk.backends._declared import check_inverted
from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu
from srflow_sdk.backends.tensorrt_engines.device_memory import DeviceMemory, aligned
from srflow_sdk.backends.tensorrt_engines.drawing_kernels import DrawingKernels, load_kernels
from srflow_sdk.backends.tensorrt_engines.execution import Engine, EngineLog, GpuLane, Shape
from srflow_sdk.backends.tensorrt_engines.kernels import KernelCache
from srflow_sdk.backends.tensorrt_engines.selection import Selection, select_engines, tensorrt_offered
from srflow_sdk.errors import BundleError, DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord, EngineRuntime, LrProfile, first_command

__all__ = ["TensorRTBackend", "TensorRTConditioning", "select_engines", "tensorrt_offered"]

_LANES = 4  # more calls than this wait for each other: one fills a GPU, and each lane holds a tile's activations
_CONDITIONING_TYPES = {"fp32": "float32", "fp16": "float16"}
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _EncodedImage:
    """The encoder's outputs for one image, in one block of device memory, which is given back with the object."""

    def __init__(self, memory: DeviceMemory, engine: Engine, shapes: Mapping[str, Shape]) -> None:
        sizes = {name: engine.nbytes(name, shape) for name, shape in shapes.items()}
        block = memory.take(sum(map(aligned, sizes.values())))
        self.release = weakref.finalize(self, memory.give_back, block)
        self.release.atexit = False
        self.memory = memory
        self.shapes = dict(shapes)
        self.nbytes = sum(sizes.values())
        self.addresses: dict[str, int] = {}
        address = block.address
        for name, nbytes in sizes.items():
            self.addresses[name] = address
            address += aligned(nbytes)


class TensorRTConditioning(Conditioning):
    """The encoder's outputs on the GPU, image by image. Freed with the object, or when the backend closes."""

    def __init__(self, images: list[_EncodedImage]) -> None:
        self.images = images

    @property
    def nbytes(self) -> int:
        return sum(image.nbytes for image in self.images)


class TensorRTBackend(Backend):
    """Runs the first of a bundle's engines that this machine can run.

    runtime: take only engines of this library; None takes any. gpu: the GPU's number among those that CUDA shows this
    process. :attr:`window_limits` says which sizes of LR images it takes; batches are computed image by image.
    """

    def __init__(self, bundle: Bundle, *, runtime: EngineRuntime | None = None, gpu: int = 0) -> None:
        super().__init__()
        self._bundle = bundle
        self._runtime = runtime
        self._gpu = gpu
        self._session: _Session | None = None
        self._release: Callable[[], Any] = lambda: None

    @property
    def device(self) -> str:
        """The library: "tensorrt", or "tensorrt_rtx" if that built the engines in use."""
        session = self._session
        return session.selection.record.runtime if session else self._runtime or "tensorrt"

    @property
    def gpu(self) -> int:
        return self._gpu

    @property
    def fix(self) -> str:
        """The fix to suggest if the engines compute another picture than the CPU."""
        command = first_command(
            self._bundle.path,
            runtime="tensorrt",
            precision=self._bundle.manifest.precision,
            compute_capability=None,
        )
        return f'use device="cpu", or build engines again: {command}'

    @property
    def window_limits(self) -> LrProfile | None:
        session = self._session
        return session.selection.record.profile if session else None

    def activate_impl(self) -> None:
        selection = select_engines(self._bundle, runtime=self._runtime, gpu=self._gpu)
        record, here = selection.record, selection.gpu.name
        cuda = CudaGpu.open(self._gpu)
        if record.gpu and record.gpu != here:
            _log.warning("the engines were tuned on %s; on this %s others may be faster", record.gpu, here)
        self._session = _Session(self._bundle, selection, cuda)
        # Called by Python too: a backend that nobody closed must not keep the GPU's memory.
        release = weakref.finalize(self, self._session.close)
        release.atexit = False
        self._release = release

    def deactivate_impl(self) -> None:
        self._session = None
        self._release()

    def encode_impl(self, lr: NDArray[np.float32]) -> TensorRTConditioning:
        session = still_open(self._session)
        height, width = lr.shape[-2:]
        profile = session.selection.record.profile
        if not profile.holds(height, width):
            raise DeviceError(
                f"the engines take LR images from {_sizes([profile.min])} to {_sizes([profile.max])}, not {width}×"
                f"{height}; use other tiles, or build engines for this size: {session.selection.resize} --shapes "
                "MIN,OPT,MAX"
            )
        images = np.asarray(lr, np.float32)
        what = f"encoding {width}×{height} pixels on {self.device}"
        return TensorRTConditioning([session.encode(images[index : index + 1], what) for index in range(len(images))])

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        session = still_open(self._session)
        batch = {f"noise_level{level}": np.asarray(array, np.float32) for level, array in noise.items()}
        count = len(next(iter(batch.values())))
        drawn = []
        for index, image in enumerate(_images(conditioning, session, count, "noise for")):
            uploads = {name: array[index : index + 1] for name, array in batch.items()}
            drawn.append(session.sample(image, {**uploads, "tau": np.array([tau], np.float32)}, self.device))
        return drawn[0] if count == 1 else np.concatenate(drawn)

    @property
    def can_draw(self) -> bool:
        session = self._session
        return session is not None and session.kernels is not None

    def draw_impl(self, conditioning: Conditioning, drawing: Drawing) -> NDArray[Any]:
        session = still_open(self._session)
        assert session.kernels is not None  # for the type checker: can_draw
        images = _images(conditioning, session, 1, "noise for")
        return session.draw(images[0], drawing, session.kernels, self.device)

    @property
    def can_invert(self) -> bool:
        session = self._session
        return session is not None and session.selection.record.inverter != ""

    def invert_impl(
        self, conditioning: Conditioning, hr: NDArray[np.float32]
    ) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]:
        session = still_open(self._session)
        pictures = np.asarray(hr, np.float32)
        names = {f"latent_level{entry.level}": entry.level for entry in self._bundle.manifest.latent_levels}
        what = f"inverting {hr.shape[-1]}×{hr.shape[-2]} pixels on {self.device}"
        found = [
            session.invert(image, pictures[index : index + 1], [*names, "log_density"], what)
            for index, image in enumerate(_images(conditioning, session, len(pictures), "pictures:"))
        ]
        joined = {name: np.concatenate([each[name] for each in found]) for name in (*names, "log_density")}
        latents = {level: joined[name] for name, level in names.items()}
        check_inverted(latents, joined["log_density"], pictures, scale=self._bundle.manifest.scale)
        return latents, joined["log_density"]


class _Session:
    """Loaded engines with their memory and lanes, from one activation to the last call after it is closed."""

    def __init__(self, bundle: Bundle, selection: Selection, gpu: CudaGpu) -> None:
        self.selection = selection
        self._gpu = gpu
        record = selection.record
        self._kernel_cache = KernelCache(f"{bundle.model_sha256[:32]}-{selection.gpu.in_file_names}")
        self._bundle = bundle
        with gpu.current():
            self._log = EngineLog(selection.library)
            self._runtime = selection.library.Runtime(self._log.logger)
            self._encoder, self._sampler = self._load(record.encoder), self._load(record.sampler)
            _check_pair(bundle, record, self._encoder, self._sampler)
            self.memory = DeviceMemory(gpu, kept=_LANES)
            self.kernels = load_kernels(gpu, self.memory)
        self._inverter: Engine | None = None
        self._no_graphs = threading.Event()
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._turns = threading.BoundedSemaphore(_LANES)
        self._idle: list[GpuLane] = []
        self._busy = 0
        self._closed = False

    def encode(self, lr: NDArray[np.float32], what: str) -> _EncodedImage:
        """Encode one image, float32 1×3×h×w."""

        def work(lane: GpuLane) -> _EncodedImage:
            with lane.binding(self._encoder, {"lr": lr.shape}) as binding:
                image = _EncodedImage(self.memory, self._encoder, binding.output_shapes)
                try:
                    binding.run(uploads={"lr": lr}, bound=image.addresses)
                except BaseException:
                    image.release()  # the error's traceback would keep it
                    raise
                return image

        return self._run(what, work)

    def sample(self, image: _EncodedImage, uploads: Mapping[str, NDArray[np.float32]], device: str) -> Any:
        """One picture, float32 1×3×sh×sw, from noise and tau."""

        def work(lane: GpuLane) -> NDArray[np.float32]:
            shapes = {**image.shapes, **{name: array.shape for name, array in uploads.items()}}
            with lane.binding(self._sampler, shapes) as binding:
                found = binding.run(uploads=uploads, bound=image.addresses, downloads=binding.output_shapes)
                return np.array(found["sr"])

        return self._run(f"sampling on {device}", work)

    def draw(self, image: _EncodedImage, drawing: Drawing, kernels: DrawingKernels, device: str) -> NDArray[Any]:
        """The core of one picture, whose noise the GPU draws."""
        noise = {
            f"noise_level{entry.level}": (1, entry.channels, place.height, place.width)
            for entry in drawing.levels
            for place in [drawing.encoded.scaled(drawing.scale, 1 << entry.level)]
        }

        def work(lane: GpuLane) -> NDArray[Any]:
            with lane.binding(self._sampler, {**image.shapes, **noise, "tau": (1,)}) as binding:
                return kernels.draw(binding, image.addresses, drawing)

        return self._run(f"sampling on {device}", work)

    def invert(
        self, image: _EncodedImage, hr: NDArray[np.float32], names: Sequence[str], what: str
    ) -> dict[str, NDArray[np.float32]]:
        """These outputs of the inverter for one picture, float32 1×3×sh×sw."""

        def work(lane: GpuLane) -> dict[str, NDArray[np.float32]]:
            with lane.binding(self._loaded_inverter(), {**image.shapes, "hr": hr.shape}) as binding:
                shapes = {name: binding.output_shapes[name] for name in names}
                found = binding.run(uploads={"hr": hr}, bound=image.addresses, downloads=shapes)
                return {name: np.array(array) for name, array in found.items()}

        return self._run(what, work)

    def _loaded_inverter(self) -> Engine:
        """The inverter's engine, which is loaded when it is first needed: most programs never do."""
        with self._loading:
            if self._inverter is None:
                inverter = self._load(self.selection.record.inverter)
                _check_inverter(self._bundle, self.selection.record, self._encoder, inverter)
                self._inverter = inverter
            return self._inverter

    def _load(self, name: str) -> Engine:
        path, library = self._bundle.file(name), self.selection.library
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            failure = self._log.failure(f"{path} cannot be loaded")
            raise type(failure)(f"{failure}; build it again: {self.selection.rebuild}")
        own_graphs = self.selection.record.runtime == "tensorrt_rtx"
        return Engine(library, engine, log=self._log, kernels=self._kernel_cache, own_graphs=own_graphs)

    def close(self) -> None:
        """Release everything, at once or after the calls that are still running."""
        with self._lock:
            done = not self._closed and not self._busy
            self._closed = True
        if done:
            self._dispose()

    def _run(self, what: str, work: Callable[[GpuLane], _T]) -> _T:
        try:
            with self._lane() as lane:
                try:
                    return work(lane)
                except OutOfMemoryError:
                    pass  # try again outside the handler: the error's traceback keeps memory alive
                # Other lanes' and earlier sizes' memory may be what is missing.
                self._clear(lane)
                try:
                    return work(lane)
                except OutOfMemoryError:
                    self._clear(lane)
                    raise
        except OutOfMemoryError as error:
            raise OutOfMemoryError(f"{what} failed: out of memory ({error}); use smaller tiles") from error
        except DeviceError as error:
            raise DeviceError(f"{what} failed: {error}") from error

    @contextlib.contextmanager
    def _lane(self) -> Iterator[GpuLane]:
        with self._turns, self._gpu.current():
            with self._lock:
                still_open(None if self._closed else self)
                self._busy += 1
                # The one that was used last: a single thread always gets the same one, with its graphs.
                lane = self._idle.pop() if self._idle else None
            try:
                if lane is None:
                    lane = GpuLane(self._gpu, self.memory, self._no_graphs)
                yield lane
            finally:
                with self._lock:
                    if lane is not None:
                        self._idle.append(lane)
                    self._busy -= 1
                    done = self._closed and not self._busy
                if done:
                    self._dispose()

    def _clear(self, lane: GpuLane) -> None:
        """Free what the lane and the idle ones hold, and unused blocks."""
        with self._lock:
            idle, self._idle = self._idle, []
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
                if self.kernels is not None:  # last: captured graphs launch them
                    self.kernels.unload()
        except DeviceError as error:  # after a failure on the GPU, nothing works there until the program ends
            _log.warning("GPU memory could not be released: %s", error)
        self._idle.clear()


def _check_pair(bundle: Bundle, record: EngineRecord, encoder: Engine, sampler: Engine) -> None:
    """Check that the engines fit the manifest, their record and each other."""
    conditioning = dict.fromkeys(encoder.outputs, _CONDITIONING_TYPES[record.precision])
    noise = {f"noise_level{entry.level}": "float32" for entry in bundle.manifest.latent_levels}
    encoder.check(inputs={"lr": "float32"}, outputs=conditioning, where=str(bundle.file(record.encoder)))
    sampler.check(
        inputs={**conditioning, **noise, "tau": "float32"},
        outputs={"sr": "float32"},
        where=str(bundle.file(record.sampler)),
    )
    taken = [shape[-2:] for shape in encoder.profile("lr")]
    recorded = [record.profile.min, record.profile.opt, record.profile.max]
    if taken != recorded:
        raise BundleError(
            f"{bundle.file(record.encoder)} takes LR images of {_sizes(taken)} (smallest, optimal, largest), not the "
            f"manifest's {_sizes(recorded)}; export the bundle again"
        )


def _check_inverter(bundle: Bundle, record: EngineRecord, encoder: Engine, inverter: Engine) -> None:
    """Check that an inverter's engine fits the manifest, its record and the encoder."""
    conditioning = dict.fromkeys(encoder.outputs, _CONDITIONING_TYPES[record.precision])
    latents = {f"latent_level{entry.level}": "float32" for entry in bundle.manifest.latent_levels}
    inverter.check(
        inputs={**conditioning, "hr": "float32"},
        outputs={**latents, "log_density": "float32"},
        where=str(bundle.file(record.inverter)),
    )


def _images(conditioning: Conditioning, session: _Session, count: int, what: str) -> list[_EncodedImage]:
    """One image's conditioning for each of `count`. Raises: DeviceError if it is of another session or batch."""
    images = own(conditioning, TensorRTConditioning).images
    if any(image.memory is not session.memory for image in images):
        raise DeviceError("conditioning is from another backend or from before this one was closed; encode again")
    if len(images) not in (1, count):
        raise DeviceError(f"conditioning of {len(images)} images does not fit {what} {count}")
    return images if len(images) == count else images * count


def _sizes(sizes: Sequence[Shape]) -> str:
    """Sizes (height, width) for people, as width×height."""
    return ", ".join(f"{width}×{height}" for height, width in sizes)
