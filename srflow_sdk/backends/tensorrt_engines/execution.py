"""Runs one engine, and a CUDA graph of it once the same work repeats.

A graph has the kernels around the engine too; what changes from run to run they read from memory.
It is bound to the state of the execution context that it was captured from, so each tile size has
its own. A lane keeps a few of them, and they share one workspace for activations, which only one of
them uses at a time.

The kernels draw latents and round pictures, with the bits of numpy's. They are
runtime/cuda/drawing.cuh, as PTX (runtime/cuda/make_ptx.py), which the driver compiles for its GPU.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends.base import OUT_OF_MEMORY, Conditioning, Drawing, Finish
from srflow_sdk.backends.tensorrt_engines.cuda import (
    ALIGNMENT,
    THREADS,
    Block,
    CudaGpu,
    DeviceMemory,
    Launch,
)
from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.geometry.tiles import padded_size
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import write_atomically

Shape = tuple[int, ...]
_Around = tuple[tuple[Launch, ...], tuple[Launch, ...]]  # kernels before and after an engine
# Drawing in drawing.cuh; its last number becomes 1 where values are not usable
_STATE = struct.Struct("<QQ2q4qq")
_TAU = ALIGNMENT  # where it stands after that, as a tensor of the engine
_CHANNELS = 8  # of a level that a thread draws
# tiles of one image have at most this many: of corners, of two edges, of inner tiles
_SIZES_KEPT = 4
_numbers = count(1)  # of images
_log = logging.getLogger(__name__)


class EngineLog:
    """The library's logger: errors are kept by thread until asked for.

    Everything goes to Python's log as debug.
    """

    def __init__(self, trt: Any) -> None:
        self._errors: dict[int, deque[str]] = defaultdict(lambda: deque(maxlen=8))
        severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
        errors = self._errors

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity in severe:
                    errors[threading.get_ident()].append(" ".join(msg.split()))
                _log.debug("%s", msg)

        self.logger = Logger()

    def clear(self) -> None:
        """Forget this thread's earlier errors."""
        self._errors.pop(threading.get_ident(), None)

    def failure(self, what: str) -> DeviceError:
        """Make the error of a failed call: OutOfMemoryError if the library logged that reason."""
        messages = self._errors.pop(threading.get_ident(), ())
        reason = "; ".join(dict.fromkeys(messages))[:600] or "the library gave no reason"
        kind = OutOfMemoryError if OUT_OF_MEMORY.search(reason) else DeviceError
        return kind(f"{what}: {reason}")


