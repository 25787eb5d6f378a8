"""Multiply-adds and nodes of a bundle's graphs: what a runtime has to compute, whatever its speed.

    python benchmarks/graph_counts.py [BUNDLE|GRAPH.onnx ...]

Without arguments, the embedded model's bundle. Multiply-adds are those of convolutions, for each LR
pixel of a 64×64 image and a batch of 1; nodes are those in the file, before a runtime fuses any.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from srflow_sdk import Bundle
from srflow_sdk.model.manifest import INVERTER, REQUIRED_FILES

# what ONNX Runtime computes in float32 for want of half-precision kernels
_CAST = "InsertedPrecisionFreeCast_"
_SIDE = 64  # LR pixels: a multiple of every network's size multiple


@dataclass(frozen=True)
class Counts:
    """Of one graph. multiply_adds: of its convolutions, for each LR pixel. nodes: by operator."""

    multiply_adds: float
    nodes: Counter[str]


def count_convolutions(proto: onnx.ModelProto, *, scale: int) -> list[tuple[str, float]]:
    """Each convolution of a graph: its weight's name, and its multiply-adds per LR pixel."""
    folded = _fold(_set_sizes(proto, scale=scale))
    graph = onnx.shape_inference.infer_shapes(folded, strict_mode=True).graph
    kernels = {weight.name: weight.dims for weight in graph.initializer}
    sizes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    named = [
        (node.input[1].removeprefix(_CAST), math.prod(sizes[node.output[0]][2:]) / _SIDE**2)
        for node in graph.node
        if node.op_type == "Conv"
    ]
    return [(name, math.prod(kernels[name]) * pixels) for name, pixels in named]


def count(proto: onnx.ModelProto, *, scale: int) -> Counts:
    """Count a graph that srflow-export wrote, of a network of this scale."""
    multiply_adds = sum(each for _, each in count_convolutions(proto, scale=scale))
    weights = {weight.name for weight in proto.graph.initializer}
    computing = [
        node for node in proto.graph.node if node.op_type != "Cast" or node.input[0] not in weights
    ]
    return Counts(multiply_adds, Counter(node.op_type for node in computing))


def _set_sizes(proto: onnx.ModelProto, *, scale: int) -> onnx.ModelProto:
    """A copy for a 64×64 LR image and batches of 1."""
    sized = onnx.ModelProto()
    sized.CopyFrom(proto)
    for value in sized.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        dimensions[0].dim_value = 1
        if len(dimensions) == 4:
            level = re.search(r"level(\d+)", value.name)
            side = (
                scale * _SIDE >> int(level[1])
                if level
                else {"hr": scale * _SIDE}.get(value.name, _SIDE)
            )
            dimensions[2].dim_value = dimensions[3].dim_value = side
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    return sized


def _fold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what its sizes make constant, so that all shapes can be inferred."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(path)


def main() -> None:
    """Count and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path)
    files: list[Path] = []
    for path in parser.parse_args().paths or [Bundle.embedded().path]:
        names = [name for name in (*REQUIRED_FILES, INVERTER) if (path / name).is_file()]
        files += [path / name for name in names] if path.is_dir() else [path]
    print(f"{'multiply-adds':>13} {'nodes':>6} {'Conv':>5} {'layout':>6}")
    for file in files:
        proto = onnx.load(file)
        scale = next(
            int(entry.value) for entry in proto.metadata_props if entry.key == "srflow.scale"
        )
        counted = count(proto, scale=scale)
        layout = sum(
            counted.nodes[op]
            for op in ("Split", "Slice", "Concat", "Reshape", "Transpose", "DepthToSpace")
        )
        millions = counted.multiply_adds / 1e6
        print(
            f"{millions:11.2f} M {counted.nodes.total():6} {counted.nodes['Conv']:5} {layout:6}  "
            f"{file}"
        )


if __name__ == "__main__":
    main()
