"""Runs one engine: shapes, addresses, activations, and a CUDA graph once the same work repeats.

A graph has the kernels around the engine too; what changes from run to run they read from memory. It is bound to the
state of the execution context that it was captured from, so each tile size has its own. A lane keeps a few of them, and
they share one workspace for activations, which only one of them uses at a time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._engine_tensors import differences, tensor_types
from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu, Launch, Stream
from srflow_sdk.backends.tensorrt_engines.device_memory import Block, DeviceMemory
from srflow_sdk.backends.tensorrt_engines.kernels import KernelCache
from srflow_sdk.errors import BundleError, DeviceError, OutOfMemoryError

Shape = tuple[int, ...]
Stages = tuple[tuple[Launch, ...], tuple[Launch, ...]]  # kernels before and after the engine
_SIZES_KEPT = 4  # tiles of one image have at most this many: of corners, of two edges, of inner tiles
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|not enough (free )?memory|insufficient memory|could not be allocated|failed to allocate",
    re.IGNORECASE,
)
_log = logging.getLogger(__name__)


class EngineLog:
    """The library's logger: errors are kept by thread until asked for; everything goes to Python's log as debug."""

    def __init__(self, trt: Any) -> None:
        self._threads = threading.local()
        severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
        errors = self._errors

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity in severe:
                    errors().append(" ".join(msg.split()))
                _log.debug("%s", msg)

        self.logger = Logger()

    @property
    def has_errors(self) -> bool:
        """True if the library logged errors in this thread since :meth:`clear`."""
        return bool(self._errors())

    def clear(self) -> None:
        """Forget this thread's earlier errors."""
        self._errors().clear()

    def failure(self, what: str) -> DeviceError:
        """The error to raise after a call of the library failed: OutOfMemoryError if that is the reason it logged."""
        reason = "; ".join(dict.fromkeys(self._errors()))[:600] or "the library gave no reason"
        self.clear()
        kind = OutOfMemoryError if _OUT_OF_MEMORY.search(reason) else DeviceError
        return kind(f"{what}: {reason}")

    def _errors(self) -> deque[str]:
        if not hasattr(self._threads, "errors"):
            self._threads.errors = deque(maxlen=8)
        errors: deque[str] = self._threads.errors
        return errors


