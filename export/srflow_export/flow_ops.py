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

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnx
import torch
from onnx import AttributeProto, TensorProto, helper
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


@torch.library.custom_op(
    f"{DOMAIN}::flow_step_tail",
    mutates_args=(),
    schema="(Tensor h, Tensor head, Tensor injector_scale, Tensor injector_shift, Tensor mixing_weight, "
    "Tensor mixing_bias, *, int step, str scale_map, str order, float clamp) -> Tensor",
)
def flow_step_tail(
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
    """:func:`decoded_tail`; in an exported graph, a single FlowStepTail node."""
    inputs = (h, head, injector_scale, injector_shift, mixing_weight, mixing_bias)
    return decoded_tail(*inputs, step=step, scale_map=scale_map, order=order, clamp=clamp)


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


def _flow_step_tail_function(scale_map: ScaleMap, order: AffineOrder) -> onnx.FunctionProto:
    """FlowStepTail in standard operators: what :func:`flow_step_tail` computes, in float32."""
    node = helper.make_node
    minus_shift = node("Neg", ["shift"], ["minus_shift"])
    addend = {
        "scale_first": [minus_shift, node("Mul", ["minus_shift", "multiplier"], ["addend"])],
        "shift_first": [node("Neg", ["shift"], ["addend"])],
    }
    nodes = [
        _integers("channel_axis", 1),
        _integers("none", 0),
        node("Split", ["head"], ["raw_shift", "raw_s"], axis=1, num_outputs=2),
        *_widened("raw_shift", "shift"),
        *_widened("raw_s", "s"),
        # A function does not know C; h_B has as many channels as shift.
        node("Shape", ["h"], ["channels"], start=1, end=2),
        node("Shape", ["shift"], ["changed"], start=1, end=2),
        node("Sub", ["channels", "changed"], ["kept"]),
        node("Slice", ["h", "none", "kept", "channel_axis"], ["h_a"]),
        node("Slice", ["h", "kept", "channels", "channel_axis"], ["h_b"]),
        *_multiplier(scale_map),
        *addend[order],
        node("Mul", ["h_b", "multiplier"], ["scaled_h_b"]),
        node("Add", ["scaled_h_b", "addend"], ["decoded_h_b"]),
        node("Concat", ["h_a", "decoded_h_b"], ["decoded"], axis=1),
        _attribute("begin", AttributeProto.INTS, "begin_at"),
        _attribute("end", AttributeProto.INTS, "end_at"),
        node("Slice", ["injector_scale", "begin_at", "end_at", "channel_axis"], ["raw_scale"]),
        node("Slice", ["injector_shift", "begin_at", "end_at", "channel_axis"], ["raw_offset"]),
        *_widened("raw_scale", "scale"),
        *_widened("raw_offset", "offset"),
        node("Mul", ["decoded", "scale"], ["scaled"]),
        node("Add", ["scaled", "offset"], ["injected"]),
        node("Conv", ["injected", "mixing_weight", "mixing_bias"], ["out"]),
    ]
    inputs = ["h", "head", "injector_scale", "injector_shift", "mixing_weight", "mixing_bias"]
    return _function("FlowStepTail", inputs, nodes, ["scale_map", "order", "clamp", "begin", "end"])


def _unsqueeze_split_function(*, bounded: bool) -> onnx.FunctionProto:
    """UnsqueezeSplit in standard operators: what :func:`unsqueeze_split` computes, in float32."""
    node = helper.make_node
    bound = [
        _attribute("bound", AttributeProto.FLOAT, "bound_value"),
        node("Div", ["free_logs", "bound_value"], ["relative_logs"]),
        node("Tanh", ["relative_logs"], ["bounded_logs"]),
        node("Mul", ["bounded_logs", "bound_value"], ["logs"]),
    ]
    nodes = [
        node("DepthToSpace", ["h"], ["kept"], blocksize=2, mode="CRD"),
        node("Split", ["head"], ["raw_mean", "raw_logs"], axis=1, num_outputs=2),
        *_widened("raw_mean", "mean"),
        *_widened("raw_logs", "free_logs"),
        *(bound if bounded else []),
        node("Exp", ["logs" if bounded else "free_logs"], ["scale"]),
        _integers("pixel_axes", 1, 2, 3),
        node("Unsqueeze", ["tau", "pixel_axes"], ["temperature"]),
        node("Mul", ["temperature", "noise"], ["latent"]),
        node("Mul", ["scale", "latent"], ["scaled_latent"]),
        node("Add", ["mean", "scaled_latent"], ["drawn"]),
        node("Concat", ["kept", "drawn"], ["out"], axis=1),
    ]
    return _function("UnsqueezeSplit", ["h", "head", "noise", "tau"], nodes, ["bound"])


def _multiplier(scale_map: ScaleMap) -> list[onnx.NodeProto]:
    """`s` → `multiplier`, as in :func:`affine_inverse`; c comes from the attribute `clamp`."""
    node = helper.make_node
    if scale_map == "sigmoid":
        return [
            _number("two", 2.0),
            _number("smallest", 1e-4),
            _number("one", 1.0),
            node("Add", ["s", "two"], ["s_plus_2"]),
            node("Neg", ["s_plus_2"], ["minus_x"]),
            node("Exp", ["minus_x"], ["odds"]),
            node("Add", ["odds", "one"], ["one_and_odds"]),
            node("Div", ["one", "one_and_odds"], ["sigmoid"]),  # see exact_sigmoid
            node("Add", ["sigmoid", "smallest"], ["affine_scale"]),
            node("Div", ["one", "affine_scale"], ["multiplier"]),
        ]
    if scale_map == "exp":
        return [node("Neg", ["s"], ["minus_s"]), node("Exp", ["minus_s"], ["multiplier"])]
    return [
        _attribute("clamp", AttributeProto.FLOAT, "clamp_value"),
        node("Div", ["s", "clamp_value"], ["relative_s"]),
        node("Tanh", ["relative_s"], ["bounded_s"]),
        node("Mul", ["bounded_s", "clamp_value"], ["log_scale"]),
        node("Neg", ["log_scale"], ["minus_log_scale"]),
        node("Exp", ["minus_log_scale"], ["multiplier"]),
    ]


def _node(op: str, inputs: Iterable[str], **attributes: Any) -> onnx.NodeProto:
    """A flow op's node, without its output."""
    return helper.make_node(op, list(inputs), [], domain=DOMAIN, **attributes, **_PLUGIN)


def _function(
    name: str, inputs: Sequence[str], nodes: Sequence[onnx.NodeProto], attributes: Sequence[str]
) -> onnx.FunctionProto:
    """Declare all attributes that nodes carry, even those that only kernels and plugins read."""
    opsets = [helper.make_opsetid("", OPSET)]
    declared = [*attributes, *_PLUGIN]
    return helper.make_function(DOMAIN, name, list(inputs), ["out"], list(nodes), opsets, attributes=declared)


def _attribute(name: str, kind: AttributeProto.AttributeType, output: str) -> onnx.NodeProto:
    """The value of the function's attribute, a float or a list of integers, as a tensor."""
    constant = helper.make_node("Constant", [], [output])
    key = "value_float" if kind == AttributeProto.FLOAT else "value_ints"
    constant.attribute.append(AttributeProto(name=key, ref_attr_name=name, type=kind))
    return constant


def _integers(output: str, *values: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [output], value_ints=list(values))


def _number(output: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [output], value_float=value)


def _widened(raw: str, output: str) -> list[onnx.NodeProto]:
    """Conditioning may be float16; the flow is float32. Runtimes drop the cast if the value is float32 already."""
    return [helper.make_node("Cast", [raw], [output], to=TensorProto.FLOAT)]
