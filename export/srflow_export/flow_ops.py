"""The flow op: a step after its coupling's last convolution, as one node of the graph.

In torch it is an operator of its own. In an exported graph it becomes one node of domain `srflow`
(:data:`NODES`), which is also a model-local ONNX function in standard operators
(:func:`append_function`). A runtime that knows the node runs its own kernel (`runtime/`: ONNX
Runtime custom op, TensorRT plugin); any other inlines the function. TensorRT's parser looks plugins
up by the node's name and the attributes `plugin_namespace` and `plugin_version`.

A function's body cannot branch on an attribute's value, so it is made for one scale map and order;
a network has one of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import helper, parser
from torch import Tensor
from torch.nn import functional as F

from srflow_training.model.config import AffineOrder, ScaleMap

DOMAIN = "srflow"
_DOMAIN_VERSION = 1
OPSET = 18


def affine_inverse(
    shift: Tensor,
    s: Tensor,
    *,
    scale_map: ScaleMap,
    order: AffineOrder,
    clamp: float,
) -> tuple[Tensor, Tensor]:
    """Raw outputs of a conditional net → multiplier and addend of the decoding affine map.

    (h − shift)/scale (scale_first) or h/scale − shift (shift_first), as h·multiplier + addend.
    clamp: c of the tanh map; the others ignore it.
    """
    multiplier = _inverse_scale(s, scale_map=scale_map, clamp=clamp)
    return multiplier, -shift * multiplier if order == "scale_first" else -shift


def _inverse_scale(s: Tensor, *, scale_map: ScaleMap, clamp: float) -> Tensor:
    """The factor of the decoding affine map, for a conditional net's raw output s."""
    if scale_map == "exp":
        return torch.exp(-s)
    if scale_map == "sigmoid":
        return torch.reciprocal(exact_sigmoid(s + 2) + 1e-4)
    return torch.exp(torch.tanh(s / clamp) * -clamp)


def exact_sigmoid(x: Tensor) -> Tensor:
    """The logistic function with a relative error of rounding alone.

    ONNX Runtime's Sigmoid has an absolute error of 1e-7. Beside the 1e-4 of published networks'
    smallest scales that is 1e-3, which costs graphs of networks with such scales tens of dB.
    """
    return torch.reciprocal(torch.exp(-x) + 1)


def decoded_tail(
    h: Tensor,
    head: Tensor,
    injector_scale: Tensor,
    injector_shift: Tensor,
    mixing_weight: Tensor,
    mixing_bias: Tensor,
    *,
    step: int,
    scale_map: ScaleMap,
    order: AffineOrder,
    clamp: float,
) -> Tensor:
    """Decode a step after its coupling's last convolution, in torch's operators: N×C×H×W.

    h: N×C×H×W, h_A its first ⌊C/2⌋ channels. head: N×2·(C−⌊C/2⌋)×H×W, [shift; s].
    injector_scale, injector_shift: the step's own, B×C×H×W, B is 1 or N, and step is 0; or those of
    several steps one
    after the other, as in bundles of older exporters: step `step` (from 0) reads channels step·C …
    (step+1)·C.
    mixing_weight: C×C×1×1; mixing_bias: C. clamp: c of the tanh map.

    head, injector_scale and injector_shift may be float16; they are widened to h's type once they
    are cut, so that engines keep them in half precision.
    """
    channels = h.shape[1]
    begin = step * channels
    end = (step + 1) * channels
    kept = channels // 2
    shift, s = (part.to(h.dtype) for part in head.chunk(2, dim=1))
    h_b = h[:, kept:]
    multiplier = _inverse_scale(s, scale_map=scale_map, clamp=clamp)
    h_b = (h_b - shift) * multiplier if order == "scale_first" else h_b * multiplier - shift
    h = torch.cat([h[:, :kept], h_b], dim=1)
    x = h * injector_scale[:, begin:end].to(h.dtype) + injector_shift[:, begin:end].to(h.dtype)
    return F.conv2d(x, mixing_weight, mixing_bias)


flow_step_tail = torch.library.custom_op(
    f"{DOMAIN}::flow_step_tail",
    mutates_args=(),
    schema="(Tensor h, Tensor head, Tensor injector_scale, Tensor injector_shift, Tensor "
    "mixing_weight, Tensor mixing_bias, *, int step, str scale_map, str order, float clamp) -> "
    "Tensor",
)(decoded_tail)
""":func:`decoded_tail`; in an exported graph, a single FlowStepTail node."""


@flow_step_tail.register_fake
def _(h: Tensor, *_inputs: Tensor, **_settings: Any) -> Tensor:
    return torch.empty_like(h)


