"""The flow ops: one step's tail, and unsqueeze with split, as single nodes of the exported graph.

In torch they are operators of their own. In an exported graph each becomes one node of domain `srflow`
(:data:`NODES`), which is also a model-local ONNX function in standard operators (:func:`append_functions`). A runtime
that knows the node runs its own kernel (`runtime/`: ONNX Runtime custom ops, TensorRT plugins); any other inlines the
function. TensorRT's parser looks plugins up by the node's name and the attributes `plugin_namespace` and
`plugin_version`.

A function's body cannot branch on an attribute's value, so each body is made for one scale map, order and kind of
split; a network has one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import onnx
import torch
from onnx import helper, parser
from torch import Tensor
from torch.nn import functional as F

from srflow_training.model.config import AffineOrder, ScaleMap
from srflow_training.model.layers import bounded

DOMAIN = "srflow"
_DOMAIN_VERSION = 1
OPSET = 18
_PLUGIN = {"plugin_namespace": DOMAIN, "plugin_version": "1"}


def affine_inverse(
    shift: Tensor, s: Tensor, *, scale_map: ScaleMap, order: AffineOrder, clamp: float
) -> tuple[Tensor, Tensor]:
    """Raw outputs of a conditional net → multiplier and addend of the decoding affine map, of the same shape.

    (h − shift)/scale (scale_first) or h/scale − shift (shift_first), as h·multiplier + addend. clamp: c of the tanh
    map; the others ignore it.
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

    ONNX Runtime's Sigmoid has an absolute error of 1e-7. Beside the 1e-4 of published networks' smallest scales that is
    1e-3, which costs graphs of networks with such scales tens of dB.
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
    """Decode a step after its coupling's last convolution (coupling, injector, mixing) in torch's operators: N×C×H×W.

    h: N×C×H×W, h_A its first ⌊C/2⌋ channels. head: N×2·(C−⌊C/2⌋)×H×W, [shift; s].
    injector_scale, injector_shift: the step's own, B×C×H×W, B is 1 or N, and step is 0; or those of several steps one
    after the other, as in bundles of older exporters: step `step` (from 0) reads channels step·C … (step+1)·C.
    mixing_weight: C×C×1×1; mixing_bias: C. clamp: c of the tanh map.

    head, injector_scale and injector_shift may be float16; they are widened to h's type before anything else.
    """
    channels = h.shape[1]
    begin, end = step * channels, (step + 1) * channels
    kept = channels // 2
    shift, s = head.to(h.dtype).chunk(2, dim=1)
    h_b, multiplier = h[:, kept:], _inverse_scale(s, scale_map=scale_map, clamp=clamp)
    h_b = (h_b - shift) * multiplier if order == "scale_first" else h_b * multiplier - shift
    h = torch.cat([h[:, :kept], h_b], dim=1)
    x = h * injector_scale[:, begin:end].to(h.dtype) + injector_shift[:, begin:end].to(h.dtype)
    return F.conv2d(x, mixing_weight, mixing_bias)


flow_step_tail = torch.library.custom_op(
    f"{DOMAIN}::flow_step_tail",
    mutates_args=(),
    schema="(Tensor h, Tensor head, Tensor injector_scale, Tensor injector_shift, Tensor mixing_weight, "
    "Tensor mixing_bias, *, int step, str scale_map, str order, float clamp) -> Tensor",
)(decoded_tail)
""":func:`decoded_tail`; in an exported graph, a single FlowStepTail node."""


@flow_step_tail.register_fake
def _(h: Tensor, *_inputs: Tensor, **_settings: Any) -> Tensor:
    return torch.empty_like(h)


def decoded_split(kept: Tensor, head: Tensor, noise: Tensor, tau: Tensor, *, bound: float | None) -> Tensor:
    """The inverse of a split, in torch's operators: [kept, mean + exp(logs)·tau·noise], N×(C1+C2)×H×W.

    kept: N×C1×H×W. head: N×2·C2×H×W, [mean; logs], the prior of `kept`; float16 is widened to its type.
    noise: N×C2×H×W, standard normal. tau: [1] or [N]. bound: logs become bound·tanh(logs/bound); None leaves them free.
    """
    mean, logs = head.to(kept.dtype).chunk(2, dim=1)
    latent = tau.reshape(-1, 1, 1, 1) * noise
    return torch.cat([kept, mean + torch.exp(bounded(logs, bound)) * latent], dim=1)


@torch.library.custom_op(
    f"{DOMAIN}::unsqueeze_split",
    mutates_args=(),
    schema="(Tensor h, Tensor head, Tensor noise, Tensor tau, *, float? bound) -> Tensor",
)
def unsqueeze_split(h: Tensor, head: Tensor, noise: Tensor, tau: Tensor, *, bound: float | None) -> Tensor:
    """The unsqueeze that ends a level's decoding, and :func:`decoded_split` of the next finer level, in one.

    h: N×4·C1×H/2×W/2, before the unsqueeze; head is the prior of the unsqueezed h. In an exported graph it is a single
    UnsqueezeSplit node.
    """
    return decoded_split(F.pixel_shuffle(h, 2), head, noise, tau, bound=bound)