class KernelCache:
    """Kernels that TensorRT-RTX compiles as an engine runs, and their file in the user's cache."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._read = b""
        self._cache: Any = None
        self._file: Path | None = None
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Let contexts made with an IRuntimeConfig use it."""
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                folder = cache_folder("tensorrt-rtx")
                self._file = folder and folder / self._name
                with contextlib.suppress(OSError):
                    self._read = self._file.read_bytes() if self._file else b""
                if self._read:
                    self._cache.deserialize(self._read)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what is new since :meth:`attach`, completely or not at all.

        Without it the next start takes longer.
        """
        if self._file is not None and bytes(kernels := self._cache.serialize()) != self._read:
            with contextlib.suppress(OSError):
                write_atomically(self._file, kernels)


class Engine:
    """A deserialised engine, which all threads share.

    own_graphs: the library captures graphs, as TensorRT-RTX does.
    """

    def __init__(
        self, trt: Any, engine: Any, *, log: EngineLog, kernels: KernelCache, own_graphs: bool
    ) -> None:
        self._trt = trt
        self._engine = engine
        self._kernels = kernels
        self.log = log
        self.own_graphs = own_graphs
        self.contexts_kept = 1 if own_graphs else _SIZES_KEPT
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.outputs = [name for name in names if engine.get_tensor_mode(name).name == "OUTPUT"]
        self._lock = threading.Lock()

    def nbytes(self, name: str, shape: Shape) -> int:
        """Bytes of a tensor."""
        return math.prod(shape) * int(self._engine.get_tensor_dtype(name).itemsize)

    def new_context(self) -> Any:
        """An execution context without memory for activations.

        Raises: DeviceError, OutOfMemoryError.
        """
        how = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            self.log.clear()
            if self.own_graphs:
                config = self._engine.create_runtime_config()
                config.set_execution_context_allocation_strategy(how)
                config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                self._kernels.attach(config)
                how = config
            context = self._engine.create_execution_context(how)
        if context is None:
            raise self.log.failure("an execution context could not be created")
        return context


class EncodedImage(Conditioning):
    """The encoder's outputs for one image, in one block of memory.

    Freed with the object, or with the backend.
    """

    def __init__(self, memory: DeviceMemory, engine: Engine, shapes: Mapping[str, Shape]) -> None:
        sizes = {name: engine.nbytes(name, shape) for name, shape in shapes.items()}
        *begins, end = accumulate(
            (padded_size(size, ALIGNMENT) for size in sizes.values()), initial=0
        )
        self.number = next(_numbers)
        self.begins = dict(zip(sizes, begins, strict=True))
        self.memory = memory
        self.shapes = dict(shapes)
        self.block = memory.take(end)
        self.release = weakref.finalize(self, memory.give_back, self.block)
        self.release.atexit = False

    @property
    def nbytes(self) -> int:
        return self.block.nbytes


class GpuLane:
    """A stream, the engines' contexts, a workspace, and a slot for one image's conditioning.

    One call at a time has it to itself, and may leave work on its stream: the next one's comes
    behind. Who changes or frees what that work uses waits for it first, by :meth:`settle`. Engines
    write and read conditioning in the slot alone, so that graphs hold for every image of a size.
    What they make leaves by another stream while later work runs.
    """

    def __init__(self, gpu: CudaGpu, memory: DeviceMemory) -> None:
        self.gpu = gpu
        self.memory = memory
        self.stream = gpu.new_stream()
        self.copies = gpu.new_stream()
        self._in_slot = 0  # the number of the image
        self._blocks: dict[str, Block] = {}
        self._kept: dict[Engine, list[Binding]] = {}

    def slot(self, image: EncodedImage, *, filled: bool = True) -> dict[str, int]:
        """Addresses in the slot of an image's conditioning, which is copied there unless it is.

        Or, if not filled, of what :meth:`move_out` will copy to the image's own memory.
        """
        slot = self.provide("slot", image.block.nbytes)
        if self._in_slot != image.number:
            self._in_slot = 0
            if filled:
                self.memory.copy(self.stream, image.block.address, slot.address, block=image.block)
                self._in_slot = image.number
        return {name: slot.address + begin for name, begin in image.begins.items()}

    def move_out(self, image: EncodedImage) -> None:
        """Copy what an encoder wrote into the slot to the image's own memory."""
        self.memory.copy(
            self.stream, self._blocks["slot"].address, image.block.address, block=image.block
        )
        self._in_slot = image.number

    def settle(self) -> None:
        """Wait for all work that calls left on the streams."""
        self.stream.synchronize()
        self.copies.synchronize()

    @contextlib.contextmanager
    def binding(self, engine: Engine, shapes: Mapping[str, Shape]) -> Iterator[Binding]:
        """A context of the engine for inputs of these shapes, dropped if the block fails.

        Raises: DeviceError.
        """
        kept = self._kept.setdefault(engine, [])
        binding = next((one for one in reversed(kept) if one.shapes == shapes), None)
        if binding is not None:
            kept.remove(binding)
        else:
            context = None
            if len(kept) >= engine.contexts_kept:
                (oldest := kept.pop(0)).close()
                context = oldest.context
            binding = Binding(self, engine, dict(shapes), context or engine.new_context())
        try:
            yield binding
        except BaseException:
            self._in_slot = 0
            with contextlib.suppress(DeviceError):
                binding.close()
            raise
        self._kept[engine].append(binding)

    def provide(self, what: str, nbytes: int) -> Block:
        """The workspace, the slot, or what is leaving: memory of the lane, at least this large."""
        if what not in self._blocks or self._blocks[what].nbytes < nbytes:
            self._drop(what)
            self._blocks[what] = self.memory.take(nbytes)
        return self._blocks[what]

    def clear(self) -> None:
        """Release memory, contexts and graphs; the next call makes new ones."""
        self.settle()
        while self._kept:
            for binding in self._kept.popitem()[1]:
                binding.close()
        for what in list(self._blocks):
            self._drop(what)

    def close(self) -> None:
        """Release everything; the lane cannot be used any more."""
        self.clear()
        self.stream.close()
        self.copies.close()

    def _drop(self, what: str) -> None:
        self._in_slot = 0
        if what in self._blocks:
            self.settle()
            self.memory.give_back(self._blocks.pop(what))


