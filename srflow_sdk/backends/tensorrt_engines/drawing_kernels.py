"""Latents that the GPU draws by itself, with the bits of :mod:`srflow_sdk.latents.random_field`.

The kernels are runtime/cuda/drawing.cuh, compiled to PTX beforehand (runtime/cuda/make_ptx.py): a driver of any version
that cuda-bindings runs on compiles it for its GPU, and no compiler, header or library of ours is needed.
"""

from __future__ import annotations

import dataclasses
import logging
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends._base import Drawing
from srflow_sdk.backends._declared import check_sr
from srflow_sdk.backends.tensorrt_engines.cuda import THREADS, CudaGpu, Launch
from srflow_sdk.backends.tensorrt_engines.device_memory import ALIGNMENT, DeviceMemory
from srflow_sdk.backends.tensorrt_engines.execution import Binding
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import DeviceError
from srflow_sdk.latents.random_field import LatentLevel

_STATE = struct.Struct("<QQ4q")  # Drawing in drawing.cuh
_TAU = ALIGNMENT  # where it stands after that, as a tensor of the engine
_CHANNELS = 8  # of a level that a thread draws

_log = logging.getLogger(__name__)


class DrawingKernels:
    """The kernels of one GPU, loaded and checked. Thread-safe.

    Raises: DeviceError if the driver does not take them, or they give other latents than the processor.
    """

    def __init__(self, gpu: CudaGpu, memory: DeviceMemory) -> None:
        ptx = Path(__file__).with_name("drawing.ptx").read_bytes()
        self.unload, (self._latents,) = gpu.load(ptx, "srflow_draw_latents")
        self._check(gpu, memory)

    def draw(self, binding: Binding, bound: Mapping[str, int], drawing: Drawing) -> NDArray[np.float32]:
        """Draw the core of a picture with the sampler's binding: float32 3×h×w. bound: the conditioning's addresses."""
        state = binding.buffer("drawing", _TAU + 4)
        uploads = {"drawing": _packed(drawing)}
        inputs, before = {**bound, "tau": state + _TAU}, []
        for entry in drawing.levels:
            name, map_name, map_address = f"noise_level{entry.level}", f"map_level{entry.level}", 0
            inputs[name] = binding.buffer(name)
            if drawing.maps:
                uploads[map_name] = np.ascontiguousarray(drawing.maps[entry.level], np.float32)
                map_address = binding.buffer(map_name, int(np.prod(binding.shapes[name][2:])) * 4)
            before.append(self._launch(drawing, entry, state, map_address, inputs[name]))
        rows, columns = drawing.core.slices
        picture = binding.run(uploads=uploads, bound=inputs, downloads=["sr"], before=before)["sr"]
        whole = drawing.encoded.scaled(drawing.scale)
        check_sr(picture, (1, 3, whole.height, whole.width))
        core: NDArray[np.float32] = picture[0, :, rows, columns]
        return core

    def _launch(self, drawing: Drawing, entry: LatentLevel, state: int, map_address: int, target: int) -> Launch:
        place = drawing.encoded.scaled(drawing.scale, 1 << entry.level)
        grid = -(-place.height * place.width // THREADS), -(-entry.channels // _CHANNELS)
        of_level = (drawing.scale, entry.level, entry.channels, place.height, place.width)
        return Launch("latents", self._latents, grid, (state, *of_level, map_address, target))

    def _check(self, gpu: CudaGpu, memory: DeviceMemory) -> None:
        """Compare a few latents: coordinates on both sides of 0, all words of a block, the margins, a map."""
        window, entry = Window(top=-2, left=-1, height=5, width=4), LatentLevel(level=1, channels=11)
        trial = Drawing(
            levels=(entry,),
            scale=2,
            seed=(1 << 64) - 1,
            sample=1 << 32,
            window=window,
            margins=(1, 2),
            tau=1.0,
            maps={1: np.linspace(0.1, 2, 20, dtype=np.float32).reshape(5, 4)},
            core=window,
        )
        expected = trial.noise()[1]
        block, stream = memory.take(3 * ALIGNMENT + expected.nbytes), gpu.new_stream()
        state, map_address, target = (block.address + count * ALIGNMENT for count in (0, 2, 3))
        stream.upload(_packed(trial), state)
        stream.upload(trial.maps[1], map_address)
        stream.start(self._launch(trial, entry, state, map_address, target))
        drawn = stream.download(target, expected.shape)
        stream.synchronize()
        stream.close()
        memory.free(block)
        if not np.array_equal(drawn, expected):
            raise DeviceError("they give other latents than the processor")


def load_kernels(gpu: CudaGpu, memory: DeviceMemory) -> DrawingKernels | None:
    """The kernels, or None after a warning, where the GPU cannot draw."""
    try:
        return DrawingKernels(gpu, memory)
    except (DeviceError, ImportError) as error:
        _log.warning("latents are drawn by the processor, because the GPU's kernels cannot be used: %s", error)
        return None


def _packed(drawing: Drawing) -> NDArray[np.uint8]:
    """All that changes from one drawing to the next, as it lies on the GPU."""
    state = _STATE.pack(drawing.seed, drawing.sample, *dataclasses.astuple(drawing.window))
    return np.frombuffer(state.ljust(_TAU, b"\0") + np.float32(drawing.tau).tobytes(), np.uint8)
