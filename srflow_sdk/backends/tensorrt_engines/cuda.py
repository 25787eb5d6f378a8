"""One GPU through CUDA's runtime: calls, streams, copies, kernels and graphs, with typed errors.

The package cuda-bindings gives access to the runtime, and to the driver, which loads and launches kernels. It is
imported when a GPU is opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import DeviceError, OutOfMemoryError

_RUNTIME, _DRIVER = "cuda.bindings.runtime", "cuda.bindings.driver"
_OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")

THREADS = 128
"""In a block of every launch."""


@dataclass(frozen=True)
class Launch:
    """A kernel with all that it is launched with.

    stage: what it does, for people and measurements. kernel: from :meth:`CudaGpu.load`. grid: blocks in x and y.
    arguments: 64-bit numbers and addresses.
    """

    stage: str
    kernel: int
    grid: tuple[int, int]
    arguments: tuple[int, ...]


class CudaGpu:
    """A GPU, by its number among those that CUDA shows this process. Make one with :meth:`open`.

    Thread-safe. A thread must use the GPU inside :meth:`current`.
    """

    def __init__(self, runtime: Any, number: int) -> None:
        self._runtime = runtime
        self.number = number

    @classmethod
    def open(cls, number: int = 0) -> CudaGpu:
        """Open a GPU. Raises: DeviceError, with the fix, without cuda-bindings, a driver or such a GPU."""
        try:
            runtime = importlib.import_module(_RUNTIME)
        except ImportError as error:
            raise DeviceError(f"engines need cuda-bindings ({error}): pip install cuda-bindings") from error
        gpu = cls(runtime, number)
        fix = 'check the NVIDIA driver with nvidia-smi, or use device="cpu"; run srflow-doctor for details'
        try:
            (count,) = gpu.call("cudaGetDeviceCount")
        except DeviceError as error:
            raise DeviceError(f"CUDA finds no GPU here ({error}); {fix}") from error
        if number >= count:
            raise DeviceError(f"there is no GPU {number}: CUDA shows {count}, numbered from 0; {fix}")
        return gpu

    @cached_property
    def _driver(self) -> Any:
        return importlib.import_module(_DRIVER)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's GPU during the block; the context that the app had, or none, is restored afterwards."""
        # cudaSetDevice initialises a context since CUDA 12, also of an unused GPU (Runtime API, Device Management).
        (before,) = self.call("cuCtxGetCurrent")
        self.call("cudaSetDevice", self.number)
        try:
            yield
        finally:
            self.call("cuCtxSetCurrent", before)

    def load(self, ptx: bytes, *names: str) -> tuple[Callable[[], object], tuple[int, ...]]:
        """Load kernels into this thread's GPU; returns a function that unloads them, and their handles.

        The driver compiles PTX for the GPU and keeps the result in a cache of its own. Raises: DeviceError.
        """
        code = ctypes.create_string_buffer(ptx)  # NUL-terminated (CUDA driver API, cuModuleLoadData)
        (module,) = self.call("cuModuleLoadData", ctypes.addressof(code))
        unload = partial(self.call, "cuModuleUnload", module)
        try:
            kernels = [self.call("cuModuleGetFunction", module, name.encode()) for name in names]
        except DeviceError:
            unload()
            raise
        return unload, tuple(int(kernel) for (kernel,) in kernels)

    def pin(self, nbytes: int) -> NDArray[np.uint8]:
        """Allocate memory of the host that the GPU copies from and to by itself. Free it with :meth:`unpin`."""
        # Other memory "must first be staged to pinned memory" (CUDA Runtime API, "API synchronization behavior").
        (address,) = self.call("cudaMallocHost", nbytes)
        array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(int(address)))
        return array

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """Free pinned memory, of which no array is left."""
        self.call("cudaFreeHost", memory.ctypes.data)

    def new_stream(self) -> Stream:
        """Create a stream that does not wait for work on the default stream."""
        (handle,) = self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        return Stream(self, self._runtime, handle)

    def call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call a function of CUDA's runtime or driver; returns what it gives besides its status.

        Raises: OutOfMemoryError if the status says so, DeviceError for any other failure.
        """
        of_driver = not function.startswith("cuda")
        module = self._driver if of_driver else self._runtime
        status, *values = getattr(module, function)(*arguments)
        if int(status) == 0:
            return tuple(values)
        # CUDA remembers the failure until the next query: cleared, so that it is not taken for one of TensorRT's.
        self._runtime.cudaGetLastError()
        _, text = getattr(module, "cuGetErrorString" if of_driver else "cudaGetErrorString")(status)
        reason = f"{function}: {text.decode(errors='replace')}"
        raise OutOfMemoryError(reason) if status.name in _OUT_OF_MEMORY else DeviceError(reason)


class Stream:
    """A queue of work on a GPU. Made by :meth:`CudaGpu.new_stream`; used by one thread at a time."""

    def __init__(self, gpu: CudaGpu, runtime: Any, handle: Any) -> None:
        self._call = gpu.call
        self._runtime = runtime
        self._handle = handle

    @property
    def handle(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._handle)

    def allocate(self, nbytes: int) -> int:
        """Allocate memory; any stream can use the address after :meth:`synchronize`. Raises: OutOfMemoryError."""
        (address,) = self._call("cudaMallocAsync", nbytes, self._handle)
        return int(address)

    def free(self, address: int) -> None:
        """Free memory that no stream uses any more."""
        self._call("cudaFreeAsync", address, self._handle)

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy a contiguous array to the GPU; it must not change until :meth:`synchronize`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._handle)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Copy from the GPU into a contiguous array; it is filled after :meth:`synchronize`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._handle)

    def start(self, launch: Launch) -> None:
        """Start a kernel. Raises: DeviceError."""
        count = len(launch.arguments)
        values = (ctypes.c_uint64 * count)(*launch.arguments)
        pointers = (ctypes.c_void_p * count)(*(ctypes.addressof(values) + 8 * index for index in range(count)))
        # The driver copies the arguments in the call (CUDA driver API, cuLaunchKernel: kernelParams).
        where = (*launch.grid, 1, THREADS, 1, 1, 0, self.handle)
        self._call("cuLaunchKernel", launch.kernel, *where, ctypes.addressof(pointers), 0)

    def synchronize(self) -> None:
        """Wait until all work is done. Raises: DeviceError for what failed in it."""
        self._call("cudaStreamSynchronize", self._handle)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """Capture what `enqueue` puts on the stream, without running it, and return the graph for :meth:`launch`.

        Raises: its errors, DeviceError.
        """
        # Thread-local: what other threads do meanwhile, such as allocating, neither fails nor spoils the capture.
        self._call(
            "cudaStreamBeginCapture", self._handle, self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            enqueue()
        except BaseException:
            # Until the capture has ended, the stream can do nothing else.
            with contextlib.suppress(DeviceError):
                self._call("cudaGraphDestroy", *self._call("cudaStreamEndCapture", self._handle))
            raise
        (template,) = self._call("cudaStreamEndCapture", self._handle)
        try:
            (handle,) = self._call("cudaGraphInstantiate", template, 0)
        finally:
            self._call("cudaGraphDestroy", template)
        return handle

    def launch(self, graph: Any) -> None:
        """Run the captured work."""
        self._call("cudaGraphLaunch", graph, self._handle)

    def drop(self, graph: Any) -> None:
        """Destroy a captured graph."""
        self._call("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        """Destroy the stream."""
        self._call("cudaStreamDestroy", self._handle)