class Binding:
    """An execution context with its inputs' shapes, and buffers for tensors of the host."""

    def __init__(
        self, lane: GpuLane, engine: Engine, shapes: dict[str, Shape], context: Any
    ) -> None:
        self.shapes = shapes
        self.context = context
        self._lane = lane
        self._engine = engine
        self._buffers: dict[str, Block] = {}
        self._pinned: dict[str, NDArray[np.uint8]] = {}
        self._sent = weakref.WeakSet[Sent]()
        # for what is sent, by its bytes
        self._free = defaultdict[int, list[tuple[NDArray[np.uint8], Any]]](list)
        self._held = contextlib.ExitStack()
        self._bound: tuple[dict[str, int], _Around, Block | None] = ({}, ((), ()), None)
        self.bounds_of: Finish | None = None  # whose bounds its buffer has
        self._settled = False
        self._capturable = not engine.own_graphs
        self._graph: Any = None
        engine.log.clear()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                size = "×".join(map(str, shape))
                raise engine.log.failure(
                    f"the engine was not built for {name} of {size}; use other tiles, or --shapes"
                )
        try:
            context.infer_shapes()
        except RuntimeError as error:
            raise engine.log.failure(f"the shapes do not fit together ({error})") from error
        self.output_shapes: dict[str, Shape] = {
            name: tuple(context.get_tensor_shape(name)) for name in engine.outputs
        }
        self._needed = int(context.update_device_memory_size_for_shapes())
        self._taken = self._event()  # behind the last copies out of what is pinned

    def run(
        self,
        uploads: Mapping[str, NDArray[Any]],
        bound: Mapping[str, int],
        *,
        before: Sequence[Launch] = (),
        after: Sequence[Launch] = (),
    ) -> None:
        """Compute, without waiting for it.

        Args:
            bound: Addresses of tensors that stay on the GPU; other outputs have a buffer.
            before, after: Kernels.
        """
        addresses = {
            name: self.buffer(name) for name in (*uploads, *self.output_shapes) if name not in bound
        }
        tensors = self.shapes.keys() | self.output_shapes.keys()
        bound = {
            **bound,
            **{name: address for name, address in addresses.items() if name in tensors},
        }
        self._bind(bound, (tuple(before), tuple(after)))
        self._lane.gpu.call("cudaEventSynchronize", self._taken)
        for name, array in uploads.items():
            if name not in self._pinned:
                self._pinned[name] = self._pin(self._buffers[name].nbytes)
            staged = self._pinned[name][: array.nbytes]
            np.copyto(staged.view(array.dtype).reshape(array.shape), array)
            self._lane.stream.copy(staged.ctypes.data, addresses[name], staged.nbytes)
        self._lane.stream.mark(self._taken)
        self._compute()

    def sent(self, pieces: Sequence[tuple[int, int]], *, most: int) -> Sent:
        """Send pieces of memory to the host, by address and bytes, at most so many in all.

        They are first copied aside on the GPU, which takes microseconds: while they leave, later
        work may write there.
        """
        memory, arrived = (
            self._free[most].pop() if self._free[most] else (self._pin(most), self._event())
        )
        stream = self._lane.stream
        copies = self._lane.copies
        aside = self._lane.provide("leaving", most)
        end = 0
        stream.follow(copies)
        for address, nbytes in pieces:
            stream.copy(address, aside.address + end, nbytes)
            end += nbytes
        copies.follow(stream)
        copies.copy(aside.address, memory.ctypes.data, end)
        copies.mark(arrived)
        self._sent.add(sent := Sent(self._lane.gpu, memory, arrived))
        weakref.finalize(sent, self._free[most].append, (memory, arrived)).atexit = False
        return sent

    def close(self) -> None:
        """Release the graph, buffers and events.

        The context remains, as another binding may use it.
        """
        self._lane.settle()
        self._drop_graph()
        for sent in list(self._sent):
            sent.keep()
        self._held.close()

    def _pin(self, nbytes: int) -> NDArray[np.uint8]:
        memory = self._lane.gpu.pin(nbytes)
        self._held.callback(self._lane.gpu.unpin, memory)
        return memory

    def _event(self) -> Any:
        event = self._lane.gpu.new_event()
        self._held.callback(self._lane.gpu.call, "cudaEventDestroy", event)
        return event

    def buffer(self, name: str, nbytes: int | None = None) -> int:
        """The address of a tensor's buffer, or of another one of so many bytes.

        It stays until :meth:`close`.
        """
        if name not in self._buffers:
            if nbytes is None:
                nbytes = self._engine.nbytes(name, (self.shapes | self.output_shapes)[name])
            self._buffers[name] = self._lane.memory.take(nbytes)
            self._held.callback(self._lane.memory.give_back, self._buffers[name])
        return self._buffers[name].address

    def _bind(self, addresses: dict[str, int], kernels: _Around) -> None:
        """Tell the context where its tensors and activations are.

        If that or a kernel changed, a graph is void.
        """
        workspace = self._lane.provide("workspace", self._needed) if self._needed else None
        before, _, last = self._bound
        if (addresses, kernels, workspace) == self._bound:
            return
        self._lane.settle()
        self._drop_graph()
        self._settled = False
        self._engine.log.clear()
        if workspace != last and workspace is not None:
            self.context.set_device_memory(workspace.address, workspace.nbytes)
        for name, address in addresses.items():
            if before.get(name) != address and not self.context.set_tensor_address(name, address):
                raise self._engine.log.failure(f"the engine refuses the address of {name}")
        self._bound = addresses, kernels, workspace

    def _compute(self) -> None:
        """Launch the graph, captured once a run was the same and so all lazy work is done.

        Otherwise enqueue.
        """
        lane = self._lane
        if self._graph is None and self._settled and self._capturable:
            try:
                with lane.memory.untouched():
                    self._graph = lane.stream.capture(self._enqueue)
            except OutOfMemoryError:
                raise  # more memory is made free, and then this is tried again
            except DeviceError as error:
                self._capturable = False
                _log.warning(
                    "a CUDA graph could not be captured, so the GPU waits for the processor: %s",
                    error,
                )
        if self._graph is not None:
            lane.stream.call("cudaGraphLaunch", self._graph)
        else:
            self._enqueue()
        self._settled = True

    def _enqueue(self) -> None:
        before, after = self._bound[1]
        for launch in before:
            self._lane.stream.start(launch)
        self._engine.log.clear()
        if not self.context.execute_async_v3(self._lane.stream.handle):
            raise self._engine.log.failure("the engine failed")
        for launch in after:
            self._lane.stream.start(launch)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            graph = self._graph
            self._graph = None
            self._lane.gpu.call("cudaGraphExecDestroy", graph)


