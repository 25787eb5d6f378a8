"""Run OpenVINO for real, in a process of its own, and print what happened as JSON: `openvino_run.py [SHIM]`.

SHIM: the built intel_vendor.c, where the processor is not Intel's.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from srflow_sdk.backends import Backend, OnnxRuntimeBackend, open_backend
from srflow_sdk.backends._plugin_providers import PLUGINS, find_devices
from srflow_sdk.bundle import Bundle
from srflow_sdk.latents import standard_normal

SIZES = ((16, 16), (40, 24), (64, 48), (16, 16))


def picture(backend: Backend, bundle: Bundle, height: int, width: int, tau: float = 0.8) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    lr = np.stack([0.5 + 0.4 * np.sin(x / 4 + shift) * np.cos(y / 3 - shift) for shift in range(3)])[None]
    noise = {}
    for entry in bundle.manifest.latent_levels:
        sides = {"height": height * 4 >> entry.level, "width": width * 4 >> entry.level}
        noise[entry.level] = standard_normal(7, 0, entry.level, channels=entry.channels, top=0, left=0, **sides)[None]
    return backend.sample(backend.encode(lr), noise, tau)


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((found - expected).astype(np.float64) ** 2) + 1e-30))


def in_threads(backend: Backend, bundle: Bundle) -> list[bool]:
    """Whether each of several threads gets the picture of its own size."""
    expected = {size: picture(backend, bundle, *size) for size in SIZES[:3]}
    same: list[bool] = []

    def draw(size: tuple[int, int]) -> None:
        same.append(np.array_equal(picture(backend, bundle, *size), expected[size]))

    threads = [threading.Thread(target=draw, args=(size,)) for size in SIZES[:3] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return same


def main(shim: str | None = None) -> dict[str, Any]:
    if shim is not None:
        onnxruntime.register_execution_provider_library("shim", shim)
    plugin, bundle = PLUGINS["openvino"], Bundle.embedded()
    devices = [len(find_devices(plugin)) for _ in range(2)]
    if not devices[0]:
        return {"devices": devices}
    automatic = open_backend(bundle, threads=1)
    chosen = automatic.device
    automatic.deactivate()
    backend = open_backend(bundle, device="openvino", threads=1)
    session = backend._encoder
    result: dict[str, Any] = {
        "devices": devices,
        "auto": chosen,
        "device": backend.device,
        "providers": session.get_providers(),
        "load_config": json.loads(session.get_provider_options()[plugin.provider]["load_config"]),
        "taken": sorted({part.ep_name for part in session.get_provider_graph_assignment_info()}),
        "threads": in_threads(backend, bundle),
    }
    with OnnxRuntimeBackend(bundle, threads=1) as cpu:
        result["decibels"] = [decibels(picture(backend, bundle, *s), picture(cpu, bundle, *s)) for s in SIZES]
    backend.deactivate()
    cache = result["load_config"]["CPU"]["CACHE_DIR"]
    result["cached"] = len(list(Path(cache).iterdir()))
    return result


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(*sys.argv[1:])))
