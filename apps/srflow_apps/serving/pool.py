"""A pool of sessions that many requests share, and the batches that their tiles form while all sessions are busy."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends import Backend, Conditioning, Drawing, OnnxRuntimeBackend
from srflow_sdk.backends._ort import OrtConditioning
from srflow_sdk.backends._ort_providers import onnxruntime
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import Manifest

_BATCH_PIXELS = 1 << 11
"""LR pixels of a batch at most: larger tiles fill the processor alone, and their batch took as long as its parts."""

_PROBES = ((16, 16), (24, 32))
"""Heights and widths of the tiles that :func:`batches_hold` compares, in LR pixels."""

_log = logging.getLogger(__name__)
_Noise = Mapping[int, NDArray[np.float32]]
_Run = Callable[[Backend, list[Any]], list[Any]]


class PooledBackend(Backend):
    """Runs each call on the next session that is free; calls of equal shapes that wait for one become a batch.

    backends: active ones of one bundle on one device; one may stand here several times, as backends are thread-safe.
    Each computes one call, or one batch, at a time. Conditioning must be usable by all of them. batches: whether calls
    may become batches, see :func:`batches_hold`. Nothing waits for a batch to fill. If a batch fails, its calls are
    computed one by one, so that an error reaches only the call that causes it.
    """

    def __init__(self, backends: Sequence[Backend], manifest: Manifest, *, batches: bool) -> None:
        super().__init__()
        self._backends = list(backends)
        self.precision = self._backends[0].precision
        self._scale = manifest.scale
        self._batches = batches
        self._queue = _Queue(self._backends)

    @property
    def device(self) -> str:
        return self._backends[0].device

    @property
    def gpu(self) -> int | None:
        return self._backends[0].gpu

    @property
    def window_limits(self) -> LrProfile | None:
        return self._backends[0].window_limits

    def activate_impl(self) -> None:
        """Nothing is left to load: the backends are active."""

    def deactivate_impl(self) -> None:
        for backend in self._backends:
            backend.deactivate()

    def encode_impl(self, lr: NDArray[np.float32]) -> Conditioning:
        key = "encode", lr.shape
        conditioning: Conditioning = self._queue.done(key, lr, _encoded, most=self._most(lr.shape[2] * lr.shape[3]))
        return conditioning

    def sample_impl(self, conditioning: Conditioning, noise: _Noise, tau: float) -> NDArray[np.float32]:
        level, first = next(iter(noise.items()))
        pixels = (first.shape[2] * first.shape[3] << 2 * level) // self._scale**2
        key = "sample", tau, tuple((level, array.shape) for level, array in noise.items())
        item = (conditioning, noise, tau)
        sr: NDArray[np.float32] = self._queue.done(key, item, _sampled, most=self._most(pixels))
        return sr

    @property
    def can_draw(self) -> bool:  # otherwise the processor draws the noise before the call waits for its turn
        return self._backends[0].can_draw

    def draw_impl(self, conditioning: Conditioning, drawing: Drawing) -> Any:
        item = (conditioning, drawing)
        return self._queue.done(object(), item, lambda backend, calls: [backend.draw_impl(*calls[0])], most=1)

    def _most(self, pixels: int) -> int:
        """Most calls of a batch."""
        return max(_BATCH_PIXELS // pixels, 1) if self._batches else 1


def batches_hold(backend: Backend, manifest: Manifest) -> bool:
    """Return True if a batch gives each of its members, to the bit, what it gets alone.

    Tried on tiles of noise. Only ONNX Runtime on the CPU is tried: elsewhere conditioning lies in the device's memory,
    where it cannot be split without moving it.
    """
    if not isinstance(backend, OnnxRuntimeBackend) or backend.device != "cpu":
        return False
    generator = np.random.default_rng(0)
    for size in _PROBES:
        height, width = (padded_size(side, manifest.size_multiple) for side in size)
        tiles = [generator.random((1, 3, height, width), np.float32) for _ in range(3)]
        alone = [backend.encode(tile) for tile in tiles]
        samples = []
        for number, conditioning in enumerate(alone):
            levels = manifest.latent_levels
            noise = window_noise(levels, scale=manifest.scale, seed=0, sample=number, height=height, width=width)
            samples.append((conditioning, {level: array[None] for level, array in noise.items()}, 0.8))
        drawn = [backend.sample(*sample) for sample in samples]
        together = [(found, *rest) for found, (_, *rest) in zip(_encoded(backend, tiles), samples, strict=True)]
        if not all(map(np.array_equal, _sampled(backend, together), drawn)):
            _log.warning("a batch of tiles differs in its last bits from the tiles alone: computing them one by one")
            return False
    return True


def _encoded(backend: Backend, tiles: list[NDArray[np.float32]]) -> list[Any]:
    if len(tiles) == 1:
        return [backend.encode(tiles[0])]
    together = backend.encode(np.concatenate(tiles))
    assert isinstance(together, OrtConditioning)  # for the type checker: see batches_hold
    arrays = {name: value.numpy() for name, value in together.values.items()}
    make = onnxruntime().OrtValue.ortvalue_from_numpy
    return [
        # Copies: a view would not keep the batch's memory alive.
        OrtConditioning({name: make(array[number : number + 1].copy()) for name, array in arrays.items()})
        for number in range(len(tiles))
    ]


def _sampled(backend: Backend, calls: list[tuple[Conditioning, _Noise, float]]) -> list[Any]:
    if len(calls) == 1:
        return [backend.sample(*calls[0])]
    conditionings, noises, taus = zip(*calls, strict=True)
    make = onnxruntime().OrtValue.ortvalue_from_numpy
    values = {
        name: make(np.concatenate([conditioning.values[name].numpy() for conditioning in conditionings]))
        for name in conditionings[0].values
    }
    noise = {level: np.concatenate([noise[level] for noise in noises]) for level in noises[0]}
    sr = backend.sample(OrtConditioning(values), noise, taus[0])
    return [sr[number : number + 1] for number in range(len(calls))]


@dataclass(eq=False)
class _Call:
    """One caller's call."""

    key: Hashable
    item: Any
    taken: bool = False
    answer: Future[Any] = field(default_factory=Future)


class _Queue:
    """Calls in the order in which they came. The caller of the first one computes it, with what may share its batch."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._idle = deque(backends)
        self._waiting: list[_Call] = []
        self._changed = threading.Condition()

    def done(self, key: Hashable, item: Any, run: _Run, *, most: int) -> Any:
        """The result for this item, computed here or by another caller."""
        call = _Call(key, item)
        with self._changed:
            self._waiting.append(call)
            self._changed.wait_for(lambda: call.taken or (bool(self._idle) and self._waiting[0] is call))
            batch = [] if call.taken else [other for other in self._waiting if other.key == key][:most]
            if batch:
                backend = self._idle.popleft()
                for other in batch:
                    other.taken = True
                    self._waiting.remove(other)
                self._changed.notify_all()
        if batch:
            try:
                _compute(backend, batch, run)
            finally:
                with self._changed:
                    self._idle.append(backend)
                    self._changed.notify_all()
        return call.answer.result()


def _compute(backend: Backend, batch: list[_Call], run: _Run) -> None:
    if len(batch) > 1:
        with contextlib.suppress(Exception):  # one by one, then, so that an error reaches the call that causes it
            for call, result in zip(batch, run(backend, [call.item for call in batch]), strict=True):
                call.answer.set_result(result)
            return
    for call in batch:
        try:
            (result,) = run(backend, [call.item])
        except BaseException as error:
            call.answer.set_exception(error)
        else:
            call.answer.set_result(result)
