"""What a bundle's network costs by part: multiply-adds, and the time that they take on this CPU.

    python benchmarks/network_cost.py [BUNDLE ...] [--size 64] [--threads 2] [--runs 15]

Without bundles, the embedded x4-small. Several are timed by turns in one process, so that their times compare. A part's
time is the sum of its nodes', each the shortest of all runs (other programs only add to it), as ONNX Runtime's own
profiler counts them. The parts: the LR encoder's trunk, projections (`network.condition`), the nets' first convolutions
on u, the rest of the injectors, and the sampler's levels. Multiply-adds are those of convolutions for an LR pixel; the
rate says how well a part uses the machine, beside what one convolution of 64 channels reaches. Layout changes belong to
the part before them.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from graph_counts import convolutions
from onnx import helper

from srflow_sdk import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES

WARM_UP = 2
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
PARTS = {
    "encoder": {
        "trunk": r"model\.encoder\.",
        "projections": r"model\.projections\.",
        "first convolutions on u": r"levels\.\d+\.on_u\.",
        "injectors": r"levels\.\d+\.(conv2|head|shift|scale)\.",
    },
    "sampler": {f"sampler, level {level}": rf"levels\.{level - 1}\." for level in range(1, 9)},
}
"""The parts of a graph, by the names of their convolutions' weights."""


@dataclass(frozen=True)
class Cost:
    """Of a part: multiply-adds for an LR pixel, milliseconds of a run."""

    multiply_adds: float
    milliseconds: float


def parts_of_nodes(proto: onnx.ModelProto, patterns: dict[str, str]) -> dict[str, str]:
    """The part that each node belongs to, by name: its own convolution's, or else that of what it takes."""
    made: dict[str, str] = {}
    parts: dict[str, str] = {}
    for node in proto.graph.node:
        part = part_of(node.input[1], patterns) if node.op_type == "Conv" else ""
        part = part or next((made[name] for name in node.input if name in made), "")
        parts[node.name] = part
        made |= dict.fromkeys(node.output, part)
    return parts


def part_of(weight: str, patterns: dict[str, str]) -> str:
    """The part of a convolution with this weight; empty if none."""
    return next((part for part, pattern in patterns.items() if re.match(pattern, weight)), "")


def inputs(session: ort.InferenceSession, *, scale: int, size: int) -> dict[str, np.ndarray]:
    """Random inputs of an encoder or sampler for an LR image of size×size pixels."""
    random, feed = np.random.default_rng(0), {}
    for each in session.get_inputs():
        level = re.search(r"level(\d+)", each.name)
        side = scale * size >> int(level[1]) if level else size
        shape = (1,) if each.name == "tau" else (1, each.shape[1], side, side)
        feed[each.name] = (random.standard_normal(shape, np.float32) * 0.3).astype(_TYPES[each.type])
    return feed


class Profiled:
    """A graph whose nodes are timed in every run."""

    def __init__(self, graph: Path, *, size: int, threads: int) -> None:
        self.file, self.proto = graph, onnx.load(graph)
        self.scale = next(int(entry.value) for entry in self.proto.metadata_props if entry.key == "srflow.scale")
        self.folder = tempfile.TemporaryDirectory()
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(self.folder.name) / "profile")
        self.session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.feed, self.runs = inputs(self.session, scale=self.scale, size=size), 0

    def run(self) -> None:
        """Run the graph once."""
        self.session.run(None, self.feed)
        self.runs += 1

    def costs(self) -> dict[str, Cost]:
        """The cost of each part that the graph has, after all runs."""
        patterns = PARTS[self.file.name.partition(".")[0]]
        parts, milliseconds, last = parts_of_nodes(self.proto, patterns), defaultdict(float), ""
        for name, times in self._times():
            last = parts.get(re.sub(r"_nchwc|_token_\d+", "", name), "") or last or next(iter(patterns))
            milliseconds[last] += min(times)
        multiply_adds: defaultdict[str, float] = defaultdict(float)
        for weight, count in convolutions(self.proto, scale=self.scale):
            multiply_adds[part_of(weight, patterns)] += count
        return {part: Cost(multiply_adds[part], milliseconds[part]) for part in patterns if multiply_adds[part]}

    def _times(self) -> Iterable[tuple[str, list[float]]]:
        """Each node by the runtime's name, in order, with its milliseconds in all runs but the first."""
        events = json.loads(Path(self.session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [event for event in events if event["name"].endswith("_kernel_time")]
        count = len(kernels) // self.runs
        for index, event in enumerate(kernels[:count]):
            times = [kernels[run * count + index]["dur"] / 1e3 for run in range(WARM_UP, self.runs)]
            yield event["name"].removesuffix("_kernel_time"), times


def peak_rate(*, threads: int, runs: int) -> float:
    """Multiply-adds in a nanosecond that a 3×3 convolution of 64 channels at 64×64 reaches at best."""
    side, channels = 64, 64
    weight = np.ones((channels, channels, 3, 3), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], name="conv")
    shape = [1, channels, side, side]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "conv", values[:1], values[1:], [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP + runs):
            session.run(None, {"x": np.zeros(shape, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent = [event["dur"] for event in events if event.get("args", {}).get("op_name") == "Conv"]
    return float(weight.size * side**2 / min(spent[WARM_UP:]) / 1e3)


def main() -> None:
    """Count, time by turns, and print a table for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE")
    parser.add_argument("--size", type=int, default=64, help="LR pixels a side [default: 64]")
    parser.add_argument("--threads", type=int, default=2, help="[default: 2]")
    parser.add_argument("--runs", type=int, default=15, help="[default: 15]")
    asked = parser.parse_args()
    bundles = [Bundle.open(name) for name in asked.bundles] or [Bundle.embedded()]
    graphs = {
        bundle.path: [
            Profiled(bundle.file(name), size=asked.size, threads=asked.threads)
            for name in bundle.manifest.float32_graphs or REQUIRED_FILES
        ]
        for bundle in bundles
    }
    for _ in range(WARM_UP + asked.runs):
        for each in graphs.values():
            for graph in each:
                graph.run()
    peak = peak_rate(threads=asked.threads, runs=asked.runs)
    size = f"{asked.size}×{asked.size}"
    print(f"{size} LR pixels, {asked.threads} threads; one convolution of 64 channels: {peak:.0f} G/s")
    for bundle in bundles:
        print(f"\n{bundle.path}\n{'':<26}{'multiply-adds':>14}{'ms':>9}{'G/s':>7}{'of it':>10}")
        rows = {part: cost for graph in graphs[bundle.path] for part, cost in graph.costs().items()}
        for whole in ("encoder", "sampler"):
            own = {part: cost for part, cost in rows.items() if part.startswith("sampler") == (whole == "sampler")}
            total = Cost(
                *(sum(getattr(cost, name) for cost in own.values()) for name in ("multiply_adds", "milliseconds"))
            )
            for part, cost in {**own, f"{whole} in all": total}.items():
                rate = cost.multiply_adds * asked.size**2 / cost.milliseconds / 1e6
                count = f"{cost.multiply_adds / 1e3:.0f} k"
                print(f"{part:<26}{count:>14}{cost.milliseconds:9.2f}{rate:7.0f}{rate / peak:10.0%}")


if __name__ == "__main__":
    main()
