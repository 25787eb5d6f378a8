"""The graphs as ONNX models: tracing, composition, weight storage, metadata."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import compose, external_data_helper, numpy_helper
from torch import Tensor

from srflow_export import flow_ops
from srflow_export.graphs import (
    DTYPES,
    EncoderGraph,
    SamplerGraph,
    decoded_names,
    latent_levels,
    level_conditioning,
    noise_names,
    parse_level,
)
from srflow_export.int8_layout import Array, IntegerEncoderGraph
from srflow_export.inversion import HR, LOG_DENSITY, InverterGraph
from srflow_export.tracing import onnx_graph
from srflow_sdk.model.manifest import Precision
from srflow_training.model import SRFlow, SRFlowConfig

_OPSET = 18
_BFLOAT16_OPSET = 22  # the first whose convolutions take bfloat16
# prefixes of a fused graph's inner names
_ENCODER = "encoder."
_SAMPLER = "sampler."
_DECODED = re.compile(rf"({re.escape(_SAMPLER)})?level\d+_decoded")
_HALF_FROM = 1024  # tensors with fewer values are not worth storing in half precision
_SHARED_FROM = 1024  # bytes; fewer are not worth sharing


def encoder_model(model: SRFlow, precision: Precision = "fp32") -> onnx.ModelProto:
    """Trace `lr` (lr_batch×3×height×width) → conditioning, see :mod:`srflow_export.graphs`."""
    dtype = DTYPES[precision]
    return _trace_encoder(EncoderGraph(model, dtype), model.config, opset=_opset(dtype))


def trace_quantisable_encoder(model: SRFlow, crops: Sequence[Array]) -> onnx.ModelProto:
    """Trace the same in float32, laid out for integer convolutions."""
    return _trace_encoder(IntegerEncoderGraph(model, crops), model.config, opset=_OPSET)


def _trace_encoder(graph: EncoderGraph, config: SRFlowConfig, *, opset: int) -> onnx.ModelProto:
    height, width = _example_size(config)
    return onnx_graph(
        graph,
        {"lr": torch.zeros(2, 3, height, width)},
        inputs={"lr": ("lr_batch", 3, "height", "width")},
        outputs=_conditioning_axes(config),
        opset=opset,
        nodes={},
    )


def sampler_model(
    model: SRFlow,
    precision: Precision = "fp32",
    *,
    flow_nodes: bool = False,
) -> onnx.ModelProto:
    """Trace conditioning (lr_batch 1 or N), `noise_level{ℓ}` (N) and `tau` ([1] or [N]) → `sr`.

    Traced with a conditioning batch and tau of size 1, so that nothing ties them to N; ONNX
    broadcasting does the rest. What levels L … 2 decode to is named inside the graph, see
    :func:`add_decoded_levels`. flow_nodes: steps end in nodes of :mod:`srflow_export.flow_ops`,
    with their function.
    """
    config = model.config
    dtype = DTYPES[precision]
    conditioning = _conditioning_axes(config)
    noise = _noise_axes(config)
    example = {name: _zeros(config, 1, name, axes[1], dtype) for name, axes in conditioning.items()}
    example |= {
        name: _zeros(config, 2, name, axes[1], torch.float32) for name, axes in noise.items()
    }
    proto = onnx_graph(
        SamplerGraph(model, dtype, flow_nodes=flow_nodes),
        {**example, "tau": torch.ones(1)},
        inputs={**conditioning, **noise, "tau": ("tau_batch",)},
        outputs=dict.fromkeys(decoded_names(config), ())
        | {"sr": ("batch", 3, "sr_height", "sr_width")},
        opset=_opset(dtype),
        nodes=flow_ops.NODES,
    )
    del proto.graph.output[:-1]
    flow_ops.append_function(proto, scale_map=config.scale_map, order=config.affine_order)
    return proto


def inverter_model(model: SRFlow, precision: Precision = "fp32") -> onnx.ModelProto:
    """Trace `hr` and conditioning (lr_batch 1 or N) → `latent_level{ℓ}`…, `log_density`."""
    config = model.config
    dtype = DTYPES[precision]
    height, width = _example_size(config)
    conditioning = _conditioning_axes(config)
    example = {HR: torch.zeros(2, 3, config.scale * height, config.scale * width)}
    example |= {
        name: _zeros(config, 1, name, axes[1], dtype) for name, axes in conditioning.items()
    }
    axes = {name.replace("noise", "latent"): each for name, each in _noise_axes(config).items()}
    return onnx_graph(
        InverterGraph(model, dtype),
        example,
        inputs={HR: ("batch", 3, "sr_height", "sr_width"), **conditioning},
        outputs={**axes, LOG_DENSITY: ("batch", 1, "height", "width")},
        opset=_opset(dtype),
        nodes={},
    )


def join(encoder: onnx.ModelProto, sampler: onnx.ModelProto) -> onnx.ModelProto:
    """Join an encoder and a graph that takes its conditioning into one."""
    names = [output.name for output in encoder.graph.output]
    first, second = (
        compose.add_prefix(
            part,
            prefix,
            rename_inputs=False,
            rename_outputs=False,
            rename_functions=False,
        )
        for part, prefix in ((encoder, _ENCODER), (sampler, _SAMPLER))
    )
    for part in (first, second):
        # a graph in int8 and one in float32 describe themselves differently
        del part.metadata_props[:]
    return compose.merge_models(
        first,
        second,
        io_map=[(name, name) for name in names],
        name="srflow",
    )


def add_decoded_levels(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a graph that also outputs what its levels decode to, L first.

    Graphs of older exporters do not have these names; their copy has no further outputs.
    """
    marked = copy.deepcopy(proto)
    graph = marked.graph
    for inner in [name for node in graph.node for name in node.output if _DECODED.fullmatch(name)]:
        name = inner.removeprefix(_SAMPLER)
        if name != inner:
            graph.node.append(onnx.helper.make_node("Identity", [inner], [name]))
        shape = ("batch", None, None, None)
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return marked