class Sent:
    """Results on their way to pinned memory.

    Their lane may be used, and be cleared, before they are read, or never.
    """

    def __init__(self, gpu: CudaGpu, memory: NDArray[np.uint8], arrived: Any) -> None:
        self._gpu = gpu
        self._memory = memory
        self._arrived = arrived
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def read(self) -> Iterator[NDArray[np.uint8]]:
        """Wait for the results, which can be read in the block. Raises: DeviceError."""
        with self._lock:
            if self._arrived is not None:
                self._gpu.call("cudaEventSynchronize", self._arrived)
            yield self._memory

    def keep(self) -> None:
        """Copy what has arrived, because the pinned memory is freed."""
        with self._lock:
            self._memory = self._memory.copy()
            self._arrived = None


def state_of(drawing: Drawing) -> bytes:
    """A Drawing of drawing.cuh."""
    place = (drawing.window.top, drawing.window.left, *astuple(drawing.core))
    return _STATE.pack(drawing.seed, drawing.sample, *place, 0).ljust(_TAU, b"\0")


def is_usable(state: NDArray[np.uint8]) -> bool:
    """Tell from a finished picture's Drawing if all of its values can be a picture's."""
    return not _STATE.unpack_from(state.data)[-1]


class DrawingKernels:
    """The kernels of one GPU. Thread-safe. Raises: DeviceError if the driver does not take them."""

    def __init__(self, gpu: CudaGpu) -> None:
        ptx = Path(__file__).with_name("drawing.ptx").read_bytes()
        self.unload, (self._latents, self._finish) = gpu.load(
            ptx, "srflow_draw_latents", "srflow_finish"
        )

    def latents(
        self, drawing: Drawing, state: int, targets: Mapping[int, int], maps: Mapping[int, int]
    ) -> list[Launch]:
        """What draws the noise of each level to an address, times a map.

        state: where :func:`state_of` stands.
        """
        launches = []
        for level, (channels, rows, columns) in drawing.shapes.items():
            grid = -(-rows * columns // THREADS), -(-channels // _CHANNELS)
            of_level = (drawing.scale, level, channels, rows, columns)
            launches.append(
                Launch(self._latents, grid, (state, *of_level, maps.get(level, 0), targets[level]))
            )
        return launches

    def finish(
        self,
        drawing: Drawing,
        state: int,
        size: tuple[int, int],
        source: int,
        bounds: int,
        target: int,
    ) -> Launch:
        """What smooths a picture's core if asked, bounds its colours and rounds it.

        bounds: an address, or 0 for none.
        """
        assert drawing.finish is not None  # for the type checker
        most = int(np.iinfo(drawing.finish.dtype).max)
        blocks = -(-size[0] * size[1] // THREADS)
        return Launch(
            self._finish,
            (blocks, 1),
            (state, drawing.scale, most, *size, int(drawing.smoothed), source, bounds, target),
        )

    def draw(
        self, binding: Binding, bound: Mapping[str, int], drawing: Drawing
    ) -> Callable[[], NDArray[Any]]:
        """Draw the core of a picture with the sampler's binding.

        Args:
            bound: The conditioning's addresses.

        Returns:
            A function that waits for the core and gives it.
        """
        # Many names, as one run takes all of these addresses.
        finish = drawing.finish
        core = drawing.core
        content = state_of(drawing) + struct.pack("<f", drawing.tau)
        uploads: dict[str, NDArray[Any]] = {"drawing": np.frombuffer(content, np.uint8)}
        state = binding.buffer("drawing", len(content))
        maps = dict[int, int]()
        for level, values in drawing.maps.items():
            uploads[f"map_level{level}"] = values
            maps[level] = binding.buffer(f"map_level{level}", values.nbytes)
        targets = {level: binding.buffer(f"noise_level{level}") for level in drawing.shapes}
        noise = {f"noise_level{level}": address for level, address in targets.items()}
        source, (height, width) = binding.buffer("sr"), binding.output_shapes["sr"][2:]
        shape = (3, height, width)
        dtype = np.dtype(np.float32)
        after = list[Launch]()
        if finish is not None:
            shape = (core.height, core.width, 3)
            dtype = finish.dtype
            bounds = 0
            if finish.bounds is not None:
                if binding.bounds_of is not finish:  # once for all samples of a tile
                    uploads["bounds"] = finish.bounds
                bounds = binding.buffer("bounds", height * width * 16 // drawing.scale**2)
            target = binding.buffer(f"sr_{dtype}", height * width * 3 * dtype.itemsize)
            after.append(self.finish(drawing, state, (height, width), source, bounds, target))
            source = target
        before = self.latents(drawing, state, targets, maps)
        binding.run(uploads, {**bound, **noise, "tau": state + _TAU}, before=before, after=after)
        binding.bounds_of = finish
        nbytes = math.prod(shape) * dtype.itemsize
        sent = binding.sent(
            [(state, _TAU), (source, nbytes)], most=_TAU + height * width * 3 * dtype.itemsize
        )

        def core_of_picture() -> NDArray[Any]:
            with sent.read() as came:
                values = came[_TAU : _TAU + nbytes].view(dtype).reshape(shape)
                if finish is None:
                    return np.array(drawing.cut_core(values))
                return values.copy() if is_usable(came) else np.full(shape, np.nan, np.float32)

        return core_of_picture
