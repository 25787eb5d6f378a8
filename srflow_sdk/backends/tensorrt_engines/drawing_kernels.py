"""Latents that the GPU draws by itself, and pictures that it rounds, with the bits of numpy's.

The kernels are runtime/cuda/drawing.cuh, compiled to PTX beforehand (runtime/cuda/make_ptx.py): a driver of any version
that cuda-bindings runs on compiles it for its GPU, and no compiler, header or library of ours is needed.
"""

from __future__ import annotations

import dataclasses
import logging
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends.base import Drawing, check_picture
from srflow_sdk.backends.tensorrt_engines.cuda import ALIGNMENT, THREADS, CudaGpu, DeviceMemory, Launch
from srflow_sdk.backends.tensorrt_engines.execution import Binding
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import DeviceError
from srflow_sdk.latents.random_field import LatentLevel
from srflow_sdk.pixels.in_memory import from_unit

_STATE = struct.Struct("<QQ9q")  # Drawing in drawing.cuh
_TAU = ALIGNMENT  # where it stands after that, as a tensor of the engine
_LEVELS = 2 * ALIGNMENT  # where the rounded picture begins after that
_CHANNELS = 8  # of a level that a thread draws

_log = logging.getLogger(__name__)


class DrawingKernels:
    """The kernels of one GPU, loaded and checked. Thread-safe.

    Raises: DeviceError if the driver does not take them, or they give other numbers than the processor.
    """

    def __init__(self, gpu: CudaGpu, memory: DeviceMemory) -> None:
        ptx = Path(__file__).with_name("drawing.ptx").read_bytes()
        self.unload, (self._latents, self._quantise) = gpu.load(ptx, "srflow_draw_latents", "srflow_quantise")
        try:
            self._check(gpu, memory)
        except BaseException:
            self.unload()
            raise

    def draw(self, binding: Binding, bound: Mapping[str, int], drawing: Drawing) -> NDArray[Any]:
        """Draw the core of a picture with the sampler's binding. bound: the conditioning's addresses.

        Raises: DeviceError, OutOfMemoryError, BundleError if the sampler makes pictures of another size.
        """
        whole, core = drawing.encoded.scaled(drawing.scale), drawing.core
        shape = binding.output_shapes["sr"]
        check_picture(shape, (1, 3, whole.height, whole.width))
        state = binding.buffer("drawing", _LEVELS + 3 * whole.height * whole.width)
        uploads: dict[str, NDArray[Any]] = {"drawing": _packed(drawing)}
        tensors, before = {**bound, "tau": state + _TAU, "sr": binding.buffer("sr")}, []
        for entry in drawing.levels:
            name, map_name = f"noise_level{entry.level}", f"map_level{entry.level}"
            map_address, tensors[name] = 0, binding.buffer(name)
            if drawing.maps:
                uploads[map_name] = drawing.maps[entry.level]
                map_address = binding.buffer(map_name, int(np.prod(binding.shapes[name][2:])) * 4)
            before.append(self._launch(drawing, entry, state, map_address, tensors[name]))
        if not drawing.rounded:
            picture = binding.run(uploads=uploads, bound=tensors, downloads={"sr": shape}, before=before)["sr"]
            rows, columns = core.slices
            return np.array(picture[0, :, rows, columns])
        after = [self._rounding(whole, state, tensors["sr"], state + _LEVELS)]
        wanted = {"drawing": (_LEVELS + core.height * core.width * 3,)}
        found = binding.run(uploads=uploads, bound=tensors, downloads=wanted, before=before, after=after)["drawing"]
        if not _STATE.unpack(found[: _STATE.size].tobytes())[-1]:  # the caller judges the values themselves
            return self.draw(binding, bound, dataclasses.replace(drawing, rounded=False))
        return np.array(found[_LEVELS:]).reshape(core.height, core.width, 3)

    def _rounding(self, picture: Window, state: int, source: int, target: int) -> Launch:
        grid = -(-picture.height * picture.width // THREADS), 1  # enough for any core
        return Launch(self._quantise, grid, (state, picture.height, picture.width, source, target))

    def _launch(self, drawing: Drawing, entry: LatentLevel, state: int, map_address: int, target: int) -> Launch:
        place = drawing.encoded.scaled(drawing.scale, 1 << entry.level)
        grid = -(-place.height * place.width // THREADS), -(-entry.channels // _CHANNELS)
        of_level = (drawing.scale, entry.level, entry.channels, place.height, place.width)
        return Launch(self._latents, grid, (state, *of_level, map_address, target))

    def _check(self, gpu: CudaGpu, memory: DeviceMemory) -> None:
        """Compare a few latents, on both sides of 0 and in margins, times a map; and round three channels of them."""
        trial = Drawing(
            levels=(LatentLevel(level=1, channels=11),),
            scale=2,
            seed=(1 << 64) - 1,
            sample=1 << 32,
            window=Window(top=-2, left=-1, height=11, width=13),  # more positions than a block has threads
            margins=(1, 2),
            tau=1.0,
            maps={1: np.linspace(0.1, 2, 143, dtype=np.float32).reshape(11, 13)},
            core=Window(top=1, left=2, height=4, width=3),
        )
        expected, rows, columns = trial.noise()[1], *trial.core.slices
        levels = from_unit(expected[0, :3, rows, columns].transpose(1, 2, 0), np.dtype(np.uint8))
        block, stream, packed = memory.take(6 * ALIGNMENT + expected.nbytes), gpu.new_stream(), _packed(trial)
        state, map_address, rounded, target = (block.address + count * ALIGNMENT for count in (0, 2, 5, 6))
        found = np.empty(ALIGNMENT + expected.nbytes, np.uint8)
        try:
            stream.upload(packed, state)
            stream.upload(trial.maps[1], map_address)
            stream.start(self._launch(trial, trial.levels[0], state, map_address, target))
            stream.start(self._rounding(trial.encoded, state, target, rounded))
            stream.download(rounded, found)
            stream.synchronize()
        finally:
            stream.close()
            memory.free(block)
        if found[: levels.size].tobytes() + found[ALIGNMENT:].tobytes() != levels.tobytes() + expected.tobytes():
            raise DeviceError("they give other numbers than the processor")


def load_kernels(gpu: CudaGpu, memory: DeviceMemory) -> DrawingKernels | None:
    """The kernels, or None after a warning, where the GPU cannot draw."""
    try:
        return DrawingKernels(gpu, memory)
    except (DeviceError, ImportError, OSError) as error:
        _log.warning(
            "the processor draws latents and rounds pictures, because the GPU's kernels cannot be used: %s", error
        )
        return None


def _packed(drawing: Drawing) -> NDArray[np.uint8]:
    """All that changes from one drawing to the next, as it lies on the GPU."""
    places = (*dataclasses.astuple(drawing.window), *dataclasses.astuple(drawing.core))
    state = _STATE.pack(drawing.seed, drawing.sample, *places, 1)
    return np.frombuffer(state.ljust(_TAU, b"\0") + np.float32(drawing.tau).tobytes(), np.uint8)
