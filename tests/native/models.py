"""ONNX models of one flow op, inputs for them, and runs with and without the native library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn import functional as F

from srflow_export import flow_ops
from srflow_training.model.config import AffineOrder, ScaleMap

STEPS = 3
STEP = 1
PLUGIN = {"plugin_namespace": "srflow", "plugin_version": "1"}
_ELEMENT = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}

Inputs = dict[str, Tensor]


def tail_inputs(
    *,
    batch: int = 3,
    conditioning_batch: int = 1,
    channels: int = 12,
    size: tuple[int, int] = (6, 10),
    dtype: torch.dtype = torch.float32,
    spread: float = 1.0,
) -> Inputs:
    """FlowStepTail's inputs, normal. spread: standard deviation of the head, which determines the
    affine scale."""
    random = torch.Generator().manual_seed(0)
    conditioning = (conditioning_batch, STEPS * channels, *size)
    return {
        "h": torch.randn(batch, channels, *size, generator=random),
        "head": (
            spread * torch.randn(batch, 2 * (channels - channels // 2), *size, generator=random)
        ).to(dtype),
        "injector_scale": torch.randn(conditioning, generator=random).to(dtype),
        "injector_shift": torch.randn(conditioning, generator=random).to(dtype),
        "mixing_weight": torch.randn(channels, channels, 1, 1, generator=random),
        "mixing_bias": torch.randn(channels, generator=random),
    }


def tail_attributes(
    scale_map: ScaleMap, order: AffineOrder, *, clamp: float, channels: int
) -> dict[str, Any]:
    """FlowStepTail's attributes for step STEP."""
    return {
        "scale_map": scale_map,
        "order": order,
        "clamp": clamp,
        "begin": [STEP * channels],
        "end": [(STEP + 1) * channels],
    }


def tail_model(
    inputs: Inputs, scale_map: ScaleMap, order: AffineOrder, *, clamp: float
) -> onnx.ModelProto:
    """A model of one FlowStepTail node and its function."""
    attributes = tail_attributes(scale_map, order, clamp=clamp, channels=inputs["h"].shape[1])
    return op_model(inputs, attributes, scale_map=scale_map, order=order)


def op_model(
    inputs: Inputs,
    attributes: Mapping[str, Any],
    *,
    scale_map: ScaleMap = "tanh",
    order: AffineOrder = "scale_first",
    static: bool = False,
) -> onnx.ModelProto:
    """inputs → FlowStepTail → `out` with its function; all sizes are symbolic, except the
    channels."""
    values = [
        helper.make_tensor_value_info(
            name,
            _ELEMENT[tensor.dtype],
            [
                size if static or axis == 1 else f"{name}_{axis}"
                for axis, size in enumerate(tensor.shape)
            ],
        )
        for name, tensor in inputs.items()
    ]
    node = helper.make_node(
        "FlowStepTail", list(inputs), ["out"], domain="srflow", **attributes, **PLUGIN
    )
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "flow_op", values, [out])
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", flow_ops.OPSET)], ir_version=10
    )
    flow_ops.append_function(proto, scale_map=scale_map, order=order)
    return proto


def options(library: Path | None, *, threads: int = 2) -> ort.SessionOptions:
    """Options of a session with the native library, or with functions inlined."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.log_severity_level = 3
    if library is not None:
        chosen.register_custom_ops_library(str(library))
    return chosen


def run(
    proto: onnx.ModelProto, inputs: Inputs, library: Path | None, *, threads: int = 2
) -> np.ndarray:
    """What ONNX Runtime computes."""
    session = ort.InferenceSession(proto.SerializeToString(), options(library, threads=threads))
    output: np.ndarray = session.run(
        None, {name: tensor.numpy() for name, tensor in inputs.items()}
    )[0]
    return output


def to_double(inputs: Inputs) -> Inputs:
    """The same numbers as float64."""
    return {name: tensor.double() for name, tensor in inputs.items()}


def tail_size(
    inputs: Inputs, scale_map: ScaleMap, order: AffineOrder, *, clamp: float
) -> np.ndarray:
    """Sum of the magnitudes of everything that FlowStepTail adds up: float32's rounding is relative
    to it."""
    values = to_double(inputs)
    h = values["h"].abs()
    channels = inputs["h"].shape[1]
    shift, s = values["head"].chunk(2, dim=1)
    multiplier, addend = flow_ops.affine_inverse(
        shift, s, scale_map=scale_map, order=order, clamp=clamp
    )
    kept = channels // 2
    h = torch.cat([h[:, :kept], h[:, kept:] * multiplier + addend.abs()], dim=1)
    scale, offset = (
        values[name][:, STEP * channels : (STEP + 1) * channels].abs()
        for name in ("injector_scale", "injector_shift")
    )
    size: np.ndarray = F.conv2d(
        h * scale + offset, values["mixing_weight"].abs(), values["mixing_bias"].abs()
    ).numpy()
    return size
