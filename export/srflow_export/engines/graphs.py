"""The ONNX files that engines are built from: read once, so that what is hashed is what is built, and rewritten.

No grouped convolution goes to TensorRT's builders: strongly typed half-precision convolutions in groups may fail to
build (NVIDIA/TensorRT issue 4838), so each group becomes a convolution. The groups of an encoder are a level's steps:
what lies between two of them, and from there to the step's own outputs, is done by step too, so that nothing is joined
in order to be split again. Phases (:mod:`srflow_export.on_features`) become one transposed convolution, with nothing to
interleave. Only engines are built so: OpenVINO is faster with the bundle's own files.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import external_data_helper, helper, numpy_helper

from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import LrProfile

SAMPLES_AT_ONCE = 4
PLUGINS_ABI = 2  # of srflow/srflow.h: the plugins that take what with_h_a makes
_POINTWISE = {"Relu", "Cast", "Exp", "Log", "Neg", "Tanh", "Reciprocal", "Add", "Sub", "Mul", "Div"}

_LEVEL = re.compile(r"(?:noise_)?level([0-9]{1,2})(?:_[a-z0-9_]+)?", re.ASCII)

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX graph to build an engine from.

    name: its file's name, for lines of progress and errors. precision: it was exported in "fp32", "fp16" or "bf16".
    content: the file's bytes. model: what is built, see :func:`rewritten`.
    """

    name: str
    precision: str
    content: bytes
    model: onnx.ModelProto

    @property
    def sha256(self) -> str:
        """Hexadecimal hash of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def flow_nodes(self) -> int:
        """How many nodes it has that may run as plugins, see :mod:`srflow_export.flow_ops`."""
        return sum(node.domain == "srflow" for node in self.model.graph.node)

    def types(self) -> tuple[dict[str, str], dict[str, str]]:
        """Types of its inputs and of its outputs, by name, such as {"lr": "float32"}."""
        inputs = {entry.name: _type_name(entry) for entry in self.model.graph.input}
        return inputs, {entry.name: _type_name(entry) for entry in self.model.graph.output}

    def input_shapes(self, profile: LrProfile, *, scale: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        """The smallest, best and largest shape of each input for these LR sizes, by name, for one image.

        The runtime draws one sample of it, or SAMPLES_AT_ONCE.
        """
        low, best, high = (
            {entry.name: self._shape(entry, size, scale, samples) for entry in self.model.graph.input}
            for size, samples in ((profile.min, 1), (profile.opt, SAMPLES_AT_ONCE), (profile.max, SAMPLES_AT_ONCE))
        )
        return {name: (shape, best[name], high[name]) for name, shape in low.items()}

    def _shape(self, entry: onnx.ValueInfoProto, size: tuple[int, int], scale: int, samples: int) -> Shape:
        """`lr` has LR size, `hr` HR size, `level{ℓ}_…` and `noise_level{ℓ}` HR/2^ℓ."""
        dimensions, level = entry.type.tensor_type.shape.dim, _LEVEL.fullmatch(entry.name)
        if entry.name == "tau":
            return (samples,)
        factor, divisor = 1 if entry.name == "lr" else scale, 1 << int(level[1]) if level else 1
        batch = samples if entry.name.startswith("noise_") else 1
        return (batch, dimensions[1].dim_value, *(factor * side // divisor for side in size))


def read_graph(path: Path, *, precision: str) -> Graph:
    """Read an ONNX file. Raises: ExportError if it cannot be read."""
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, onnx.checker.ValidationError, DecodeError) as error:  # the second for weights behind a link
        raise ExportError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); export the checkpoint again"
        ) from error
    return Graph(name=path.name, precision=precision, content=content, model=rewritten(model))


def _type_name(entry: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes the same: exactly, but for the rounding of summed weights to their type."""
    result = copy.deepcopy(model)
    _Rewriter(result.graph).rewrite()
    return result


