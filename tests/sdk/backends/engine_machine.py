"""A machine with a GPU and a library that runs engines, for one test, and drawings of the tiny
bundle on it."""

from __future__ import annotations

import importlib.machinery
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from srflow_sdk.backends import tensorrt
from srflow_sdk.backends.base import Drawing
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.backends.tensorrt_engines import cuda
from srflow_sdk.geometry.tiles import Window
from srflow_sdk.system.hardware import Gpu
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import LEVELS, SCALE
from .fake_gpu import FakeGpu, driver_module, runtime_module
from .fake_tensorrt import library_module

RTX_4090 = Gpu(name="NVIDIA GeForce RTX 4090", compute_capability="8.9", cuda="13.0")


class EngineMachine:
    """The GPU is `gpu`; `found` is what its driver says of it. Neither library is there until it is
    installed."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.gpu = FakeGpu()
        self.found: Gpu | None = RTX_4090
        self.library: Any = None
        for module in (tensorrt, cuda):
            monkeypatch.setattr(module, "find_gpu", lambda number=0: self.found)
        monkeypatch.setattr(
            "srflow_sdk.drawing.painter.gpu_free_memory", lambda number=0: self.gpu.nbytes
        )
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime_module(self.gpu))
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver_module(self.gpu))
        for name in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setitem(sys.modules, name, None)

    def install(self, runtime="tensorrt", **attributes):
        self.library = library_module(self.gpu, runtime)
        self.library.__spec__ = importlib.machinery.ModuleSpec(runtime, None)
        vars(self.library).update(attributes)
        self._monkeypatch.setitem(sys.modules, runtime, self.library)
        return self.library

    @property
    def runtime(self):
        """The library's Runtime of the backend that was activated last."""
        return self.library.Runtime._made[-1]

    def upscaler(self, bundle, tile="auto"):
        def opened(*_, **__):
            backend = TensorRTBackend(bundle)
            backend.activate()
            return backend

        self._monkeypatch.setattr("srflow_sdk.upscaler.open_backend", opened)
        return Upscaler(bundle, tile=tile)


def noise(batch, height=24, width=30):
    rng = np.random.default_rng(3)
    return {
        level: rng.standard_normal(
            (batch, channels, height * SCALE >> level, width * SCALE >> level), np.float32
        )
        for level, channels in LEVELS.items()
    }


WINDOW = Window(top=-2, left=6, height=24, width=30)
CORE = Window(top=8, left=4, height=80, width=100)


def drawing_of(bundle, **changes):
    return replace(
        Drawing(
            levels=bundle.manifest.latent_levels,
            scale=SCALE,
            seed=(1 << 64) - 3,
            sample=1 << 40,
            window=WINDOW,
            tau=0.7,
            core=CORE,
        ),
        **changes,
    )


def maps_of(bundle):
    rng = np.random.default_rng(1)
    sizes = {
        entry.level: (96 >> entry.level, 120 >> entry.level)
        for entry in bundle.manifest.latent_levels
    }
    return {level: rng.random(size, np.float32) * np.float32(2) for level, size in sizes.items()}
