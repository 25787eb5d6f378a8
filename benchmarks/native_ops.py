"""Time the sampler with and without the native CPU library, in pairs, and the flow ops against memory bandwidth.

    python benchmarks/native_ops.py --library build/cpu/runtime/ort/libsrflow_ort.so [--model BUNDLE]
                                    [--size 64] [--samples 1] [--runs 15] [--threads 2]

Three parts: 1. The memory bandwidth: a copy of arrays larger than all caches, with the same number of threads. 2. Each
op alone: the inlined function and the kernel, at the channels and sizes of the published ×4 network. 3. The bundle's
sampler, if its graph has flow ops: as a whole, and the ops in it as ONNX Runtime's profiler reports them.

Runs with and without the library alternate; a ratio above 1 means that the library is faster. An op's bytes count each
input and output once. Small ones stay in a cache, and can exceed a copy's bandwidth. Use an idle machine: if other
processes use a core, threads wait for each other.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from srflow_export import flow_ops
from srflow_sdk import Bundle
from srflow_sdk.latents.random_field import window_noise
from srflow_training.model.config import SRFlowConfig

Feed = dict[str, np.ndarray]
NETWORK = SRFlowConfig.of_variant("published", scale=4)
FLOW_OPS = ("FlowStepTail", "UnsqueezeSplit")
ELEMENT_BYTES = {"float": 4, "float16": 2}  # by the names that the profiler uses


@dataclass(frozen=True)
class Setting:
    """How sessions are made and timed."""

    library: Path
    threads: int
    runs: int

    def session(self, model: bytes | str, *, native: bool, profile: Path | None = None) -> ort.InferenceSession:
        """A session with the library, or with functions inlined."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        if native:
            options.register_custom_ops_library(str(self.library))
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def pair(self, model: bytes | str, feed: Feed) -> tuple[float, float]:
        """Median seconds, inlined and with the library; runs alternate, and the first of each is not counted."""
        sessions = [self.session(model, native=native) for native in (False, True)]
        bindings = [_bound(session, feed) for session in sessions]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(self.runs + 1):
            for session, binding, seconds in zip(sessions, bindings, times, strict=True):
                started = time.perf_counter()
                session.run_with_iobinding(binding)
                seconds.append(time.perf_counter() - started)
        inlined, native = (statistics.median(seconds[1:]) for seconds in times)
        return inlined, native


def _bound(session: ort.InferenceSession, feed: Feed) -> Any:
    """Bind inputs and output to memory that stays, as in a sampler's arena: fresh pages would cost more than an op."""
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    [output] = session.get_outputs()
    binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_numpy(session.run(None, feed)[0]))
    return binding


def copy_bandwidth(threads: int, runs: int) -> float:
    """Bytes per second that a copy reads and writes together; the best of the runs."""
    pairs = [(np.ones(1 << 25, np.float32), np.empty(1 << 25, np.float32)) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(runs):
            started = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            best = max(best, sum(2 * source.nbytes for source, _ in pairs) / (time.perf_counter() - started))
    return best


def op_model(op: str, feed: Feed, attributes: Mapping[str, Any]) -> bytes:
    """A model of one node and its function; the inputs' sizes are symbolic, except the channels."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" if axis != 1 else size for axis, size in
                                                                enumerate(array.shape)])
        for name, array in feed.items()
    ]  # fmt: skip
    plugin = {"plugin_namespace": flow_ops.DOMAIN, "plugin_version": "1"}
    node = helper.make_node(op, list(feed), ["out"], domain=flow_ops.DOMAIN, **attributes, **plugin)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    proto = helper.make_model(
        helper.make_graph([node], op, values, [out]),
        opset_imports=[helper.make_opsetid("", flow_ops.OPSET)],
        ir_version=10,
    )
    scale_map = attributes.get("scale_map", "tanh")
    flow_ops.append_functions(proto, scale_map=scale_map, order="scale_first", split_bounded=True)
    return bytes(proto.SerializeToString())


def tail_case(channels: int, size: int, samples: int, scale_map: str) -> tuple[bytes, Feed, int]:
    """FlowStepTail's model, inputs and bytes."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    feed = {
        "h": normal(samples, channels, size, size),
        "head": normal(samples, channels + channels % 2, size, size),
        "injector_scale": normal(1, NETWORK.steps * channels, size, size),
        "injector_shift": normal(1, NETWORK.steps * channels, size, size),
        "mixing_weight": normal(channels, channels, 1, 1),
        "mixing_bias": normal(channels),
    }
    attributes = {"scale_map": scale_map, "order": "scale_first", "clamp": 0.7, "begin": [channels]}
    model = op_model("FlowStepTail", feed, {**attributes, "end": [2 * channels]})
    conditioning = 2 * 4 * channels * size * size
    return model, feed, conditioning + 2 * feed["h"].nbytes + feed["head"].nbytes