class Engine:
    """A deserialised engine, which all threads share.

    trt: the library. kernels: where TensorRT-RTX keeps the kernels that it compiles. own_graphs: whether the library
    captures graphs by itself, as TensorRT-RTX does once the kernels for a size are compiled; then one context serves
    all sizes, so that it keeps them together. inputs, outputs: types of its tensors by name.
    """

    def __init__(self, trt: Any, engine: Any, *, log: EngineLog, kernels: KernelCache, own_graphs: bool) -> None:
        self._trt = trt
        self._engine = engine
        self._kernels = kernels
        self.log = log
        self.own_graphs = own_graphs
        self.contexts_kept = 1 if own_graphs else _SIZES_KEPT
        self.inputs, self.outputs = tensor_types(engine)
        self._lock = threading.Lock()

    def check(self, *, inputs: Mapping[str, str], outputs: Mapping[str, str], where: str) -> None:
        """Raises: BundleError, naming each tensor that is missing, unknown or of another type. where: its file."""
        if faults := [*differences("input", self.inputs, inputs), *differences("output", self.outputs, outputs)]:
            raise BundleError(
                f"{where} is not an engine of this bundle's graphs: {'; '.join(faults)}; export the bundle again with "
                "srflow-export"
            )

    def profile(self, name: str) -> list[Shape]:
        """Smallest, optimal and largest shape of an input."""
        return [tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0)]

    def nbytes(self, name: str, shape: Shape) -> int:
        """Bytes of a tensor."""
        return math.prod(shape) * int(self._engine.get_tensor_dtype(name).itemsize)

    def new_context(self) -> Any:
        """An execution context without memory for activations. Raises: DeviceError, OutOfMemoryError."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            self.log.clear()
            how = self._runtime_config(strategy) if self.own_graphs else strategy
            context = self._engine.create_execution_context(how)
        if context is None:
            raise self.log.failure("an execution context could not be created")
        return context

    def _runtime_config(self, strategy: Any) -> Any:
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._kernels.attach(config)
        return config


class GpuLane:
    """A stream, execution contexts of the engines and a workspace, which one call at a time has to itself.

    no_graphs: set after the first failure to capture a graph, for all lanes.
    """

    def __init__(self, gpu: CudaGpu, memory: DeviceMemory, no_graphs: threading.Event) -> None:
        self.gpu = gpu
        self.stream: Stream = gpu.new_stream()
        self.memory = memory
        self.no_graphs = no_graphs
        self.workspace: Block | None = None
        self._kept: dict[Engine, list[Binding]] = {}

    @contextlib.contextmanager
    def binding(self, engine: Engine, shapes: Mapping[str, Shape]) -> Iterator[Binding]:
        """A context of the engine for inputs of these shapes. It is dropped if the block fails.

        Raises: DeviceError for shapes outside the engine's profile, OutOfMemoryError.
        """
        binding = self._taken(engine, dict(shapes))
        try:
            yield binding
        except BaseException:
            with contextlib.suppress(DeviceError):
                self.stream.synchronize()
            with contextlib.suppress(DeviceError):
                binding.close()
            raise
        self._kept[engine].append(binding)

    def provide_workspace(self, nbytes: int) -> None:
        """Make the workspace at least this large. It is not in use, because every call waits for its work."""
        if self.workspace is None or self.workspace.nbytes < nbytes:
            self._free_workspace()
            self.workspace = self.memory.take(nbytes)

    def _free_workspace(self) -> None:
        if self.workspace is not None:
            self.memory.free(self.workspace)
            self.workspace = None

    def clear(self) -> None:
        """Release contexts, graphs and memory; the next call makes new ones."""
        for bindings in self._kept.values():
            for binding in bindings:
                binding.close()
        self._kept.clear()
        self._free_workspace()

    def close(self) -> None:
        """Release everything."""
        self.clear()
        self.stream.close()

    def _taken(self, engine: Engine, shapes: dict[str, Shape]) -> Binding:
        kept = self._kept.setdefault(engine, [])
        for binding in reversed(kept):
            if binding.shapes == shapes:
                kept.remove(binding)
                return binding
        context = None
        if len(kept) >= engine.contexts_kept:
            oldest = kept.pop(0)
            context = oldest.context
            oldest.close()
        return Binding(self, engine, shapes, engine.new_context() if context is None else context)


class Binding:
    """An execution context with shapes for its inputs, and buffers for tensors that come from and go to the host."""

    def __init__(self, lane: GpuLane, engine: Engine, shapes: dict[str, Shape], context: Any) -> None:
        self.shapes = shapes
        self.context = context
        self._lane = lane
        self._engine = engine
        self._buffers: dict[str, Block] = {}
        self._pinned: dict[str, NDArray[np.uint8]] = {}
        self._bound: dict[str, int] = {}
        self._stages: Stages = ((), ())
        self._workspace: Block | None = None
        self._settled = False
        self._graph: Any = None
        engine.log.clear()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise engine.log.failure(f"the engine refuses {name} of {_words(shape)}")
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise engine.log.failure(f"the shapes do not fit together ({error})") from error
        if missing:
            raise engine.log.failure(f"shapes are missing for {', '.join(missing)}")
        self.output_shapes: dict[str, Shape] = {name: tuple(context.get_tensor_shape(name)) for name in engine.outputs}
        self._needed = int(context.update_device_memory_size_for_shapes())
        if not self._needed and engine.log.has_errors:
            raise engine.log.failure("the engine does not say what memory it needs")

    def run(
        self,
        *,
        uploads: Mapping[str, NDArray[Any]],
        bound: Mapping[str, int],
        downloads: Mapping[str, Shape] | None = None,
        before: Sequence[Launch] = (),
        after: Sequence[Launch] = (),
    ) -> dict[str, NDArray[Any]]:
        """Compute, and wait for it. The arrays are in memory that the next run uses again: copy what is kept.

        uploads: arrays for inputs, or for buffers that :meth:`buffer` made. bound: addresses of all tensors
        that stay on the GPU. downloads: shapes of float32 outputs to bring back, or how many bytes of other buffers.
        before, after: kernels that fill inputs, and that read outputs.
        Raises: DeviceError, OutOfMemoryError.
        """
        stream = self._lane.stream
        addresses = {name: self.buffer(name) for name in (*uploads, *(downloads or {}))}
        tensors = self.shapes.keys() | self.output_shapes.keys()
        bound = {**bound, **{name: address for name, address in addresses.items() if name in tensors}}
        self._bind(bound, (tuple(before), tuple(after)))
        for name, array in uploads.items():
            staged = self._staged(name, array.shape, array.dtype)
            np.copyto(staged, array)
            stream.upload(staged, addresses[name])
        self._compute()
        arrays = {
            name: self._staged(name, shape, np.dtype(np.float32 if name in tensors else np.uint8))
            for name, shape in (downloads or {}).items()
        }
        for name, array in arrays.items():
            stream.download(addresses[name], array)
        stream.synchronize()
        return arrays

    def _staged(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array in pinned memory, the same for all runs, which is as large as the buffer of this name."""
        if name not in self._pinned:
            self._pinned[name] = self._lane.gpu.pin(self._buffers[name].nbytes)
        return self._pinned[name][: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def close(self) -> None:
        """Release the graph and buffers. The context remains, as another binding may use it."""
        self._drop_graph()
        for block in self._buffers.values():
            self._lane.memory.free(block)
        for memory in self._pinned.values():
            self._lane.gpu.unpin(memory)
        self._buffers.clear()
        self._pinned.clear()

    def buffer(self, name: str, nbytes: int | None = None) -> int:
        """The address of a tensor's buffer, or of another one of so many bytes; it stays until :meth:`close`."""
        if name not in self._buffers:
            if nbytes is None:
                shape = self.shapes[name] if name in self.shapes else self.output_shapes[name]
                nbytes = self._engine.nbytes(name, shape)
            self._buffers[name] = self._lane.memory.take(nbytes)
        return self._buffers[name].address

    def _bind(self, addresses: dict[str, int], stages: Stages) -> None:
        """Tell the context where its tensors and activations are. If that or a stage changed, a graph is void."""
        if self._needed:
            self._lane.provide_workspace(self._needed)
        workspace = self._lane.workspace
        if (addresses, stages) == (self._bound, self._stages) and workspace is self._workspace:
            return
        self._drop_graph()
        self._settled = False
        self._engine.log.clear()
        if workspace is not self._workspace and workspace is not None:
            self.context.set_device_memory(workspace.address, workspace.nbytes)
        for name, address in addresses.items():
            if self._bound.get(name) != address and not self.context.set_tensor_address(name, address):
                raise self._engine.log.failure(f"the engine refuses the address of {name}")
        self._bound, self._stages, self._workspace = addresses, stages, workspace

    def _compute(self) -> None:
        """Launch the graph, captured once a run was the same and so all lazy work is done; otherwise enqueue."""
        stream = self._lane.stream
        may_capture = not (self._engine.own_graphs or self._lane.no_graphs.is_set())
        if self._graph is None and self._settled and may_capture:
            try:
                with self._lane.memory.untouched():
                    self._graph = stream.capture(self._enqueue)
            except OutOfMemoryError:
                raise  # more memory is made free, and then this is tried again
            except DeviceError as error:
                if not self._lane.no_graphs.is_set():
                    _log.warning("continuing without CUDA graphs, which could not be captured: %s", error)
                self._lane.no_graphs.set()
        if self._graph is not None:
            stream.launch(self._graph)
        else:
            self._enqueue()
        self._settled = True

    def _enqueue(self) -> None:
        before, after = self._stages
        for launch in before:
            self._lane.stream.start(launch)
        self._execute()
        for launch in after:
            self._lane.stream.start(launch)

    def _execute(self) -> None:
        self._engine.log.clear()
        if not self.context.execute_async_v3(self._lane.stream.handle):
            raise self._engine.log.failure("the engine failed")

    def _drop_graph(self) -> None:
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._lane.stream.drop(graph)


def _words(shape: Shape) -> str:
    return "×".join(map(str, shape))
