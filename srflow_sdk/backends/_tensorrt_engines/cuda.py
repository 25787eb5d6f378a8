"""One GPU through CUDA's runtime: what is asked of it, streams, copies and graphs, with typed errors.

The package cuda-bindings is the runtime; it is imported when a GPU is opened.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import DeviceError, OutOfMemoryError

_MODULE = "cuda.bindings.runtime"
_OUT_OF_MEMORY = "cudaErrorMemoryAllocation"


class CudaGpu:
    """A GPU, by its number among those that CUDA shows this process. Make one with :meth:`open`.

    Thread-safe. What a thread does on the GPU it does inside :meth:`current`.
    """

    def __init__(self, runtime: Any, number: int) -> None:
        self._runtime = runtime
        self.number = number

    @classmethod
    def open(cls, number: int = 0) -> CudaGpu:
        """Raises: DeviceError without cuda-bindings, driver, or such a GPU; it says the fix."""
        try:
            runtime = importlib.import_module(_MODULE)
        except ImportError as error:
            raise DeviceError(f"engines need cuda-bindings ({error}): pip install cuda-bindings") from error
        gpu = cls(runtime, number)
        fix = 'check the NVIDIA driver with nvidia-smi, or use device="cpu"; srflow-doctor says more'
        try:
            (count,) = gpu.call("cudaGetDeviceCount")
        except DeviceError as error:
            raise DeviceError(f"CUDA finds no GPU here ({error}); {fix}") from error
        if number >= count:
            raise DeviceError(f"there is no GPU {number}: CUDA shows {count}, numbered from 0; {fix}")
        return gpu

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's GPU for a while: the app's own choice is put back."""
        (before,) = self.call("cudaGetDevice")
        self.call("cudaSetDevice", self.number)
        try:
            yield
        finally:
            if before != self.number:
                self.call("cudaSetDevice", before)

    def new_stream(self) -> Stream:
        """A stream that does not wait for what others do on the default one."""
        (handle,) = self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        return Stream(self, self._runtime, handle)

    def call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """A function of CUDA's runtime, and what it gives beside its status.

        Raises: OutOfMemoryError if the status says so, DeviceError for any other failure.
        """
        status, *values = getattr(self._runtime, function)(*arguments)
        if int(status) == 0:
            return tuple(values)
        # CUDA remembers the failure for whoever asks next: it must not be taken for one of TensorRT's.
        self._runtime.cudaGetLastError()
        _, text = self._runtime.cudaGetErrorString(status)
        reason = f"{function}: {text.decode(errors='replace')}"
        raise OutOfMemoryError(reason) if status.name == _OUT_OF_MEMORY else DeviceError(reason)


class Stream:
    """An order of work on a GPU. Made by :meth:`CudaGpu.new_stream`; used by one thread at a time."""

    def __init__(self, gpu: CudaGpu, runtime: Any, handle: Any) -> None:
        self._call = gpu.call
        self._runtime = runtime
        self._handle = handle

    @property
    def handle(self) -> int:
        """As TensorRT takes it."""
        return int(self._handle)

    def allocate(self, nbytes: int) -> int:
        """The address of new memory, for any stream after :meth:`synchronize`. Raises: OutOfMemoryError."""
        (address,) = self._call("cudaMallocAsync", nbytes, self._handle)
        return int(address)

    def free(self, address: int) -> None:
        """Give memory back that no stream uses any more."""
        self._call("cudaFreeAsync", address, self._handle)

    # Arrays are copied from and to ordinary memory: a pinned buffer between would cost one more copy on the host of the
    # same few megabytes, because callers bring and keep their own arrays.

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy a contiguous array to the GPU; it stays as it is until :meth:`synchronize`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._handle)

    def download(self, address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Copy from the GPU into a new float32 array; it is filled after :meth:`synchronize`."""
        array = np.empty(shape, np.float32)
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._handle)
        return array

    def synchronize(self) -> None:
        """Wait until all work is done. Raises: DeviceError for what failed in it."""
        self._call("cudaStreamSynchronize", self._handle)

    def capture(self, enqueue: Callable[[], None]) -> CudaGraph:
        """What `enqueue` puts on the stream as a graph, instead of doing it. Raises: what it raises, DeviceError."""
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
        return CudaGraph(self._call, handle)

    def launch(self, graph: CudaGraph) -> None:
        """Do what was captured, once more."""
        self._call("cudaGraphLaunch", graph.handle, self._handle)

    def close(self) -> None:
        """Destroy the stream."""
        self._call("cudaStreamDestroy", self._handle)


class CudaGraph:
    """Captured work, ready to be launched; see :meth:`Stream.capture`."""

    def __init__(self, call: Callable[..., tuple[Any, ...]], handle: Any) -> None:
        self._call = call
        self.handle = handle

    def close(self) -> None:
        """Destroy the graph."""
        self._call("cudaGraphExecDestroy", self.handle)
