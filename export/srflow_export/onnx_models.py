"""The graphs as ONNX models: torch.export-based export, symbolic dimensions, composition, weight storage, metadata."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import compose, numpy_helper
from torch import nn
from torch.export import Dim

from srflow_export import flow_ops
from srflow_export.graphs import (
    DTYPES,
    EncoderGraph,
    SamplerGraph,
    conditioning_names,
    decoded_names,
    level_conditioning,
    noise_names,
)
from srflow_sdk.manifest import Precision
from srflow_training.model import SRFlow, SRFlowConfig
from srflow_training.model.config import LevelShape

_OPSET = 18
_BFLOAT16_OPSET = 22  # the first whose convolutions take bfloat16
_ENCODER, _SAMPLER = "encoder.", "sampler."  # prefixes of a fused graph's inner names
_DECODED = re.compile(rf"({re.escape(_SAMPLER)})?level\d+_decoded")
_HALF_FROM = 1024  # tensors with fewer values are not worth storing in half precision


def encoder_model(model: SRFlow, precision: Precision = "fp32") -> onnx.ModelProto:
    """`lr` (lr_batch×3×height×width) → conditioning, named and typed as in :mod:`srflow_export.graphs`."""
    config, dtype = model.config, DTYPES[precision]
    multiple = config.size_multiple
    height, width = _units()
    sizes = {0: Dim("lr_batch", min=1), 2: multiple * height, 3: multiple * width}
    lr = torch.zeros(2, 3, 6 * multiple, 8 * multiple)
    proto = _exported(EncoderGraph(model, dtype), (lr,), ["lr"], conditioning_names(config), (sizes,))
    for output, shape in zip(proto.graph.output, _by_conditioning(config), strict=True):
        _name_dimensions(output, batch="lr_batch", shape=shape)
    _name_axes(proto.graph.input[0], {0: "lr_batch", 2: "height", 3: "width"})
    return proto


def sampler_model(model: SRFlow, precision: Precision = "fp32", *, flow_nodes: bool = False) -> onnx.ModelProto:
    """Conditioning (lr_batch 1 or N), `noise_level{ℓ}` (N), `tau` ([1] or [N]) → `sr` (N×3×sr_height×sr_width).

    Exported with a conditioning batch and tau of size 1, so that nothing ties them to N; their first dimension is
    then named, and ONNX broadcasting does the rest. What levels L … 2 decode to is named inside the graph, see
    :func:`with_decoded_levels`. flow_nodes: the flow's own operations become nodes of :mod:`srflow_export.flow_ops`,
    with their functions.
    """
    config, dtype = model.config, DTYPES[precision]
    height, width = _units()
    inputs: list[torch.Tensor] = []
    sizes: list[dict[int, Any]] = []
    by_name = {shape.level: shape for shape in config.level_shapes}
    for shape in config.level_shapes:
        factor = _units_factor(config, shape)
        for channels in level_conditioning(config, shape).values():
            inputs.append(torch.zeros(1, channels, 6 * factor, 8 * factor, dtype=dtype))
            sizes.append({2: factor * height, 3: factor * width})
    for level, (channels, *size) in model.latent_shapes(6 * config.size_multiple, 8 * config.size_multiple).items():
        factor = _units_factor(config, by_name[level])
        inputs.append(torch.zeros(2, channels, *size))
        sizes.append({0: Dim("batch", min=1), 2: factor * height, 3: factor * width})
    inputs.append(torch.ones(1))
    sizes.append({})
    names = [*conditioning_names(config), *noise_names(config), "tau"]
    outputs = [*decoded_names(config), "sr"]
    graph = SamplerGraph(model, dtype, flow_nodes=flow_nodes)
    proto = _exported(graph, tuple(inputs), names, outputs, (tuple(sizes),))
    flow_ops.append_functions(
        proto, scale_map=config.scale_map, order=config.affine_order, split_bounded=config.split_clamp is not None
    )
    del proto.graph.output[:-1]
    by_input = dict(zip(names, proto.graph.input, strict=True))
    for name, shape in zip(conditioning_names(config), _by_conditioning(config), strict=True):
        _name_dimensions(by_input[name], batch="lr_batch", shape=shape)
    for shape in config.level_shapes:
        if shape.latent_channels:
            _name_dimensions(by_input[f"noise_level{shape.level}"], batch="batch", shape=shape)
    _name_axes(by_input["tau"], {0: "tau_batch"})
    _name_axes(proto.graph.output[0], {0: "batch", 2: "sr_height", 3: "sr_width"})
    return proto


def fused_model(encoder: onnx.ModelProto, sampler: onnx.ModelProto) -> onnx.ModelProto:
    """The composition of the two: `lr`, `noise_level{ℓ}`…, `tau` → `sr`, in one graph."""
    names = [output.name for output in encoder.graph.output]
    first, second = (
        compose.add_prefix(part, prefix, rename_inputs=False, rename_outputs=False, rename_functions=False)
        for part, prefix in ((encoder, _ENCODER), (sampler, _SAMPLER))
    )
    return compose.merge_models(first, second, io_map=[(name, name) for name in names], name="srflow")


def with_decoded_levels(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a sampler or fused graph that also outputs what its levels decode to, `level{ℓ}_decoded`, L first.

    Graphs of older exporters do not have these names; their copy has no further outputs.
    """
    marked = onnx.ModelProto()
    marked.CopyFrom(proto)
    graph = marked.graph
    for inner in [name for node in graph.node for name in node.output if _DECODED.fullmatch(name)]:
        name = inner.removeprefix(_SAMPLER)
        if name != inner:
            graph.node.append(onnx.helper.make_node("Identity", [inner], [name]))
        shape = ("batch", None, None, None)
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return marked


