"""Time a bundle's sampler with and without the native CPU library, in pairs.

    python benchmarks/native_ops.py --library libsrflow_ort.so --model full.srflow
                                    [--size 64] [--runs 15] [--threads 2]

Runs with and without the library alternate; a ratio above 1 means that the library is faster. Use
an idle machine: if other processes use a core, threads wait for each other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from srflow_sdk import Bundle
from srflow_sdk.latents.random_field import window_noise


def session(path: Path, threads: int, library: Path | None = None) -> ort.InferenceSession:
    """A session with the library, or with functions inlined."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs(bundle: Bundle, size: int, threads: int) -> dict[str, np.ndarray]:
    """The sampler's: conditioning of a random LR image, the noise of a sample, tau 0.8."""
    encoder = session(bundle.path / "encoder.onnx", threads)
    lr = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    feed = dict(
        zip(
            [output.name for output in encoder.get_outputs()],
            encoder.run(None, {"lr": lr}),
            strict=True,
        )
    )
    place = {"scale": bundle.manifest.scale, "seed": 0, "sample": 0, "height": size, "width": size}
    for level, noise in window_noise(bundle.manifest.latent_levels, **place).items():
        feed[f"noise_level{level}"] = noise[None]
    return {**feed, "tau": np.array([0.8], np.float32)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--model", required=True, help="a bundle of srflow-export --plugins")
    parser.add_argument("--size", type=int, default=64, help="LR pixels a side")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    path = bundle.path / "sampler.onnx"
    count = sum(node.domain == "srflow" for node in onnx.load(path).graph.node)
    if not count:
        sys.exit(f"{bundle.path} has no flow ops: export it with --plugins")
    feed = inputs(bundle, options.size, options.threads)
    sessions = [session(path, options.threads, library) for library in (None, options.library)]
    pictures = [each.run(None, feed)[0] for each in sessions]  # not counted
    times: list[list[float]] = [[], []]
    for _ in range(options.runs):
        for each, taken in zip(sessions, times, strict=True):
            started = time.perf_counter()
            each.run(None, feed)
            taken.append(time.perf_counter() - started)
    inlined, native = map(statistics.median, times)
    print(
        f"{bundle.manifest.name}, {options.threads} threads, {count} flow ops: inlined "
        f"{1e3 * inlined:.1f} ms, library {1e3 * native:.1f} ms, ratio {inlined / native:.2f}; "
        f"pictures differ by {np.abs(pictures[0] - pictures[1]).max():.1e}"
    )


if __name__ == "__main__":
    main()
