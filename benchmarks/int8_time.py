"""A bundle's encoder by runtime and precision, and its sampler: milliseconds for one window, by turns in one process.

    python benchmarks/int8_time.py full.srflow --side 64 --runs 9

The bundle needs encoder.int8.onnx (`srflow-export --also int8`); embedded ones have none. OpenVINO's rows need the
package `openvino`. Medians, and the spread from the smallest to the largest; "of fp32" is the share of what ONNX
Runtime takes in float32, for the encoder alone and with ONNX Runtime's sampler. Samplers always compute in float32.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from srflow_sdk import Bundle
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.manifest import INT8_ENCODER, REQUIRED_FILES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a bundle")
    parser.add_argument("--side", type=int, default=64, help="LR pixels of the window [default: 64]")
    parser.add_argument("--runs", type=int, default=15, help="[default: 15]")
    parser.add_argument("--threads", type=int, default=2, help="[default: 2]")
    options = parser.parse_args()
    bundle = Bundle.open(options.model)
    side, threads = options.side, options.threads
    encoder, sampler = REQUIRED_FILES
    lr = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    ways = {"ONNX Runtime, fp32": _onnx_runtime(bundle.file(encoder), threads)}
    if find_spec("openvino") is not None:
        ways["OpenVINO, fp32"] = _openvino(bundle.file(encoder), "f32", threads)
        if _has_bf16():
            ways["OpenVINO, bf16"] = _openvino(bundle.file(encoder), "bf16", threads)
        ways["OpenVINO, int8"] = _openvino(bundle.file(INT8_ENCODER), "f32", threads)
    ways["ONNX Runtime, int8"] = _onnx_runtime(bundle.file(INT8_ENCODER), threads)
    session = _session(bundle.file(sampler), threads)
    outputs = [value.name for value in _session(bundle.file(encoder), threads).get_outputs()]
    levels, scale = bundle.manifest.latent_levels, bundle.manifest.scale
    noise = window_noise(levels, scale=scale, seed=0, sample=0, height=side, width=side)
    feeds = {f"noise_level{level}": values[None] for level, values in noise.items()} | {"tau": np.ones(1, np.float32)}
    feeds |= zip(outputs, _session(bundle.file(encoder), threads).run(outputs, {"lr": lr}), strict=True)
    runs: dict[str, Callable[[], Any]] = {name: lambda run=run: run({"lr": lr}) for name, run in ways.items()}
    runs["sampler, ONNX Runtime"] = lambda: session.run(["sr"], feeds)
    if find_spec("openvino") is not None:
        runs["sampler, OpenVINO"] = partial(_openvino(bundle.file(sampler), "f32", threads), feeds)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.runs + 2):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - begun))
    medians = {name: statistics.median(each[2:]) for name, each in times.items()}  # the first two warm up
    print(f"{_processor()}, {threads} threads, {bundle.manifest.name}, one window of {side}×{side}")
    exact, drawn = medians["ONNX Runtime, fp32"], medians["sampler, ONNX Runtime"]
    print(f"{'':<21}  {'ms':>7}  {'spread':>15}  encoder of fp32  with the sampler")
    for name, median in medians.items():
        shares = (
            "" if name.startswith("sampler") else f"{median / exact:15.2f}  {(median + drawn) / (exact + drawn):16.2f}"
        )
        spread = f"{min(times[name][2:]):.1f} … {max(times[name][2:]):.1f}"
        print(f"{name:<21}  {median:7.1f}  {spread:>15}  {shares}".rstrip())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _has_bf16() -> bool:
    """OpenVINO would compute in float32 otherwise, whatever the hint."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def _onnx_runtime(path: Path, threads: int) -> Callable[[dict[str, Any]], Any]:
    session = _session(path, threads)
    return lambda feeds: session.run(None, feeds)


def _openvino(path: Path, precision: str, threads: int) -> Callable[[dict[str, Any]], Any]:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda feeds: request.infer(feeds, share_inputs=True, share_outputs=True)


if __name__ == "__main__":
    main()
