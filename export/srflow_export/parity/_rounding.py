"""Compute, on any machine, what a GPU computes with a graph in half precision.

ONNX Runtime has hardly any half-precision operators for CPUs: it casts to float32, computes there, and rounds nothing
in between, so a graph that overflows in half looks flawless. Here every value that a graph declares as float16 or
bfloat16 is rounded to that type after its operator. The operators themselves work in float32, like the matrix units of
GPUs, which multiply in half and add in float32. Fused kernels round less often, so this is the stricter test.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, shape_inference

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_MOVING = {  # operators that only move rounded values, or take the larger of two
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu", "Reshape"),
    *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


def rounded_as_on_gpus(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a graph with float32 operators, with values rounded to half where the graph says so.

    Model-local functions are inlined. The graph's inputs must be float32; its outputs keep their types.
    Raises: onnx.shape_inference.InferenceError if types cannot be inferred.
    """
    flat = inliner.inline_local_functions(proto)
    types = _types(flat)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(flat)
    graph = rounded.graph
    for weight in graph.initializer:
        if weight.data_type in _HALF:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name))
    del graph.node[:], graph.value_info[:]
    for node in flat.graph.node:
        graph.node.extend(_rounded_nodes(node, types))
    return rounded


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(proto, strict_mode=True).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    values = (*graph.value_info, *graph.input, *graph.output)
    return types | {value.name: value.type.tensor_type.elem_type for value in values}


def _rounded_nodes(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    computed = onnx.NodeProto()
    computed.CopyFrom(node)
    half = [name for name in node.output if types.get(name) in _HALF]
    for attribute in computed.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALF:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type in _HALF:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))
    if node.op_type in _MOVING or not half:
        yield computed
        return
    del computed.output[:]
    computed.output.extend(f"{name}.exact" if name in half else name for name in node.output)
    yield computed
    for name in half:
        yield helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=types[name])
        yield helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)
