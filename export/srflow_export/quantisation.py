"""int8: round what the LR encoder's convolutions take.

Explicit QuantizeLinear and DequantizeLinear nodes (QDQ) on both inputs of a convolution: weights
int8, symmetric, by output channel; activations uint8 with a zero point, as they are mostly positive
behind (leaky) ReLUs. Nothing else is rounded: not the sums of the trunk, through which every
block's features pass (rounding those cost 9 dB), and not the results of convolutions. What a dense
block concatenates is rounded before that, once and with one range, so that runtimes concatenate
bytes. The first convolution, on the picture itself, and those of a `residual` network's own image
stay float32: they cost next to nothing. The sampler, which inverts the flow, is never quantised.

Why not a library: ONNX Runtime's tool rounds a tensor for all who take it, sums too, and gives each
concatenation a range of its own. NNCF's recipe came out 10 dB worse on an earlier embedded model.

Activations in int8 with zero point 0, which TensorRT wants, are as exact in ONNX Runtime (0.3 dB
less); OpenVINO 2026.4, however, computes convolutions on concatenations of them wrongly (13 dB on
an earlier embedded model).

A range is the one with the least mean fourth power of the rounding error. Percentiles cut rare
large values, which then come out wrong by far (28 to 40 dB on the worst patch of an earlier
embedded model, whose sums were rounded too); the widest range made steps coarse (44 dB), the square
still cut too much (43 dB), and the fourth power reached 46 dB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import resources

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image
from polygraphy.backend.onnx import modify_outputs
from polygraphy.backend.onnxrt import OnnxrtRunner

from srflow_export import onnx_models
from srflow_export.int8_layout import Array
from srflow_sdk.errors import ExportError
from srflow_training.model import SRFlow

_LARGE = 10_000_000
"""Parameters from which on a network is calibrated on fewer, smaller crops; embedded ones have up
to 6.5 million."""

Range = tuple[float, float]
"""The smallest and largest value that int8 must represent; 0 is between them."""

# of the crops on the sheet
_SIDE = 48
_COLUMNS = 4
_QUICK_SIDE = 32
_LEVELS = 255  # steps between the ends of a range
_BINS = 2048
_SHARES = np.linspace(0.4, 1.0, 13)  # of the largest value, tried as ends of a range
_SAMPLES = 16_384  # values of a tensor that a photograph contributes
_WEIGHT_STEPS = 127


def int8_encoder(model: SRFlow) -> onnx.ModelProto:
    """A network's encoder graph with integer convolutions, calibrated on the exporter's crops.

    Inputs and outputs are those of :func:`srflow_export.onnx_models.encoder_model` in float32.
    Deterministic.
    """
    multiple = model.config.size_multiple
    is_large = sum(parameter.numel() for parameter in model.parameters()) > _LARGE
    crops = (
        calibration_crops(multiple, side=_QUICK_SIDE)[::2]
        if is_large
        else calibration_crops(multiple)
    )
    return quantise_encoder(onnx_models.trace_quantisable_encoder(model, crops), crops)


def quantise_encoder(encoder: onnx.ModelProto, crops: Sequence[Array]) -> onnx.ModelProto:
    """Quantise a float32 encoder graph's convolutions but for the first, in place.

    crops: float32 1×3×h×w in [0, 1], from which activations get their ranges.

    Raises: ExportError if activations are not finite on them.
    """
    ranges = measure_ranges(encoder, crops)
    graph = encoder.graph
    produced = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    _, *convolutions = [
        node
        for node in graph.node
        if node.op_type == "Conv" and not node.input[1].startswith("own_image.")
    ]
    rounded: dict[str, Range] = {}  # tensor: its range
    places: list[_Place] = []
    # A dense block's longest concatenation has all its parts, and comes last.
    for node in reversed(convolutions):
        for taker, index in _find_places(node, 0, produced):
            rounded.setdefault(taker.input[index], ranges[node.input[0]])
            places.append((taker, index))
    for taker, index in places:
        if (name := taker.input[index]) in rounded:  # concatenations are met more than once
            taker.input[index] = f"{name}_rounded"
    for node in convolutions:
        weight = weights.pop(node.input[1])
        _store_in_int8(graph, weight)
        node.input[1] = f"{weight.name}_rounded"
    nodes = list(_insert_roundings(graph, rounded))
    del graph.node[:]
    graph.node.extend(nodes)
    return encoder


_Place = tuple[onnx.NodeProto, int]
"""An input of a node."""


def _find_places(
    node: onnx.NodeProto,
    index: int,
    produced: dict[str, onnx.NodeProto],
) -> Iterator[_Place]:
    """The place itself, or those of what it is concatenated from, in the end."""
    source = produced[node.input[index]]
    if source.op_type == "Concat":
        for part in range(len(source.input)):
            yield from _find_places(source, part, produced)
    else:
        yield node, index


def _store_in_int8(graph: onnx.GraphProto, weight: onnx.TensorProto) -> None:
    """Store a weight as int8 values with a step for each output channel."""
    values = numpy_helper.to_array(weight)
    step = np.abs(values).reshape(len(values), -1).max(axis=1) / _WEIGHT_STEPS
    step[step == 0] = 1
    integers = np.round(values / step.reshape(-1, 1, 1, 1)).astype(np.int8)
    names = _add_parameters(
        graph,
        weight.name,
        integers,
        step.astype(np.float32),
        np.zeros(len(step), np.int8),
    )
    graph.node.insert(
        0, helper.make_node("DequantizeLinear", names, [f"{weight.name}_rounded"], axis=0)
    )
    graph.initializer.remove(weight)


def _insert_roundings(
    graph: onnx.GraphProto, rounded: dict[str, Range]
) -> Iterator[onnx.NodeProto]:
    """The graph's nodes in order, and a rounding behind each that makes one of these tensors."""
    for node in list(graph.node):
        yield node
        for name in node.output:
            if name in rounded:
                low, high = rounded[name]
                step = np.float32((high - low) / _LEVELS) or np.float32(1)
                zero = np.array(np.round(-low / step), np.uint8)
                of = _add_parameters(graph, name, None, np.array(step), zero)[1:]
                yield helper.make_node("QuantizeLinear", [name, *of], [f"{name}_integers"])
                yield helper.make_node(
                    "DequantizeLinear",
                    [f"{name}_integers", *of],
                    [f"{name}_rounded"],
                )