@unsqueeze_split.register_fake
def _(h: Tensor, _head: Tensor, noise: Tensor, _tau: Tensor, **_settings: Any) -> Tensor:
    batch, drawn, height, width = noise.shape
    return noise.new_empty(batch, h.shape[1] // 4 + drawn, height, width)


def _flow_step_tail_node(arguments: dict[str, Any], result: Tensor) -> onnx.NodeProto:
    clamp, step, channels = arguments.pop("clamp"), arguments.pop("step"), result.shape[1]
    scale_map, order = arguments.pop("scale_map"), arguments.pop("order")
    return _node(
        "FlowStepTail",
        arguments.values(),
        scale_map=scale_map,
        order=order,
        clamp=float(clamp) if scale_map == "tanh" else 0.0,
        begin=[step * channels],
        end=[(step + 1) * channels],
    )


def _unsqueeze_split_node(arguments: dict[str, Any], _result: Tensor) -> onnx.NodeProto:
    bound = arguments.pop("bound")
    return _node("UnsqueezeSplit", arguments.values(), bound=0.0 if bound is None else float(bound))


NODES: dict[Any, Callable[[dict[str, Any], Tensor], onnx.NodeProto]] = {
    torch.ops.srflow.flow_step_tail.default: _flow_step_tail_node,
    torch.ops.srflow.unsqueeze_split.default: _unsqueeze_split_node,
}
"""How :func:`srflow_export.tracing.onnx_graph` writes these operators."""


def append_functions(proto: onnx.ModelProto, *, scale_map: ScaleMap, order: AffineOrder, split_bounded: bool) -> None:
    """Add the functions behind the model's flow ops, so that it runs everywhere. In place; no nodes, no change.

    split_bounded: whether the split's logs are bounded (`bound` is then an attribute of its nodes).
    """
    used = {node.op_type for node in proto.graph.node if node.domain == DOMAIN}
    functions = [_flow_step_tail_function(scale_map, order), _unsqueeze_split_function(bounded=split_bounded)]
    proto.functions.extend(function for function in functions if function.name in used)
    if used and DOMAIN not in {opset.domain for opset in proto.opset_import}:
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

_BOUNDED = """
    bound_value = Constant <value_float: float = @bound> ()
    relative_logs = Div (free_logs, bound_value)
    bounded_logs = Tanh (relative_logs)
    logs = Mul (bounded_logs, bound_value)"""


def _flow_step_tail_function(scale_map: ScaleMap, order: AffineOrder) -> onnx.FunctionProto:
    """FlowStepTail in standard operators: what :func:`flow_step_tail` computes, in float32.

    A function does not know C; h_B has as many channels as shift. Conditioning may be float16, and the flow is float32:
    runtimes drop the casts if the values are float32 already.
    """
    return _function(
        "FlowStepTail <scale_map, order, clamp, begin, end, plugin_namespace, plugin_version>"
        "(h, head, injector_scale, injector_shift, mixing_weight, mixing_bias) => (out)",
        f"""
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
    out = Conv (injected, mixing_weight, mixing_bias)""",
    )


def _unsqueeze_split_function(*, bounded: bool) -> onnx.FunctionProto:
    """UnsqueezeSplit in standard operators: what :func:`unsqueeze_split` computes, in float32."""
    return _function(
        "UnsqueezeSplit <bound, plugin_namespace, plugin_version>(h, head, noise, tau) => (out)",
        f"""
    kept = DepthToSpace <blocksize: int = 2, mode: string = "CRD"> (h)
    raw_mean, raw_logs = Split <axis: int = 1, num_outputs: int = 2> (head)
    mean = Cast <to: int = 1> (raw_mean)
    free_logs = Cast <to: int = 1> (raw_logs){_BOUNDED if bounded else ""}
    scale = Exp ({"logs" if bounded else "free_logs"})
    pixel_axes = Constant <value_ints: ints = [1, 2, 3]> ()
    temperature = Unsqueeze (tau, pixel_axes)
    latent = Mul (temperature, noise)
    scaled_latent = Mul (scale, latent)
    drawn = Add (mean, scaled_latent)
    out = Concat <axis: int = 1> (kept, drawn)""",
    )


def _function(head: str, body: str) -> onnx.FunctionProto:
    """Parse ONNX's text syntax. Functions declare all attributes of their nodes, also those that only plugins read."""
    function = parser.parse_function(f'<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">\n{head} {{{body}\n}}')
    for node in function.node:
        node.ClearField("domain")  # the parser writes the empty one, which is meant anyway
    return function


def _node(op: str, inputs: Iterable[str], **attributes: Any) -> onnx.NodeProto:
    """A flow op's node, without its output."""
    return helper.make_node(op, list(inputs), [], domain=DOMAIN, **attributes, **_PLUGIN)
