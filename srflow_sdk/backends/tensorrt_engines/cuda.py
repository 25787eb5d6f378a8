"""One GPU through CUDA's runtime: calls, streams, kernels, graphs and memory, with typed errors.

The package cuda-bindings gives access to the runtime, and to the driver, which loads and launches
kernels. It is imported when a GPU is opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.system.hardware import cuda_of_wheels, find_gpu

_OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")

THREADS = 128  # in a block of every launch
ALIGNMENT = 256  # bytes: every tensor and workspace of TensorRT may start at a multiple of it


@dataclass(frozen=True)
class Launch:
    """A kernel from :meth:`CudaGpu.load`, its grid of blocks in x and y, and its arguments.

    These are 64-bit numbers and addresses.
    """

    kernel: int
    grid: tuple[int, int]
    arguments: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CudaGpu:
    """A GPU, by its number among those that CUDA shows.

    Thread-safe; threads use it inside :meth:`current`.
    """

    _runtime: Any
    _driver: Any
    number: int

    @classmethod
    def open(cls, number: int = 0) -> CudaGpu:
        """Open a GPU that its driver has shown. Raises: DeviceError."""
        try:
            runtime, driver = map(
                importlib.import_module, ("cuda.bindings.runtime", "cuda.bindings.driver")
            )
            gpu = cls(runtime, driver, number)
            gpu.call("cudaGetDeviceCount")  # which starts CUDA in this process
            return gpu
        except (ImportError, DeviceError) as error:  # absent, or of a newer CUDA than the driver's
            shown = find_gpu(number)
            fitting = cuda_of_wheels(shown.cuda) if shown else 12
            install = f'pip install "cuda-bindings=={fitting}.*"'
            raise DeviceError(
                f"work on the GPU needs cuda-bindings ({error}): {install}"
            ) from error

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's GPU during the block.

        The context that the app had, or none, is restored afterwards.
        """
        # cudaSetDevice initialises a context since CUDA 12, also of an unused GPU (Runtime API,
        # Device Management).
        (before,) = self.call("cuCtxGetCurrent")
        self.call("cudaSetDevice", self.number)
        try:
            yield
        finally:
            self.call("cuCtxSetCurrent", before)

    def load(self, ptx: bytes, *names: str) -> tuple[Callable[[], object], list[int]]:
        """Load kernels, which the driver compiles and caches.

        Returns a function to unload them, and their handles.
        """
        # NUL-terminated (CUDA driver API, cuModuleLoadData)
        code = ctypes.create_string_buffer(ptx)
        (module,) = self.call("cuModuleLoadData", ctypes.addressof(code))
        kernels = [int(*self.call("cuModuleGetFunction", module, name.encode())) for name in names]
        return partial(self.call, "cuModuleUnload", module), kernels

    def pin(self, nbytes: int) -> NDArray[np.uint8]:
        """Allocate memory of the host that the GPU copies from and to by itself.

        Free it with :meth:`unpin`.
        """
        # Other memory "must first be staged to pinned memory" (CUDA Runtime API, "API
        # synchronization behavior").
        (address,) = self.call("cudaMallocHost", nbytes)
        array: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * nbytes).from_address(int(address))
        )
        return array

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Free pinned memory, of which no array is left."""
        self.call("cudaFreeHost", memory.ctypes.data)

    def new_event(self) -> Any:
        """Create an event, for :meth:`Stream.mark`."""
        (event,) = self.call("cudaEventCreateWithFlags", self._runtime.cudaEventDisableTiming)
        return event

    def new_stream(self) -> Stream:
        """Create a stream that does not wait for work on the default stream."""
        (handle,) = self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        return Stream(self, handle, self.new_event())

    def call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call a function of CUDA, and return its values without the status.

        Raises: OutOfMemoryError, DeviceError.
        """
        of_driver = not function.startswith("cuda")
        module = self._driver if of_driver else self._runtime
        status, *values = getattr(module, function)(*arguments)
        if int(status) == 0:
            return tuple(values)
        # CUDA remembers the failure until the next query: cleared, so that it is not taken for one
        # of TensorRT's.
        self._runtime.cudaGetLastError()
        _, text = getattr(module, "cuGetErrorString" if of_driver else "cudaGetErrorString")(status)
        reason = f"{function}: {text.decode(errors='replace')}"
        raise OutOfMemoryError(reason) if status.name in _OUT_OF_MEMORY else DeviceError(reason)


