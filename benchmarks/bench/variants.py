"""The ways to run one network that are compared: the authors' code, and ours by runtime and precision.

A variant is a dict: way ("authors", "direct", "ours"), file (a checkpoint, a graph, a bundle; None: the embedded
model), threads, and for ours device and precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.processes import Job, serve

TAU = 0.8


def load(variant: Mapping[str, Any]) -> Job:
    """Load it. Raises: what :func:`why_missing` explains."""
    ways: dict[str, Callable[[Mapping[str, Any]], Job]] = {"authors": Authors, "direct": Direct, "ours": Ours}
    return ways[variant["way"]](variant)


def why_missing(error: Exception) -> str | None:
    """One clause for a table, if the error says that this machine or bundle lacks something; None: a defect."""
    from srflow_sdk.errors import SRFlowError

    if isinstance(error, (SRFlowError, ImportError, MemoryError)):
        return str(error).splitlines()[0] or type(error).__name__
    return None


def image(size: int) -> np.ndarray:
    """The picture that all variants enlarge: size×size×3, uint8. Time does not depend on what it shows."""
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


class Authors:
    """The network as its authors run it, in eager PyTorch: everything is computed for each sample."""

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
                sample(self._model, lr, {level: TAU * torch.randn(1, *shape) for level, shape in shapes.items()})

        return work


class Direct:
    """One ONNX graph of the authors' network, as torch.onnx exports it, on ONNX Runtime."""

    runs_on = "ONNX Runtime"

    def __init__(self, variant: Mapping[str, Any]) -> None:
        import onnxruntime

        path = Path(variant["file"])
        self.disk_bytes = path.stat().st_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = variant["threads"], 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """samples runs of batch 1. The names of inputs say which level they are of: `latents3` is level 3."""
        side, scale = job["size"], int(self._session.get_modelmeta().custom_metadata_map["scale"])
        feed = {"lr": image(side).transpose(2, 0, 1)[None].astype(np.float32) / 255}
        for each in self._session.get_inputs():
            if each.name != "lr":
                of_level = scale * side >> int(each.name.removeprefix("latents"))
                shape = (1, each.shape[1], of_level, of_level)
                feed[each.name] = TAU * np.random.default_rng(0).standard_normal(shape, np.float32)

        def work() -> None:
            for _ in range(job["samples"]):
                self._session.run(None, feed)

        return work


class Ours:
    """An Upscaler in one piece (tile=None), on a device and in a precision."""

    def __init__(self, variant: Mapping[str, Any]) -> None:
        from srflow_sdk import Bundle, Upscaler

        bundle = Bundle.open(variant["file"]) if variant["file"] else Bundle.embedded()
        int8 = bundle.path / "encoder.int8.onnx"
        encoder = int8 if variant["precision"] == "int8" and int8.is_file() else bundle.path / "encoder.onnx"
        self.disk_bytes = sum(file.stat().st_size for file in (encoder, bundle.path / "sampler.onnx"))
        named = {name: variant[name] for name in ("device", "threads", "precision")}
        self._upscaler = Upscaler(bundle, tile=variant.get("tile"), **named)
        self.runs_on = self._upscaler.device
        self._encoding: tuple[int, Any] = (0, None)

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], object]:
        """op "upscale" (the default): encode and sample; "again": another tau of what is encoded already.

        "invert": the latents of an HR picture of an encoded LR one; "restore": a picture of size×size pixels.
        """
        size, samples, upscaler = job["size"], job.get("samples", 1), self._upscaler
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


if __name__ == "__main__":
    serve(load, why_missing)
