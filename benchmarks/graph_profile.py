"""What the time of a bundle's graph goes to on this CPU, by operator, as ONNX Runtime's own profiler counts it.

    python benchmarks/graph_profile.py BUNDLE/sampler.onnx [--size 64] [--batch 1] [--threads 2]

--size: LR pixels a side. --batch: samples in one call. Values are random; the time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort

_WARM_UP = 2
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def inputs(session: ort.InferenceSession, *, size: int, batch: int) -> dict[str, np.ndarray]:
    """Random inputs of an encoder, sampler or inverter for an LR image of size×size pixels."""
    random = np.random.default_rng(0)
    scale = int(session.get_modelmeta().custom_metadata_map["srflow.scale"])
    feed = {}
    for each in session.get_inputs():
        level = re.search(r"level(\d+)", each.name)
        side = scale * size >> int(level[1]) if level else scale * size if each.name == "hr" else size
        count = batch if each.name == "hr" or each.name.startswith("noise") else 1
        shape = (1,) if each.name == "tau" else (count, each.shape[1], side, side)
        feed[each.name] = (random.standard_normal(shape, np.float32) * 0.3).astype(_TYPES[each.type])
    return feed


def profile(graph: Path, *, size: int, batch: int, threads: int, runs: int) -> list[tuple[str, float, int]]:
    """(operator, milliseconds of a run, nodes), the slowest operator first."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        feed = inputs(session, size=size, batch=batch)
        for _ in range(_WARM_UP + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event["name"].endswith("kernel_time")]
    counted = kernels[len(kernels) * _WARM_UP // (_WARM_UP + runs) :]
    spent: Counter[str] = Counter()
    nodes = Counter(event["args"]["op_name"] for event in counted)
    for event in counted:
        spent[event["args"]["op_name"]] += event["dur"]
    return [(op, microseconds / runs / 1e3, nodes[op] // runs) for op, microseconds in spent.most_common()]


def main() -> None:
    """Profile and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    asked = parser.parse_args()
    rows = profile(asked.graph, size=asked.size, batch=asked.batch, threads=asked.threads, runs=asked.runs)
    in_all = sum(milliseconds for _, milliseconds, _ in rows)
    for op, milliseconds, nodes in rows:
        print(f"{op:<16}{milliseconds:8.2f} ms {milliseconds / in_all:6.1%}  {nodes:4} nodes")
    print(f"{'in all':<16}{in_all:8.2f} ms")


if __name__ == "__main__":
    main()
