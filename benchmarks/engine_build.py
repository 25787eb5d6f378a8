"""TensorRT-RTX engines of a full-size network: how long they take to build, and how large they are.

    python benchmarks/engine_build.py [--model BUNDLE] [--precision fp16] [--sm 89 120]

It builds one pair for all GPUs, then a pair for each, without the cache. It needs no GPU. Without a bundle, it uses
graphs of the published ×4 shape (23 blocks, K = 16) with random weights: neither time nor size depends on the weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from srflow_export.engines import BuilderOptions, EngineRequest, build_engines, graphs_of
from srflow_sdk import Bundle
from srflow_sdk.model.bundle import Manifest
from srflow_sdk.model.engine_records import EnginePrecision


@contextmanager
def random_graphs(precision: EnginePrecision) -> Iterator[tuple[Path, Manifest]]:
    """A folder with a full-size network's graphs, and as much of a manifest for them as building engines needs."""
    import torch

    from srflow_export import graphs, onnx_models
    from srflow_training import SRFlow, SRFlowConfig

    torch.manual_seed(0)
    config = SRFlowConfig.of_variant("published")
    model = SRFlow(config).eval()
    for actnorm in model.actnorms():
        actnorm.initialized.fill_(True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, export in (("encoder", onnx_models.encoder_model), ("sampler", onnx_models.sampler_model)):
            (folder / f"{part}.onnx").write_bytes(onnx_models.finished(export(model, precision), {}))
        yield (
            folder,
            Manifest(
                name="random",
                variant="published",
                scale=config.scale,
                size_multiple=config.size_multiple,
                latent_levels=(),
                default_tau=0.8,
                halo=16,  # as measured for the published network
                conditioning_bytes_per_pixel=graphs.conditioning_bytes_per_pixel(config, graphs.DTYPES[precision]),
                precision=precision,
            ),
        )


@contextmanager
def bundle_graphs(path: Path) -> Iterator[tuple[Path, Manifest]]:
    """A writable folder with a bundle's graphs, and its manifest."""
    bundle = Bundle.open(path)
    with tempfile.TemporaryDirectory() as name:
        for file in bundle.manifest.files:
            if file.endswith(".onnx"):
                (Path(name) / file).symlink_to((bundle.path / file).resolve())
        yield Path(name), bundle.manifest


def main() -> None:
    """Build, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", choices=get_args(EnginePrecision), default="fp16")
    parser.add_argument("--sm", type=int, nargs="+", default=[89, 120])
    arguments = parser.parse_args()
    source = random_graphs(arguments.precision) if arguments.model is None else bundle_graphs(arguments.model)
    sets = [tuple(arguments.sm), *([(sm,) for sm in arguments.sm] if len(arguments.sm) > 1 else [])]
    with source as (folder, manifest):
        graphs = graphs_of(manifest, arguments.precision)
        print(f"{manifest.name}, {arguments.precision}, {os.cpu_count()} CPUs; graphs: ", end="")
        print(", ".join(f"{name} {(folder / name).stat().st_size / 1e6:.1f} MB" for name in graphs))
        uncached = BuilderOptions(use_cache=False)
        for sms in sets:
            request = EngineRequest(runtime="tensorrt_rtx", precision=arguments.precision, sms=sms, builder=uncached)
            started = time.perf_counter()
            record = build_engines(folder, manifest, request, graphs=graphs)
            seconds = time.perf_counter() - started
            sizes = {name.split(".")[-2]: (folder / name).stat().st_size / 1e6 for name in record.files}
            named = " ".join(map(str, sms))
            largest = "×".join(map(str, record.profile.max))
            sized = ", ".join(f"{part} {size:.1f} MB" for part, size in sizes.items())
            print(f"SM {named:<10} {seconds:5.1f} s, {sized}, for LR images up to {largest}", flush=True)
    print(f"{record.runtime} {record.version}")


if __name__ == "__main__":
    main()