def store_weights_in_half(proto: onnx.ModelProto) -> None:
    """Store large float32 weights as float16, each followed by a cast; the arithmetic stays float32. In place.

    Runtimes fold the casts when they load the graph, so only the file and the precision of the weights are halved.
    """
    casts = []
    for weight in proto.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) >= _HALF_FROM:
            name = weight.name
            half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}.half")
            weight.CopyFrom(half)
            casts.append(onnx.helper.make_node("Cast", [half.name], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(casts + nodes)


def finished(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Check and serialise a graph, with metadata_props. Raises: onnx.checker.ValidationError if it is not valid."""
    onnx.helper.set_model_props(proto, dict(metadata))
    proto.producer_name = "srflow-export"
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def _units() -> tuple[Any, Any]:
    """Height and width in units of the coarsest level's pixels or of one LR pixel, whichever is coarser."""
    return Dim("units_high", min=1), Dim("units_wide", min=1)


def _units_factor(config: SRFlowConfig, shape: LevelShape) -> int:
    return int(2.0**shape.lr_exponent * config.size_multiple)


def _by_conditioning(config: SRFlowConfig) -> list[LevelShape]:
    """The level of each conditioning tensor, in order."""
    return [shape for shape in config.level_shapes for _ in level_conditioning(config, shape)]


def _exported(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
) -> onnx.ModelProto:
    """Export one graph with torch.onnx's torch.export-based exporter, without intermediate shapes and log output."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    types = {buffer.dtype for buffer in module.buffers()}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            opset_version=_BFLOAT16_OPSET if torch.bfloat16 in types else _OPSET,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    assert program is not None  # for the type checker: only export to a file returns nothing
    proto: onnx.ModelProto = program.model_proto
    del proto.graph.value_info[:]  # they repeat the example's conditioning batch of 1
    del proto.graph.metadata_props[:]  # torch's notes, in the order of Python's sets: the same export would differ
    for node in proto.graph.node:
        del node.metadata_props[:]  # stack traces of this machine
        node.doc_string = ""
    return proto


def _name_dimensions(value: onnx.ValueInfoProto, *, batch: str, shape: LevelShape) -> None:
    _name_axes(value, {0: batch, 2: f"height_level{shape.level}", 3: f"width_level{shape.level}"})


def _name_axes(value: onnx.ValueInfoProto, names: Mapping[int, str]) -> None:
    for axis, name in names.items():
        value.type.tensor_type.shape.dim[axis].dim_param = name
