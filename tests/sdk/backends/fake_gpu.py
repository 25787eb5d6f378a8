"""CUDA in main memory: work waits on streams until somebody waits for it, and what CUDA forbids
fails here.

`FakeGpu` is what lies behind; `runtime_module` and `driver_module` give it the faces of
`cuda.bindings.runtime` and `cuda.bindings.driver`. Kernels are PTX, which `fake_ptx` runs.
"""
# ruff: noqa: N801, N802, N803, N815

from __future__ import annotations

import ctypes
import enum
import itertools
import re
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .fake_ptx import Kernel, kernels_of


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
Work = Callable[[], None]


@dataclass
class _Stream:
    device: int
    pending: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None
    spoiled: bool = False
    capturing_thread: int = 0


class FakeGpu:
    """One GPU with so many bytes of memory. `violations` is what a real one would have answered
    with a crash."""

    def __init__(self, nbytes=1 << 30):
        self.nbytes = nbytes
        self.devices = 1
        self.can_capture = True
        self.ptx_version = 8.0
        self.violations: list[str] = []
        self.blocks: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.streams: dict[int, _Stream] = {}
        self.graphs: dict[int, list[Work]] = {}
        # where each stands: a stream, and whether it got there
        self.events: dict[int, tuple[int, list[bool]]] = {}
        # streams whose work is done at once, as early as a GPU may do it
        self.eager: set[int] = set()
        self.modules: dict[int, dict[str, Kernel]] = {}
        self.kernels: dict[int, Kernel] = {}
        self.contexts: set[int] = set()  # GPUs whose primary context was initialised
        # What happened so far: kernels that ran, bytes of copies to the host and from ordinary
        # memory of it, and more.
        self.started: list[str] = []
        self.pageable: list[int] = []
        self.copied: list[tuple[bool, bool, int]] = []  # from the GPU, to it, bytes
        # the functions by which the processor waited for work that was not done
        self.waited: list[str] = []
        self.allocations = self.launches = self.captures = self.outside_graphs = 0
        self._handles = itertools.count(1000)
        self._lock = threading.RLock()
        self._current = threading.local()

    @property
    def used(self):
        return sum(block.nbytes for block in self.blocks.values())

    def violated(self, what):
        self.violations.append(what)
        raise AssertionError(what)

    def view(self, address, nbytes):
        """Live device memory as bytes."""
        for start, block in list(self.blocks.items()):
            if start <= address and address + nbytes <= start + block.nbytes:
                return block[address - start : address - start + nbytes]
        self.violated(f"{nbytes} bytes at {address:#x} are not allocated")
        raise AssertionError

    def put(self, stream, work):
        """Work on a stream: kept until it is waited for, or for the graph that is captured."""
        with self._lock:
            target = self.streams[stream]
            if self.device_here() != target.device:
                self.violated(
                    f"a stream of GPU {target.device} is used where {self.device_here()} is current"
                )
            (target.pending if target.captured is None else target.captured).append(work)
            if stream in self.eager and target.captured is None:
                self._work(stream)

    def _work(self, stream, until=lambda: False):
        """Do what waits on a stream, as far as an event. What it waits for is done, too."""
        pending = self.streams[stream].pending
        while pending and not until():
            pending.pop(0)()

    def capturing(self, stream):
        return self.streams[stream].captured is not None

    def device_here(self):
        """The GPU of this thread's context; None: it has none."""
        return getattr(self._current, "device", None)

    def _not_captured(self):
        """The lock for a call that no capture may see: it spoils the one of its thread."""
        with self._lock:
            for stream in self.streams.values():
                stream.spoiled |= (
                    stream.captured is not None and stream.capturing_thread == threading.get_ident()
                )
        return self._lock

    # The runtime's functions: a status, then values.

    def cudaGetDeviceCount(self):
        return (OK, self.devices) if self.devices else (cudaError_t.cudaErrorNoDevice, 0)

    def cudaSetDevice(self, device):
        """It initialises the context, too (CUDA Runtime API, "Device Management": since 12.0)."""
        self.contexts.add(device)
        self._current.device = device
        return (OK,)

    def cudaGetLastError(self):
        return (OK,)

    def cudaGetErrorString(self, error):
        text = "out of memory" if error == cudaError_t.cudaErrorMemoryAllocation else error.name
        return OK, text.encode()

    def cudaStreamCreateWithFlags(self, flags):
        # which an earlier call has made
        self.streams[handle := next(self._handles)] = _Stream(self._current.device)
        return OK, handle

    def cudaStreamDestroy(self, stream):
        if self.streams.pop(stream).pending:
            self.violated("a stream with work on it is destroyed")
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        with self._not_captured():
            self.waited += ["cudaStreamSynchronize"] if self.streams[stream].pending else []
            self._work(stream)
        return (OK,)

    def cudaEventCreateWithFlags(self, flags):
        self.events[handle := next(self._handles)] = 0, [True]
        return OK, handle

    def cudaEventDestroy(self, event):
        if not self.events.pop(event)[1][0]:
            self.violated("an event is destroyed that is waited for")
        return (OK,)

    def cudaEventRecord(self, event, stream):
        done = [False]
        self.events[event] = stream, done
        self.put(stream, lambda: done.__setitem__(0, True))
        return (OK,)

    def cudaStreamWaitEvent(self, stream, event, flags):
        """It waits for what the event stands for now: recording it again changes nothing (CUDA
        runtime API)."""
        of, done = self.events[event]
        self.put(stream, lambda: self._work(of, lambda: done[0]) if not done[0] else None)
        return (OK,)

    def cudaEventSynchronize(self, event):
        of, done = self.events[event]
        with self._not_captured():
            if not done[0]:
                self.waited.append("cudaEventSynchronize")
                self._work(of, lambda: done[0])
        return (OK,)

    def cudaMallocAsync(self, size, hStream):
        with self._not_captured():
            if self.used + size > self.nbytes:
                return cudaError_t.cudaErrorMemoryAllocation, 0
            # whoever reads what nobody wrote gets nonsense
            block = np.full(size + 256, 0x7F, np.uint8)
            start = -block.ctypes.data % 256
            block = block[start : start + size]
            self.blocks[block.ctypes.data] = block
            self.allocations += 1
        return OK, block.ctypes.data

    def cudaFreeAsync(self, devPtr, hStream):
        with self._not_captured():
            if devPtr not in self.blocks:
                self.violated("memory is freed that is not allocated")
            self.blocks.pop(devPtr)[...] = 0x7F
        return (OK,)

    def cudaMallocHost(self, size):
        with self._not_captured():
            memory = np.full(size, 0x7F, np.uint8)
            self.pinned[memory.ctypes.data] = memory
        return OK, memory.ctypes.data

    def cudaFreeHost(self, ptr):
        with self._not_captured():
            self.pinned.pop(ptr)[...] = 0x7F
        return (OK,)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        """Ordinary memory is staged by the call, and pinned memory is read when the copy's turn has
        come (CUDA runtime API, "API synchronization behavior", Memcpy, Asynchronous)."""
        with self._not_captured():
            on_gpu = [
                any(at <= one < at + len(block) for at, block in self.blocks.items())
                for one in (src, dst)
            ]
            self.copied.append((on_gpu[0], on_gpu[1], count))
            host = [one for one, here in zip((src, dst), on_gpu, strict=True) if not here]
            spans = [(start, start + memory.nbytes) for start, memory in self.pinned.items()]
            pinned = all(
                any(start <= one and one + count <= end for start, end in spans) for one in host
            )
            (self.pageable if not pinned else []).append(count)
            staged = ctypes.string_at(src, count) if not (pinned or on_gpu[0]) else None

            def copy():
                data = (
                    self.view(src, count).tobytes()
                    if on_gpu[0]
                    else staged or ctypes.string_at(src, count)
                )
                if on_gpu[1]:
                    self.view(dst, count)[...] = np.frombuffer(data, np.uint8)
                else:
                    ctypes.memmove(dst, data, count)

            self.put(stream, copy)
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        if not self.can_capture:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        target = self.streams[stream]
        target.captured = []
        target.spoiled = False
        target.capturing_thread = threading.get_ident()
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        target = self.streams[stream]
        work = target.captured
        target.captured = None
        if work is None or target.spoiled:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        self.captures += 1
        return OK, work

    def cudaGraphInstantiate(self, graph, flags):
        self.graphs[handle := next(self._handles)] = graph
        return OK, handle

    def cudaGraphDestroy(self, graph):
        return (OK,)

    def cudaGraphLaunch(self, graphExec, stream):
        self.launches += 1
        for work in self.graphs[graphExec]:
            self.put(stream, work)
        return (OK,)

    def cudaGraphExecDestroy(self, graphExec):
        del self.graphs[graphExec]
        return (OK,)

    # The driver's functions.

    def cuCtxGetCurrent(self):
        return CUresult.CUDA_SUCCESS, self.device_here()

    def cuCtxSetCurrent(self, ctx):
        self._current.device = ctx
        return (CUresult.CUDA_SUCCESS,)

    def cuGetErrorString(self, error):
        return CUresult.CUDA_SUCCESS, error.name.encode()

    def cuModuleLoadData(self, image):
        """image: "a NULL-terminated text string" of PTX (CUDA driver API, section 6.11)."""
        with self._not_captured():
            ptx = ctypes.string_at(image).decode()
            (version,) = re.findall(r"^\.version (\d+\.\d+)$", ptx, re.MULTILINE)
            if float(version) > self.ptx_version:
                return CUresult.CUDA_ERROR_UNSUPPORTED_PTX_VERSION, None
            self.modules[handle := next(self._handles)] = kernels_of(ptx)
        return CUresult.CUDA_SUCCESS, handle

    def cuModuleGetFunction(self, hmod, name):
        self.kernels[handle := next(self._handles)] = self.modules[hmod][name.decode()]
        return CUresult.CUDA_SUCCESS, handle

    def cuModuleUnload(self, hmod):
        del self.modules[hmod]
        return (CUresult.CUDA_SUCCESS,)

    def cuLaunchKernel(
        self,
        f,
        gridDimX,
        gridDimY,
        gridDimZ,
        blockDimX,
        blockDimY,
        blockDimZ,
        sharedMemBytes,
        hStream,
        kernelParams,
        extra,
    ):
        """The parameters are copied by the call: their memory is the caller's again."""
        kernel = self.kernels[f]
        if not (0 < gridDimX < 1 << 31 and 0 < gridDimY < 1 << 16) or blockDimX > 1024:
            self.violated("a grid is too large or empty")
        pointers = (ctypes.c_uint64 * len(kernel.parameters)).from_address(kernelParams)
        arguments = [ctypes.c_uint64.from_address(pointer).value for pointer in pointers]
        self.outside_graphs += not self.capturing(hStream)

        def work():
            self.started.append(kernel.parameters[0].partition("_param_")[0])
            kernel.run((gridDimX, gridDimY), blockDimX, arguments, self.view)

        self.put(hStream, work)
        return (CUresult.CUDA_SUCCESS,)


FUNCTIONS = tuple(name for name in vars(FakeGpu) if name.startswith("cuda"))
DRIVER_FUNCTIONS = tuple(
    name for name in vars(FakeGpu) if name.startswith("cu") and name not in FUNCTIONS
)


def runtime_module(gpu):
    """The GPU as `cuda.bindings.runtime` shows it."""
    kinds = {kind.__name__: kind for kind in (cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode)}
    flags = {"cudaStreamNonBlocking": 1, "cudaEventDisableTiming": 2}
    return types.SimpleNamespace(
        **flags, **kinds, **{name: getattr(gpu, name) for name in FUNCTIONS}
    )


def driver_module(gpu):
    """The GPU as `cuda.bindings.driver` shows it."""
    return types.SimpleNamespace(
        CUresult=CUresult, **{name: getattr(gpu, name) for name in DRIVER_FUNCTIONS}
    )
