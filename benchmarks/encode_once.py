"""Encode once, sample many: the time of samples of one LR image, with a full-size published ×4 network.

    python benchmarks/encode_once.py [--checkpoint FILE] [--size 64] [--samples 8] [--runs 5] [--threads 2]

Without a checkpoint, it exports a network of the published shape (23 blocks, K = 16) with random weights, because the
time does not depend on the weights. In turn: the authors' network in eager PyTorch, which computes everything for each
sample; one sample, N samples, another tau of the encoded image, and N samples in one call of the sampler. Medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from published_network import sample

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_training import SRFlow, SRFlowConfig, load_checkpoint, save_checkpoint
from srflow_training.model.layers import ZerosConv
from srflow_training.processors import processor_name


def random_checkpoint(path: Path, *, scale: int) -> None:
    """A published-shape network with random weights whose decoding neither explodes nor vanishes."""
    torch.manual_seed(0)
    model = SRFlow(SRFlowConfig.of_variant("published", scale=scale))
    model.encoder.initialize()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ZerosConv):
                module.weight.normal_(std=0.2 / module.weight[0].numel() ** 0.5)
        for actnorm in model.actnorms():
            actnorm.logs.fill_(0.2)  # compensates the division by sigmoid(2) in every step
    save_checkpoint(path, model)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def authors_network(checkpoint: Path, image: np.ndarray) -> Callable[[], object]:
    """One sample of the published network in eager PyTorch."""
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)  # for the type checker: it has a flow
    model = model.to(memory_format=torch.contiguous_format)
    lr = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    shapes = model.latent_shapes(*lr.shape[2:])
    return lambda: sample(model, lr, {level: 0.8 * torch.randn(1, *shape) for level, shape in shapes.items()})


def one_batch(bundle: Bundle, image: np.ndarray, samples: int, threads: int) -> Callable[[], object]:
    """N samples of an encoded image in one call of the sampler."""
    manifest = bundle.manifest
    backend = OnnxRuntimeBackend(bundle, device="cpu", threads=threads)
    backend.activate()
    conditioning = backend.encode(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    height, width = (manifest.scale * side for side in image.shape[:2])
    noise = {
        level.level: np.random.default_rng(0).standard_normal(
            (samples, level.channels, height >> level.level, width >> level.level), np.float32
        )
        for level in manifest.latent_levels
    }
    return lambda: backend.sample(conditioning, noise, 0.8)


def main() -> None:
    """Export, warm up, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            checkpoint = Path(folder) / "random.safetensors"
            random_checkpoint(checkpoint, scale=4)
        bundle = Path(folder) / "model.srflow"
        export_checkpoint(checkpoint, bundle, ExportOptions(halo=16), say=print)
        image = np.random.default_rng(0).integers(0, 256, (arguments.size, arguments.size, 3), dtype=np.uint8)
        count = arguments.samples
        torch.set_num_threads(arguments.threads)
        with Upscaler(bundle, device="cpu", tile=None, threads=arguments.threads) as upscaler:
            encoding = upscaler.encode(image)
            works = {
                "authors' network, one sample": authors_network(checkpoint, image),
                "one sample": lambda: upscaler.encode(image).sample(),
                f"{count} samples": lambda: upscaler.encode(image).samples(count),
                "another tau or seed": partial(encoding.sample, tau=0.7, seed=1),
                f"{count} samples as one batch": one_batch(Bundle.open(bundle), image, count, arguments.threads),
            }
            for work in works.values():
                work()
            times = [[seconds(work) for work in works.values()] for _ in range(arguments.runs)]
    machine = processor_name(torch.device("cpu"))
    print(f"{machine}; {arguments.size}×{arguments.size} LR, ×4, {arguments.threads} threads, {arguments.runs} runs")
    named = dict(zip(works, np.array(times).T, strict=True))
    authors, *_ = named.values()
    for name, own in named.items():
        work_of_authors = authors * (count if name.startswith(f"{count} ") else 1)
        print(f"{name:<30} {np.median(own):6.3f} s  {np.median(work_of_authors / own):5.2f}× the authors' speed")
    single, together = named["another tau or seed"], named[f"{count} samples as one batch"]
    print(f"a sample of {count} in a batch takes {np.median(together / count / single):.2f} of one on its own")


if __name__ == "__main__":
    main()