def with_h_a(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose FlowStepTails give h_A in half precision too, where a Slice and a Cast make it for a coupling.

    For plugins alone (runtime/tensorrt/ops.h): the operation's function has one output.
    """
    result = copy.deepcopy(model)
    nodes, weights = result.graph.node, {tensor.name: tensor for tensor in result.graph.initializer}
    readers = defaultdict(list)
    for node in nodes:
        for name in node.input:
            readers[name].append(node)
    for tail in [node for node in nodes if node.op_type == "FlowStepTail"]:
        limits = [[0], [weights[tail.input[5]].dims[0] // 2], [1], [1]]
        cuts = [node for node in readers[tail.output[0]] if node.op_type == "Slice"]
        cuts = [
            cut for cut in cuts if [numpy_helper.to_array(weights[name]).tolist() for name in cut.input[1:]] == limits
        ]
        casts = [node for cut in cuts for node in readers[cut.output[0]]]
        half = [("Cast", onnx.TensorProto.FLOAT16)]
        replaced = [(node.op_type, _settings(node).get("to")) for node in casts] == half
        tail.attribute.append(helper.make_attribute("h_a", int(replaced)))
        if replaced:
            tail.output.append(casts[0].output[0])
            for node in (*cuts, *casts):
                nodes.remove(node)
    return result


class _Rewriter:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._nodes: list[onnx.NodeProto] = []
        self._producers: dict[str, onnx.NodeProto] = {name: node for node in graph.node for name in node.output}
        self._parts: dict[tuple[str, int, int], str] = {}  # of channels: of what, which and of how many
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Cast" and node.input[0] in self._weights:  # weights that are kept in half precision
                type_ = helper.tensor_dtype_to_np_dtype(_settings(node)["to"])
                self._weight(node.output[0], self._array(node.input[0]).astype(type_))

    def rewrite(self) -> None:
        """Replace the graph's nodes, and the weights that they use."""
        for node in self._graph.node:
            if node.output[0] not in self._weights:
                self._replace(node)
        used, nodes = {value.name for value in self._graph.output}, []
        for node in reversed(self._nodes):
            if not used.isdisjoint(node.output):
                used.update(node.input)
                nodes.append(node)
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(nodes))
        self._graph.initializer.extend(tensor for name, tensor in self._weights.items() if name in used)

    def _replace(self, node: onnx.NodeProto) -> None:
        settings, count, output = _settings(node), len(node.output), node.output[0]
        if node.op_type == "Split" and count > 1 and settings.get("axis") == 1 and self._by_part(node.input[0], count):
            for index, part in enumerate(node.output):
                self._part(node.input[0], index, count, part)
        elif (count := settings.get("group", 1)) > 1 and self._by_part(output, count):
            parts = [self._part(output, index, count) for index in range(count)]
            self._nodes.append(helper.make_node("Concat", parts, [output], node.name, axis=1))
        elif not ((phases := self._phases(node)) and self._joined(phases, output)):
            self._nodes.append(node)

    def _by_part(self, name: str, count: int) -> bool:
        """Whether so many equal parts of a tensor's channels are computed apart: by groups of a convolution."""
        node = self._producers.get(name)
        if node is not None and node.op_type == "Conv":
            known = all(weight in self._weights for weight in node.input[1:])
            return known and _settings(node).get("group", 1) == count and self._weights[node.input[1]].dims[1] > 1
        if node is not None and (halved := self._halved(node, count)):
            return self._by_part(halved[0], count)
        if node is None or node.op_type not in _POINTWISE:
            return False
        constants = [self._array(each) for each in node.input if each in self._weights]
        tensors = [each for each in node.input if each not in self._weights]
        return all(each.size == 1 for each in constants) and all(self._by_part(each, count) for each in tensors)

    def _part(self, name: str, index: int, count: int, called: str = "") -> str:
        """Add what computes one of so many equal parts of a tensor's channels; returns its name."""
        key, node = (name, index, count), self._producers.get(name)
        if key in self._parts:
            return self._add("Identity", [self._parts[key]], called) if called else self._parts[key]
        if node is None or not self._by_part(name, count):
            parts = [f"{name}/{at}of{count}" for at in range(count)]
            self._parts |= {(name, at, count): part for at, part in enumerate(parts)}
            self._nodes.append(helper.make_node("Split", [name], parts, f"{name}/split", axis=1, num_outputs=count))
            return self._part(name, index, count, called)
        if halved := self._halved(node, count):
            whole, half = halved
            self._parts[key] = self._part(self._part(whole, index, count), half, 2)
            return self._part(name, index, count, called)
        self._parts[key] = result = called or f"{name}/{index}of{count}"
        inputs, settings = list(node.input), _settings(node)
        if node.op_type == "Conv":
            settings["group"] = 1
            for at, weight in enumerate(inputs[1:], 1):
                inputs[at] = self._weight(f"{result}/{at}", np.split(self._array(weight), count)[index])
        inputs = [each if each in self._weights else self._part(each, index, count) for each in inputs]
        return self._add(node.op_type, inputs, result, **settings)

    def _halved(self, node: onnx.NodeProto, count: int) -> tuple[str, int] | None:
        """For all first or all second halves of a tensor's parts, as of injectors' heads: that tensor, and which."""
        split = self._producers.get(node.input[0]) if node.op_type == "Reshape" else None
        rows = self._inputs(split.input[0], "Reshape") if split is not None and split.op_type == "Split" else []
        shape = self._array(rows[1]).tolist() if rows and rows[1] in self._weights else []
        if split is None or len(split.output) != 2 or shape != [0, count, -1, 0]:
            return None
        return rows[0], list(split.output).index(node.input[0])

    def _phases(self, node: onnx.NodeProto) -> list[list[str]]:
        """What srflow_export.on_features.interleaved makes this of, by columns of a cell; nothing for other nodes."""
        stacked = self._inputs(node.input[0], "Concat") if node.op_type == "Reshape" else []
        columns = [self._inputs("".join(self._inputs(each, "Unsqueeze")[:1]), "Concat") for each in stacked]
        return columns if all(len(column) == len(columns) for column in columns) else []

    def _joined(self, columns: list[list[str]], called: str = "") -> str:
        """Add what computes phases as one tensor, with nothing to interleave; returns its name, "" if it cannot be."""
        if not all(name in self._producers for column in columns for name in column):
            return ""
        cell = [[self._producers[name] for name in column] for column in columns]
        nodes = [node for column in cell for node in column]
        factor, result = len(columns), called or f"{columns[0][0]}/joined"
        first, settings = nodes[0], _settings(nodes[0])
        if len({node.op_type for node in nodes}) > 1 or first.op_type not in ("Relu", "Add", "Conv"):
            return ""

        def joined_input(at: int) -> str:
            return self._joined([[node.input[at] for node in column] for column in cell])

        if first.op_type != "Conv":
            inputs = [joined_input(at) for at in range(len(first.input))]
            return self._add(first.op_type, inputs, result) if all(inputs) else ""
        sources, weights = {self._source(node) for node in nodes}, {tuple(node.input[1:]) for node in nodes}
        kernel = self._array(first.input[1])
        if len(weights) == 1 and kernel.shape[2:] == (1, 1):
            if source := joined_input(0):
                self._replace(self._made("Conv", [source, *first.input[1:]], result, **settings))
            return result if source else ""
        if len(sources) > 1:
            return ""
        if len(weights) == 1 and settings.get("strides") == [factor, factor]:  # of a picture that is as large already
            settings |= {"strides": [1, 1], "pads": [1] * 4}
            return self._add("Conv", [*sources, *first.input[1:]], result, **settings)
        taps = np.zeros((factor + 2, factor + 2, *kernel.shape[:2]), kernel.dtype)
        for x, column in enumerate(cell):
            for y, node in enumerate(column):
                kernel, (top, left, *_) = self._array(node.input[1]), _settings(node).get("pads", [0] * 4)
                for i, j in np.ndindex(kernel.shape[2:]):
                    taps[factor * (top - i) + y + 1, factor * (left - j) + x + 1] = kernel[:, :, i, j]
        inputs = [*sources, self._weight(f"{result}/kernel", taps.transpose(3, 2, 0, 1)), *first.input[2:]]
        return self._add("ConvTranspose", inputs, result, strides=[factor, factor], pads=[1] * 4)

    def _source(self, node: onnx.NodeProto) -> str:
        """What a node reads, before slices of it."""
        while self._inputs(node.input[0], "Slice"):
            node = self._producers[node.input[0]]
        return str(node.input[0])

    def _inputs(self, name: str, op: str) -> list[str]:
        """The inputs of what computes a tensor, if it is such a node."""
        node = self._producers.get(name)
        return list(node.input) if node is not None and node.op_type == op else []

    def _made(self, op: str, inputs: Sequence[str], output: str, **settings: Any) -> onnx.NodeProto:
        self._producers[output] = helper.make_node(op, inputs, [output], output, **settings)
        return self._producers[output]

    def _add(self, op: str, inputs: Sequence[str], output: str, **settings: Any) -> str:
        self._nodes.append(self._made(op, inputs, output, **settings))
        return output

    def _weight(self, name: str, array: NDArray[Any]) -> str:
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._weights[name])


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