def _flow_step_tail_node(arguments: dict[str, Any], result: Tensor) -> onnx.NodeProto:
    clamp = arguments.pop("clamp")
    step = arguments.pop("step")
    channels = result.shape[1]
    scale_map = arguments.pop("scale_map")
    order = arguments.pop("order")
    return helper.make_node(
        "FlowStepTail",
        list(arguments.values()),
        [],
        domain=DOMAIN,
        scale_map=scale_map,
        order=order,
        clamp=float(clamp) if scale_map == "tanh" else 0.0,
        begin=[step * channels],
        end=[(step + 1) * channels],
        plugin_namespace=DOMAIN,
        plugin_version="1",
    )


NODES: dict[Any, Callable[[dict[str, Any], Tensor], onnx.NodeProto]] = {
    torch.ops.srflow.flow_step_tail.default: _flow_step_tail_node,
}
"""How :func:`srflow_export.tracing.onnx_graph` writes this operator, but for its output."""


def append_function(proto: onnx.ModelProto, *, scale_map: ScaleMap, order: AffineOrder) -> None:
    """Add the function behind a model's flow ops, if it has any, so that it runs everywhere."""
    if any(node.domain == DOMAIN for node in proto.graph.node):
        proto.functions.append(_flow_step_tail_function(scale_map, order))
        proto.opset_import.append(helper.make_opsetid(DOMAIN, _DOMAIN_VERSION))


_MULTIPLIERS: dict[ScaleMap, str] = {
    "sigmoid": """
    two = Constant <value_float: float = 2.0> ()
    smallest = Constant <value_float: float = 0.0001> ()
    one = Constant <value_float: float = 1.0> ()
    s_plus_2 = Add (s, two)
    minus_x = Neg (s_plus_2)
    odds = Exp (minus_x)
    one_and_odds = Add (odds, one)
    sigmoid = Div (one, one_and_odds)
    affine_scale = Add (sigmoid, smallest)
    multiplier = Div (one, affine_scale)""",  # see exact_sigmoid
    "exp": """
    minus_s = Neg (s)
    multiplier = Exp (minus_s)""",
    "tanh": """
    clamp_value = Constant <value_float: float = @clamp> ()
    relative_s = Div (s, clamp_value)
    bounded_s = Tanh (relative_s)
    log_scale = Mul (bounded_s, clamp_value)
    minus_log_scale = Neg (log_scale)
    multiplier = Exp (minus_log_scale)""",
}
"""`s` → `multiplier`, as in :func:`affine_inverse`; c comes from the attribute `clamp`."""

_ADDENDS: dict[AffineOrder, str] = {
    "scale_first": """
    minus_shift = Neg (shift)
    addend = Mul (minus_shift, multiplier)""",
    "shift_first": """
    addend = Neg (shift)""",
}


def _flow_step_tail_function(scale_map: ScaleMap, order: AffineOrder) -> onnx.FunctionProto:
    """FlowStepTail in standard operators: what :func:`flow_step_tail` computes, in float32.

    It declares all attributes of its nodes, also those that only plugins read. A function does not
    know C; h_B has as many channels as shift. Conditioning may be float16, and the flow is float32:
    runtimes drop the casts if the values are float32 already.
    """
    function = parser.parse_function(f"""<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
    FlowStepTail <scale_map, order, clamp, begin, end, plugin_namespace, plugin_version>
    (h, head, injector_scale, injector_shift, mixing_weight, mixing_bias) => (out) {{
    channel_axis = Constant <value_ints: ints = [1]> ()
    none = Constant <value_ints: ints = [0]> ()
    raw_shift, raw_s = Split <axis: int = 1, num_outputs: int = 2> (head)
    shift = Cast <to: int = 1> (raw_shift)
    s = Cast <to: int = 1> (raw_s)
    channels = Shape <end: int = 2, start: int = 1> (h)
    changed = Shape <end: int = 2, start: int = 1> (shift)
    kept = Sub (channels, changed)
    h_a = Slice (h, none, kept, channel_axis)
    h_b = Slice (h, kept, channels, channel_axis){_MULTIPLIERS[scale_map]}{_ADDENDS[order]}
    scaled_h_b = Mul (h_b, multiplier)
    decoded_h_b = Add (scaled_h_b, addend)
    decoded = Concat <axis: int = 1> (h_a, decoded_h_b)
    begin_at = Constant <value_ints: ints = @begin> ()
    end_at = Constant <value_ints: ints = @end> ()
    raw_scale = Slice (injector_scale, begin_at, end_at, channel_axis)
    raw_offset = Slice (injector_shift, begin_at, end_at, channel_axis)
    scale = Cast <to: int = 1> (raw_scale)
    offset = Cast <to: int = 1> (raw_offset)
    scaled = Mul (decoded, scale)
    injected = Add (scaled, offset)
    out = Conv (injected, mixing_weight, mixing_bias)
    }}""")
    for node in function.node:
        node.ClearField("domain")  # the parser writes the empty one, which is meant anyway
    return function
