"""Device memory in blocks that are reused, so that tiles of one size find their tensors at the same addresses."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from srflow_sdk.backends.tensorrt_engines.cuda import CudaGpu
from srflow_sdk.errors import DeviceError

ALIGNMENT = 256
"""In bytes: every tensor and workspace of TensorRT may start at a multiple of it."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Memory on the GPU."""

    address: int
    nbytes: int


class DeviceMemory:
    """Blocks of a GPU's memory; thread-safe. Up to `kept` unused ones are kept for requests of the same size.

    Give a block back only when no stream uses it any more.
    """

    def __init__(self, gpu: CudaGpu, *, kept: int) -> None:
        self._gpu = gpu
        self._kept = kept
        self._stream = gpu.new_stream()
        self._lock = threading.Lock()
        self._returned: deque[Block] = deque()
        self._spare: deque[Block] = deque()
        self._blocks: dict[int, Block] = {}
        self._closed = False

    def take(self, nbytes: int) -> Block:
        """Get a block of this size, with undefined content. Raises: OutOfMemoryError, DeviceError."""
        with self._lock:
            self._sort()
            for block in self._spare:
                if block.nbytes == nbytes:
                    self._spare.remove(block)
                    return block
            block = Block(address=self._stream.allocate(nbytes), nbytes=nbytes)
            self._blocks[block.address] = block
            self._stream.synchronize()  # so that other streams may use it
            return block

    def give_back(self, block: Block) -> None:
        """Return a block. Works in any thread at any time, because Python calls it when it collects garbage."""
        if self._closed:
            return
        self._returned.append(block)
        # Garbage may be collected inside `take`, or while a graph is captured, when nothing may be freed: then the
        # holder of the lock sorts the block.
        if self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(DeviceError), self._gpu.current():
                    self._sort()
            finally:
                self._lock.release()

    def free(self, block: Block) -> None:
        """Free a block at once, because no other of its size will be needed."""
        with self._lock:
            if not self._closed:
                self._free(block)
                self._stream.synchronize()

    def trim(self) -> None:
        """Free all unused blocks."""
        with self._lock:
            self._sort()
            self._free_spare(keep=0)

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Prevent allocating and freeing during the block: a capture on this thread would fail."""
        with self._lock:
            try:
                yield
            finally:
                self._sort()

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

    def _sort(self) -> None:
        """Keep the blocks that came back, and free the oldest beyond the number to keep."""
        while self._returned:
            block = self._returned.popleft()
            if not self._closed:
                self._spare.append(block)
        self._free_spare(keep=self._kept)

    def _free_spare(self, *, keep: int) -> None:
        if len(self._spare) <= keep:
            return
        while len(self._spare) > keep:
            self._free(self._spare.popleft())
        self._stream.synchronize()  # now other programs can have it

    def _free(self, block: Block) -> None:
        del self._blocks[block.address]
        self._stream.free(block.address)


def aligned(nbytes: int) -> int:
    """The next multiple of :data:`ALIGNMENT`."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
