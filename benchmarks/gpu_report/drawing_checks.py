"""The kernels that draw latents and round pictures, without TensorRT: the very PTX and launches of the SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu_report.engines import Setting, check_present
from benchmarks.gpu_report.network import SEED, TAU
from benchmarks.gpu_report.rows import Row
from srflow_sdk.backends import Drawing
from srflow_sdk.backends.tensorrt_engines.cuda import Block, CudaGpu, DeviceMemory, Launch
from srflow_sdk.backends.tensorrt_engines.execution import DrawingKernels
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.latents.random_field import LatentLevel


def whole_drawing(levels: Sequence[LatentLevel], scale: int, size: int, *, rounded: bool = True) -> Drawing:
    """The whole picture of size×size LR pixels."""
    whole = Window(top=0, left=0, height=size, width=size)
    named: dict[str, Any] = {"levels": tuple(levels), "scale": scale, "seed": SEED, "sample": 0, "tau": TAU}
    return Drawing(**named, window=whole, core=whole.scaled(scale), rounded=rounded)


def drawing_kernels(setting: Setting) -> Iterator[Row]:
    """All latents and levels of a picture are numpy's, bit for bit."""
    check_present(setting.kind)
    case = setting.work.case("square")
    scale = case.expected.shape[2] // case.lr.shape[2]
    levels = [LatentLevel(level=level, channels=noise.shape[1]) for level, noise in case.noise.items()]
    drawing = whole_drawing(levels, scale, setting.size)
    right = drawing.noise()
    sr = np.random.default_rng(SEED).normal(0.5, 0.4, (1, 3, scale * setting.size, scale * setting.size))
    sr = np.where(sr > 0.5, np.round(sr * 510) / 510, sr).astype(np.float32)  # half of them between two levels
    gpu = CudaGpu.open()
    with gpu.current():
        memory = DeviceMemory(gpu, kept=0)
        kernels = DrawingKernels(gpu)
        around = _WithoutEngine(gpu, memory, {f"noise_level{level}": noise for level, noise in right.items()}, sr)
        found = kernels.draw(around, {}, drawing)  # type: ignore[arg-type]
        around.close()
        kernels.unload()
        memory.close()
    wrong = [np.sum(around.drawn[f"noise_level{level}"] != noise.view(np.uint32)) for level, noise in right.items()]
    count = sum(noise.size for noise in right.values())
    yield _judged("latents that the SDK's kernels draw", setting, int(sum(wrong)), count)
    rounded = np.rint(np.clip(sr[0], 0, 1) * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
    differ = rounded.size if found.dtype != np.uint8 else int(np.sum(found != rounded))
    yield _judged("levels that they round", setting, differ, rounded.size)


def _judged(name: str, setting: Setting, differ: int, count: int) -> Row:
    value = f"{differ} of {count} are not numpy's"
    return Row(name, setting.engine, value, "0", "wrong" if differ else "fine")


class _WithoutEngine:
    """In the place of a sampler's `Binding`: what comes before and after the engine runs; the picture is `sr`.

    drawn: the noise afterwards, as uint32, by the names of tensors.
    """

    def __init__(self, gpu: CudaGpu, memory: DeviceMemory, noise: Mapping[str, np.ndarray], sr: np.ndarray) -> None:
        self.shapes = {name: array.shape for name, array in noise.items()}
        self.output_shapes = {"sr": sr.shape}
        self.drawn = {name: np.zeros(shape, np.uint32) for name, shape in self.shapes.items()}
        self._sr, self._memory, self._stream = sr, memory, gpu.new_stream()
        self.close = self._stream.close
        self._blocks: dict[str, Block] = {}

    def buffer(self, name: str, nbytes: int | None = None) -> int:
        """The address of a tensor, or of so many bytes."""
        if name not in self._blocks:
            array = self.drawn.get(name, self._sr)
            self._blocks[name] = self._memory.take(array.nbytes if nbytes is None else nbytes)
        return self._blocks[name].address

    def run(
        self,
        *,
        uploads: Mapping[str, np.ndarray],
        downloads: Mapping[str, tuple[int, ...]],
        before: Sequence[Launch] = (),
        after: Sequence[Launch] = (),
        **_: object,
    ) -> dict[str, np.ndarray]:
        """All of it, on one stream."""
        found = {name: np.zeros(shape, np.float32 if name == "sr" else np.uint8) for name, shape in downloads.items()}
        for name, array in {**uploads, "sr": self._sr}.items():
            self._stream.upload(array, self.buffer(name))
        for launch in (*before, *after):
            self._stream.start(launch)
        for name, array in {**self.drawn, **found}.items():
            self._stream.download(self.buffer(name), array)
        self._stream.synchronize()
        return found