def split_case(channels: int, drawn: int, size: int, samples: int) -> tuple[bytes, Feed, int]:
    """UnsqueezeSplit's model, inputs and bytes. drawn: the channels that the split adds."""
    random = np.random.default_rng(0)
    kept = channels - drawn
    feed = {
        "h": random.standard_normal((samples, 4 * kept, size // 2, size // 2), np.float32),
        "head": random.standard_normal((samples, 2 * drawn, size, size), np.float32),
        "noise": random.standard_normal((samples, drawn, size, size), np.float32),
        "tau": np.array([0.8], np.float32),
    }
    out = 4 * samples * channels * size * size
    return op_model("UnsqueezeSplit", feed, {"bound": 2.0}), feed, out + sum(array.nbytes for array in feed.values())


def row(name: str, inlined: float, native: float, moved: int, bandwidth: float) -> str:
    """Format a line of the table."""
    rate = moved / native
    return (
        f"{name:<34}{1e3 * inlined:9.3f}{1e3 * native:9.3f}{inlined / native:8.2f}{moved / 1e6:9.2f}"
        f"{rate / 1e9:8.1f}{100 * rate / bandwidth:6.0f} %"
    )


HEADER = f"{'':<34}{'inlined':>9}{'library':>9}{'ratio':>8}{'MB':>9}{'GB/s':>8}{'of copy':>8}   (milliseconds)"


def ops(setting: Setting, *, size: int, samples: int, bandwidth: float) -> None:
    """Time each op alone, at every level that has it."""
    print(HEADER)
    for shape in NETWORK.level_shapes:
        level, channels, side = shape.level, shape.channels, round(size * 2.0**shape.lr_exponent)
        for scale_map in ("exp", "sigmoid", "tanh"):
            model, feed, moved = tail_case(channels, side, samples, scale_map)
            name = f"tail {scale_map}, level {level}, {channels}×{side}²"
            print(row(name, *setting.pair(model, feed), moved, bandwidth))
        if level in NETWORK.split_levels:
            model, feed, moved = split_case(channels, shape.latent_channels, side, samples)
            name = f"unsqueeze and split, {channels}×{side}²"
            print(row(name, *setting.pair(model, feed), moved, bandwidth))


def sampler_feed(bundle: Bundle, *, size: int, samples: int, threads: int) -> Feed:
    """Conditioning of a random LR image, noise of `samples` samples, tau 0.8."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    encoder = ort.InferenceSession(str(bundle.path / "encoder.onnx"), options, providers=["CPUExecutionProvider"])
    lr = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    feed = dict(zip([output.name for output in encoder.get_outputs()], encoder.run(None, {"lr": lr}), strict=True))
    levels, scale = bundle.manifest.latent_levels, bundle.manifest.scale
    fields = [
        window_noise(levels, scale=scale, seed=0, sample=sample, height=size, width=size) for sample in range(samples)
    ]
    noise = {f"noise_level{level}": np.stack([field[level] for field in fields]) for level in fields[0]}
    return {**feed, **noise, "tau": np.array([0.8], np.float32)}


def profiled(setting: Setting, model: str, feed: Feed) -> dict[str, tuple[float, int]]:
    """Seconds and bytes of each flow op in one run of the sampler, by its profiler, summed over nodes."""
    runs: dict[str, list[float]] = {op: [] for op in FLOW_OPS}
    moved = dict.fromkeys(FLOW_OPS, 0)
    with tempfile.TemporaryDirectory() as folder:
        session = setting.session(model, native=True, profile=Path(folder) / "profile")
        for _ in range(setting.runs + 1):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes: dict[str, list[tuple[float, int, str]]] = {}
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and arguments.get("op_name") in FLOW_OPS and "output_type_shape" in arguments:
            at = (event["dur"] / 1e6, _moved(arguments), arguments["op_name"])
            nodes.setdefault(event["name"], []).append(at)
    for executions in nodes.values():
        _, size, op = executions[-1]
        runs[op].append(statistics.median(seconds for seconds, _, _ in executions[1:]))
        moved[op] += size
    return {op: (sum(runs[op]), moved[op]) for op in FLOW_OPS if runs[op]}


def _moved(arguments: Mapping[str, Any]) -> int:
    """Bytes of a flow op's node: every tensor once, and only the step's own channels of a level's conditioning."""
    [(_, out)] = [tensor for entry in arguments["output_type_shape"] for tensor in entry.items()]
    tensors = [tensor for entry in arguments["input_type_shape"] for tensor in entry.items()]
    if arguments["op_name"] == "FlowStepTail":
        tensors[2:4] = [(element, [shape[0], out[1], *shape[2:]]) for element, shape in tensors[2:4]]
    return sum(ELEMENT_BYTES[element] * int(np.prod(shape)) for element, shape in (*tensors, ("float", out)))


def sampler(setting: Setting, bundle: Bundle, *, size: int, samples: int, bandwidth: float) -> None:
    """Time the whole sampler."""
    path = str(bundle.path / "sampler.onnx")
    count = sum(node.op_type in FLOW_OPS for node in onnx.load(path).graph.node)
    if not count:
        print(f"{bundle.path}: no flow ops in sampler.onnx; export the bundle again to time it with the library")
        return
    feed = sampler_feed(bundle, size=size, samples=samples, threads=setting.threads)
    results = [setting.session(path, native=native).run(None, feed)[0] for native in (False, True)]
    inlined, native = setting.pair(path, feed)
    print(
        f"{bundle.manifest.name}, sampler, {count} flow ops: inlined {inlined:.4f} s, library {native:.4f} s, "
        f"ratio {inlined / native:.2f}; pictures differ by {np.abs(results[0] - results[1]).max():.1e}"
    )
    for op, (seconds, moved) in profiled(setting, path, feed).items():
        rate = moved / seconds
        print(
            f"  {op}: {1e3 * seconds:.2f} ms, {100 * seconds / native:.0f} % of the sampler; {moved / 1e6:.1f} MB, "
            f"{rate / 1e9:.1f} GB/s, {100 * rate / bandwidth:.0f} % of copy"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--size", type=int, default=64, help="LR pixels a side")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    setting = Setting(arguments.library, arguments.threads, arguments.runs)
    sizes = {"size": arguments.size, "samples": arguments.samples}
    bundle = Bundle.embedded() if arguments.model is None else Bundle.open(arguments.model)
    multiple = math.lcm(bundle.manifest.size_multiple, NETWORK.size_multiple)
    if arguments.size < 1 or arguments.size % multiple:
        fitting = multiple * max(1, arguments.size // multiple)
        sys.exit(f"native_ops.py: --size {arguments.size} is not a multiple of {multiple}; try --size {fitting}")
    bandwidth = copy_bandwidth(arguments.threads, arguments.runs)
    print(f"{arguments.threads} threads, {arguments.size}×{arguments.size} LR, samples: {arguments.samples}")
    print(f"copy: {bandwidth / 1e9:.1f} GB/s")
    ops(setting, **sizes, bandwidth=bandwidth)
    sampler(setting, bundle, **sizes, bandwidth=bandwidth)


if __name__ == "__main__":
    main()
