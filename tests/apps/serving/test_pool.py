from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_apps.serving.service import PooledBackend
from srflow_sdk.backends import Drawing, OnnxRuntimeBackend
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.model.bundle import Bundle


class _Held(OnnxRuntimeBackend):
    """Waits before each encoding until it is let go."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, threads=1)
        self.go, self.begun = threading.Event(), threading.Event()

    def encode_impl(self, lr: np.ndarray) -> Any:
        self.begun.set()
        assert self.go.wait(30)
        return super().encode_impl(lr)


def tile(number: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).random((1, 3, side, side), np.float32)


def test_as_many_calls_are_computed_at_a_time_as_there_are_sessions(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    sessions = [_Held(bundle), _Held(bundle)]
    for session in sessions:
        session.activate()
    pool = PooledBackend(sessions)
    encode: Callable[[np.ndarray], Any] = pool.encode
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(encode, tile(0, side)) for side in (16, 18, 20)]
        assert all(session.begun.wait(30) for session in sessions)
        assert not any(future.done() for future in futures)
        for session in sessions:
            session.go.set()
        assert all(future.result(30).nbytes for future in futures)
    pool.deactivate()


def test_a_gpu_of_a_pool_draws_by_itself(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(tiny_bundle)
    place = Window(top=0, left=0, height=16, width=16)
    levels = bundle.manifest.latent_levels
    drawing = Drawing(levels=levels, scale=4, seed=1, sample=0, window=place, tau=0.5, core=place)
    picture = np.full((3, 16, 16), 7, np.float32)
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        pool = PooledBackend([backend])
        conditioning = pool.encode(tile(0))
        expected = backend.draw(conditioning, drawing)
        monkeypatch.setattr(backend, "draw_impl", lambda *_: picture)
        np.testing.assert_array_equal(pool.draw(conditioning, drawing), expected)
        monkeypatch.setattr(OnnxRuntimeBackend, "can_draw", True)
        assert pool.draw(conditioning, drawing) is picture
