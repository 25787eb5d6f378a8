from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_apps.serving.pool import PooledBackend, batches_hold
from srflow_sdk.backends import Conditioning, OnnxRuntimeBackend
from srflow_sdk.backends._base import Drawing
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle


class _Held(OnnxRuntimeBackend):
    """Waits before each encoding until it is let go, and notes how many images each had."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, threads=1)
        self.go, self.begun, self.batches = threading.Event(), threading.Event(), list[int]()
        self.most = 100

    def encode_impl(self, lr: np.ndarray) -> Any:
        self.begun.set()
        assert self.go.wait(30)
        self.batches.append(len(lr))
        if len(lr) > self.most or not np.isfinite(lr).all():
            raise OutOfMemoryError("out of memory")
        return super().encode_impl(lr)


@pytest.fixture
def held(tiny_bundle: Path) -> Iterator[_Held]:
    backend = _Held(Bundle.open(tiny_bundle))
    backend.activate()
    yield backend
    backend.deactivate()


def tile(number: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).random((1, 3, side, side), np.float32)


def noise(bundle: Bundle, number: int, side: int = 16) -> dict[int, np.ndarray]:
    levels = bundle.manifest.latent_levels
    window = window_noise(levels, scale=4, seed=number, sample=0, height=side, width=side)
    return {level: array[None] for level, array in window.items()}


def waiting(pool: PooledBackend, count: int) -> None:
    """Return once this many calls wait for a session."""
    queue, deadline = pool._queue, time.monotonic() + 30
    with queue._changed:
        while len(queue._waiting) < count:
            assert time.monotonic() < deadline
            queue._changed.wait(0.01)


def calls_while_busy(pool: PooledBackend, held: _Held, tiles: list[np.ndarray]) -> list[Any]:
    """The results, or errors, of encoding these tiles, all of which came while another tile was computed."""

    def encoded(lr: np.ndarray) -> Any:
        try:
            return pool.encode(lr)
        except DeviceError as error:
            return error

    with ThreadPoolExecutor(len(tiles) + 1) as threads:
        threads.submit(pool.encode, tile(99, 20))
        assert held.begun.wait(30)
        results = [threads.submit(encoded, lr) for lr in tiles]
        waiting(pool, len(tiles))
        held.go.set()
        return [result.result(30) for result in results]


def test_tiles_of_equal_shape_that_wait_share_a_batch_and_keep_every_bit(held: _Held, tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    pool = PooledBackend([held], bundle.manifest, batches=True)
    pool.activate()
    tiles = [tile(number) for number in range(4)]
    found = calls_while_busy(pool, held, [*tiles, tile(5, 18)])
    assert held.batches == [1, 4, 1]
    with OnnxRuntimeBackend(bundle, threads=1) as alone:
        for number, lr in enumerate(tiles):
            wanted = alone.sample(alone.encode(lr), noise(bundle, number), 0.7)
            assert np.array_equal(pool.sample(found[number], noise(bundle, number), 0.7), wanted)


def test_samples_that_wait_share_a_batch_and_keep_every_bit(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    begun, go, sizes = threading.Event(), threading.Event(), list[int]()

    class Held(OnnxRuntimeBackend):
        def sample_impl(self, conditioning: Conditioning, noise: Any, tau: float) -> np.ndarray:
            begun.set()
            assert go.wait(30)
            sizes.append(len(next(iter(noise.values()))))
            return super().sample_impl(conditioning, noise, tau)

    backend = Held(bundle, threads=1)
    backend.activate()
    pool = PooledBackend([backend], bundle.manifest, batches=True)
    pool.activate()
    encoded = [backend.encode(tile(number)) for number in range(4)]

    def sampled(number: int, tau: float) -> np.ndarray:
        return pool.sample(encoded[number], noise(bundle, number), tau)

    with ThreadPoolExecutor(5) as threads:
        threads.submit(sampled, 0, 0.1)
        assert begun.wait(30)
        found = [threads.submit(sampled, number, tau) for number, tau in ((1, 0.5), (2, 0.5), (3, 0.9))]
        waiting(pool, 3)
        go.set()
        results = [future.result(30) for future in found]
    assert sorted(sizes) == [1, 1, 2]
    for number, tau, result in zip((1, 2, 3), (0.5, 0.5, 0.9), results, strict=True):
        assert np.array_equal(result, backend.sample(encoded[number], noise(bundle, number), tau))
    pool.deactivate()


def test_an_error_in_a_batch_reaches_only_the_call_that_causes_it(held: _Held, tiny_bundle: Path) -> None:
    pool = PooledBackend([held], Bundle.open(tiny_bundle).manifest, batches=True)
    pool.activate()
    found = calls_while_busy(pool, held, [tile(1), tile(2) * np.float32("nan"), tile(3)])
    assert [isinstance(result, OutOfMemoryError) for result in found] == [False, True, False]


@pytest.mark.parametrize(("side", "batches"), [(16, False), (40, True)])
def test_large_tiles_and_pools_without_batches_compute_one_by_one(
    held: _Held, tiny_bundle: Path, side: int, batches: bool
) -> None:
    pool = PooledBackend([held], Bundle.open(tiny_bundle).manifest, batches=batches)
    pool.activate()
    calls_while_busy(pool, held, [tile(number, side) for number in range(3)])
    assert held.batches == [1, 1, 1, 1]


def test_as_many_calls_are_computed_at_a_time_as_there_are_sessions(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    sessions = [_Held(bundle), _Held(bundle)]
    for session in sessions:
        session.activate()
    pool = PooledBackend(sessions, bundle.manifest, batches=True)
    pool.activate()
    encode: Callable[[np.ndarray], Any] = pool.encode
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(encode, tile(0, side)) for side in (16, 18, 20)]
        assert all(session.begun.wait(30) for session in sessions)
        waiting(pool, 1)
        for session in sessions:
            session.go.set()
        assert all(future.result(30).nbytes for future in futures)
    pool.deactivate()


def test_batches_hold_on_the_cpu_for_the_embedded_model() -> None:
    bundle = Bundle.embedded()
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        assert batches_hold(backend, bundle.manifest)


def test_batches_do_not_hold_for_a_backend_that_rounds_them_otherwise(tiny_bundle: Path) -> None:
    class Otherwise(OnnxRuntimeBackend):
        def sample_impl(self, conditioning: Conditioning, noise: Any, tau: float) -> np.ndarray:
            sr = super().sample_impl(conditioning, noise, tau)
            return np.nextafter(sr, np.float32(2)) if len(sr) > 1 else sr

    bundle = Bundle.open(tiny_bundle)
    with Otherwise(bundle, threads=1) as backend:
        assert not batches_hold(backend, bundle.manifest)


def test_a_gpu_of_a_pool_draws_and_rounds_by_itself(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(tiny_bundle)
    place = Window(top=0, left=0, height=16, width=16)
    drawing = Drawing(
        levels=bundle.manifest.latent_levels, scale=4, seed=1, sample=0, window=place, tau=0.5, core=place, rounded=True
    )
    levels = np.full((16, 16, 3), 7, np.uint8)
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        pool = PooledBackend([backend], bundle.manifest, batches=False)
        pool.activate()
        conditioning = pool.encode(tile(0))
        expected = backend.draw(conditioning, drawing)
        monkeypatch.setattr(backend, "draw_impl", lambda *_: levels)
        np.testing.assert_array_equal(pool.draw(conditioning, drawing), expected)
        monkeypatch.setattr(OnnxRuntimeBackend, "can_draw", True)
        assert pool.draw(conditioning, drawing) is levels