@dataclass(frozen=True, eq=False)
class Stream:
    """A queue of work on a GPU.

    Made by :meth:`CudaGpu.new_stream`; used by one thread at a time.
    """

    _gpu: CudaGpu
    _handle: Any
    _event: Any

    @property
    def handle(self) -> int:
        """The handle as TensorRT takes it."""
        return int(self._handle)

    def call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call a function of CUDA's runtime whose last argument is the stream."""
        return self._gpu.call(function, *arguments, self._handle)

    def copy(self, source: int, target: int, nbytes: int) -> None:
        """Copy memory of the GPU or the host.

        The source must not change until :meth:`synchronize`.
        """
        self.call(
            "cudaMemcpyAsync",
            target,
            source,
            nbytes,
            self._gpu._runtime.cudaMemcpyKind.cudaMemcpyDefault,
        )

    def mark(self, event: Any) -> None:
        """Put an event behind the work so far.

        "cudaEventSynchronize" waits for it, if it was ever put anywhere.
        """
        self.call("cudaEventRecord", event)

    def wait(self, event: Any) -> None:
        """Let later work wait for an event where it stands now. The processor does not wait."""
        self._gpu.call("cudaStreamWaitEvent", self._handle, event, 0)

    def follow(self, other: Stream) -> None:
        """Let later work wait for what the other one has so far."""
        other.mark(other._event)
        self.wait(other._event)

    def start(self, launch: Launch) -> None:
        """Start a kernel. Raises: DeviceError."""
        count = len(launch.arguments)
        values = (ctypes.c_uint64 * count)(*launch.arguments)
        pointers = (ctypes.c_void_p * count)(
            *(ctypes.addressof(values) + 8 * index for index in range(count))
        )
        # The driver copies the arguments in the call (CUDA driver API, cuLaunchKernel:
        # kernelParams).
        where = (*launch.grid, 1, THREADS, 1, 1, 0, self.handle)
        self._gpu.call("cuLaunchKernel", launch.kernel, *where, ctypes.addressof(pointers), 0)

    def synchronize(self) -> None:
        """Wait until all work is done. Raises: DeviceError for what failed in it."""
        self.call("cudaStreamSynchronize")

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """Capture what `enqueue` puts on the stream, which does not run, for "cudaGraphLaunch"."""
        # Thread-local: what other threads do meanwhile, such as allocating, neither fails nor
        # spoils the capture.
        mode = self._gpu._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._gpu.call("cudaStreamBeginCapture", self._handle, mode)
        try:
            enqueue()
        except BaseException:
            # Until the capture has ended, the stream can do nothing else.
            with contextlib.suppress(DeviceError):
                self._gpu.call("cudaGraphDestroy", *self.call("cudaStreamEndCapture"))
            raise
        (template,) = self.call("cudaStreamEndCapture")
        try:
            (graph,) = self._gpu.call("cudaGraphInstantiate", template, 0)
        finally:
            self._gpu.call("cudaGraphDestroy", template)
        return graph

    def close(self) -> None:
        """Destroy the stream."""
        self.call("cudaStreamDestroy")
        self._gpu.call("cudaEventDestroy", self._event)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Memory on the GPU."""

    address: int
    nbytes: int


class DeviceMemory:
    """Blocks of a GPU's memory; an unused one waits for a request of its size."""

    def __init__(self, gpu: CudaGpu) -> None:
        self._gpu = gpu
        self._stream = gpu.new_stream()
        self._lock = threading.Lock()
        self._returned: deque[Block] = deque()
        self._spare: deque[Block] = deque()
        self._blocks: dict[int, Block] = {}
        # behind the last use of blocks that streams share
        self._events = defaultdict[int, Any](gpu.new_event)
        self._closed = False

    def take(self, nbytes: int) -> Block:
        """Get a block of this size, with undefined content.

        Raises: OutOfMemoryError, DeviceError.
        """
        with self._lock:
            self._sort(1)
            if self._spare and self._spare[0].nbytes == nbytes:
                return self._spare.popleft()
            self._sort(0)
            (address,) = self._stream.call("cudaMallocAsync", nbytes)
            block = Block(address=int(address), nbytes=nbytes)
            self._blocks[block.address] = block
            self._stream.synchronize()  # so that other streams may use it
            return block

    def copy(self, stream: Stream, source: int, target: int, *, block: Block) -> None:
        """Copy all of a block that other streams use too, or anew once they have done so."""
        with self._lock:
            event = self._events[block.address]
            stream.wait(event)
            stream.copy(source, target, block.nbytes)
            stream.mark(event)

    def give_back(self, block: Block) -> None:
        """Return a block that no stream uses but by :meth:`copy`, also from a finaliser."""
        if self._closed:
            return
        self._returned.append(block)
        # Garbage may be collected inside `take`, or while a graph is captured, when nothing may be
        # freed: then the holder of the lock sorts the block.
        if self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(DeviceError), self._gpu.current():
                    self._sort(1)
            finally:
                self._lock.release()

    def trim(self) -> None:
        """Free all unused blocks."""
        with self._lock:
            self._sort(0)

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Prevent allocating and freeing during the block: a capture on this thread would fail."""
        with self._lock:
            try:
                yield
            finally:
                self._sort(1)

    def close(self) -> None:
        """Free every block, used or not."""
        with self._lock:
            self._closed = True
            self._returned.clear()
            self._spare.clear()
            for block in list(self._blocks.values()):
                self._free(block)
            self._stream.synchronize()
            self._stream.close()

    def _sort(self, keep: int) -> None:
        """Take in the blocks that came back, and free the oldest beyond the number to keep."""
        while self._returned and not self._closed:
            if (address := self._returned[0].address) in self._events:
                self._gpu.call("cudaEventSynchronize", self._events[address])
            self._spare.append(self._returned.popleft())
        if len(self._spare) > keep:
            while len(self._spare) > keep:
                self._free(self._spare.popleft())
            self._stream.synchronize()  # now other programs can have it

    def _free(self, block: Block) -> None:
        del self._blocks[block.address]
        if block.address in self._events:
            self._gpu.call("cudaEventDestroy", self._events.pop(block.address))
        self._stream.call("cudaFreeAsync", block.address)