def store_weights_in_half(proto: onnx.ModelProto) -> None:
    """Store large float32 weights as float16, each with a cast; arithmetic stays float32.

    Runtimes fold the casts when they load the graph, so only the file and the precision of the
    weights are halved.
    """
    casts = []
    for weight in proto.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) >= _HALF_FROM:
            name = weight.name
            half = numpy_helper.from_array(
                numpy_helper.to_array(weight).astype(np.float16), f"{name}.half"
            )
            weight.CopyFrom(half)
            casts.append(
                onnx.helper.make_node(
                    "Cast",
                    [half.name],
                    [name],
                    f"{name}.cast",
                    to=onnx.TensorProto.FLOAT,
                )
            )
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(casts + nodes)


def convert_to_float32(proto: onnx.ModelProto) -> None:
    """Turn a graph's half precision into float32; rounded weights stay so."""
    graph = proto.graph
    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in halves:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    constants = [
        attribute.t
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type in halves:
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor).astype(np.float32), tensor.name
                )
            )
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in halves:
                attribute.i = onnx.TensorProto.FLOAT


def serialise(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Check and serialise a graph with metadata. Raises: onnx.checker.ValidationError."""
    onnx.helper.set_model_props(proto, dict(metadata))
    proto.producer_name = "srflow-export"
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def share_weights(graph: bytes, file: str, content: bytes) -> bytes:
    """Keep a graph's large weights, as external data, in a file beside it that holds them too.

    file, content: that file. Its sha256 is in the graph's metadata: a graph with other weights has
        other bytes.
    """
    proto = onnx.load_from_string(graph)
    for weight in proto.graph.initializer:
        size = len(weight.raw_data)
        if size >= _SHARED_FROM and (offset := content.find(weight.raw_data)) >= 0:
            external_data_helper.set_external_data(weight, file, offset=offset, length=size)
            weight.ClearField("raw_data")
    proto.metadata_props.add(key="srflow.weights_sha256", value=hashlib.sha256(content).hexdigest())
    return bytes(proto.SerializeToString())


def _example_size(config: SRFlowConfig) -> tuple[int, int]:
    """Height and width of an LR image to trace with."""
    return 6 * config.size_multiple, 8 * config.size_multiple


def _zeros(
    config: SRFlowConfig,
    batch: int,
    name: str,
    channels: int,
    dtype: torch.dtype,
) -> Tensor:
    """An example of one of a level's tensors."""
    shape = config.level_shapes[parse_level(name) - 1]
    height, width = (int(2.0**shape.lr_exponent * side) for side in _example_size(config))
    return torch.zeros(batch, channels, height, width, dtype=dtype)


def _opset(dtype: torch.dtype) -> int:
    return _BFLOAT16_OPSET if dtype is torch.bfloat16 else _OPSET


def _conditioning_axes(config: SRFlowConfig) -> dict[str, tuple[str, int, str, str]]:
    return {
        name: ("lr_batch", channels, *_size_axes(shape.level))
        for shape in config.level_shapes
        for name, channels in level_conditioning(config, shape).items()
    }


def _noise_axes(config: SRFlowConfig) -> dict[str, tuple[str, int, str, str]]:
    channels = {f"noise_level{entry.level}": entry.channels for entry in latent_levels(config)}
    return {
        name: ("batch", channels[name], *_size_axes(parse_level(name)))
        for name in noise_names(config)
    }


def _size_axes(level: int) -> tuple[str, str]:
    return f"height_level{level}", f"width_level{level}"