def _add_parameters(
    graph: onnx.GraphProto,
    of: str,
    values: np.ndarray | None,
    step: np.ndarray,
    zero: np.ndarray,
) -> list[str]:
    """Put them into the graph; their names."""
    names = [f"{of}_{part}" for part in ("integers", "step", "zero")]
    for name, array in zip(names, (values, step, zero), strict=True):
        if array is not None:
            graph.initializer.append(numpy_helper.from_array(array, name))
    return names


def calibration_crops(size_multiple: int, *, side: int = _SIDE) -> list[Array]:
    """The LR crops that come with the exporter, float32 1×3×side×side in [0, 1], cut to a multiple.

    None is of one of the gate's photographs.
    """
    entry = resources.files("srflow_export") / "calibration" / "crops.png"
    with entry.open("rb") as file, Image.open(file) as image:
        sheet = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    side = max(side // size_multiple, 1) * size_multiple
    places = [
        (top, left)
        for top in range(0, sheet.shape[0], _SIDE)
        for left in range(0, _COLUMNS * _SIDE, _SIDE)
    ]
    return [
        np.ascontiguousarray(sheet[top : top + side, left : left + side].transpose(2, 0, 1)[None])
        for top, left in places
    ]


def measure_ranges(encoder: onnx.ModelProto, crops: Sequence[Array]) -> dict[str, Range]:
    """The range of every convolution's input by name. Deterministic.

    Raises: ExportError if one is not finite. That is a bad network, to which int8 cannot be fitted;
    `--also int8` then leaves it out.
    """
    names = sorted({node.input[0] for node in encoder.graph.node if node.op_type == "Conv"})
    watched = modify_outputs(encoder, outputs=[name for name in names if name != "lr"], copy=True)
    session = partial(
        onnxruntime.InferenceSession,
        watched.SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    samples: dict[str, list[Array]] = {name: [] for name in names}
    ends: dict[str, Range] = dict.fromkeys(names, (0.0, 0.0))
    with OnnxrtRunner(session) as runner:
        for lr in crops:
            for name, values in {**runner.infer({"lr": lr}), "lr": lr}.items():
                if not np.isfinite(values).all():
                    raise ExportError(
                        "the network's features are not finite on photographs, so int8 has no "
                        "ranges for them: train it further, or leave int8 out"
                    )
                low, high = ends[name]
                ends[name] = min(low, float(values.min())), max(high, float(values.max()))
                flat = values.reshape(-1)
                samples[name].append(flat[:: max(1, flat.size // _SAMPLES) | 1].copy())
    return {name: _choose_range(np.concatenate(samples[name]), ends[name]) for name in names}


def _choose_range(values: Array, ends: Range) -> Range:
    """The range with the least mean fourth power of the rounding error; both ends are tried."""
    low, high = ends
    if low == high:
        return ends
    counts, edges = np.histogram(values, bins=_BINS, range=ends)
    held = counts > 0
    counts = counts[held].astype(np.float64)
    middles = ((edges[:-1] + edges[1:]) / 2)[held]
    lows = low * _SHARES if low else np.zeros(1)
    highs = high * _SHARES if high else np.zeros(1)
    bottom, top = (grid.reshape(-1, 1) for grid in np.meshgrid(lows, highs, indexing="ij"))
    step = (top - bottom) / _LEVELS
    zero = np.round(-bottom / step)
    rounded = (np.clip(np.round(middles / step) + zero, 0, _LEVELS) - zero) * step
    best = int((((rounded - middles) ** 4) @ counts).argmin())
    return float(bottom[best, 0]), float(top[best, 0])
