"""The ONNX files that engines are built from: read once, so that what is hashed is what is built, and rewritten.

No grouped convolution goes to TensorRT's builders, and none of a picture enlarged by repetition. Strongly typed
half-precision convolutions in groups may fail to build (NVIDIA/TensorRT issue 4838), so each group becomes a
convolution. A 3×3 convolution after nearest ×2 is the transposed 4×4 convolution of stride 2 whose taps sum those that
see the same pixel: 16 multiply-adds a pixel before enlarging instead of 36. Only engines are built so: ONNX Runtime and
OpenVINO are faster with the bundle's own files.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import external_data_helper, helper, numpy_helper

from srflow_sdk.errors import BundleError, ExportError
from srflow_sdk.model.engine_records import LrProfile

SAMPLES_AT_ONCE = 4
_TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
"""Which taps of a 3-convolution of the enlarged picture each tap of the transposed one sums."""

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
        inputs = {entry.name: _type_name(entry) for entry in self.inputs()}
        return inputs, {entry.name: _type_name(entry) for entry in self.model.graph.output}

    def input_shapes(self, profile: LrProfile, *, scale: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        """The smallest, best and largest shape of each input for these LR sizes, by name, for one image.

        The runtime draws one sample of it, or SAMPLES_AT_ONCE.

        Raises: BundleError for a tensor that the exporter never made, and for one without a fixed number of channels.
        """
        low, best, high = (
            {entry.name: self._shape(entry, size, scale, samples) for entry in self.inputs()}
            for size, samples in ((profile.min, 1), (profile.opt, SAMPLES_AT_ONCE), (profile.max, SAMPLES_AT_ONCE))
        )
        return {name: (shape, best[name], high[name]) for name, shape in low.items()}

    def _shape(self, entry: onnx.ValueInfoProto, size: tuple[int, int], scale: int, samples: int) -> Shape:
        """`lr` has LR size, `hr` HR size, `level{ℓ}_…` and `noise_level{ℓ}` HR/2^ℓ."""
        dimensions, level = entry.type.tensor_type.shape.dim, _LEVEL.fullmatch(entry.name)
        if entry.name == "tau" and len(dimensions) == 1:
            return (samples,)
        channels = dimensions[1].dim_value if len(dimensions) == 4 else 0
        if not channels or not (level or entry.name in ("lr", "hr")):
            raise BundleError(
                f"{self.name}: the tensor {entry.name} is not one that srflow-export gives its graphs, so its sizes "
                "are unknown; export the checkpoint again with srflow-export"
            )
        factor, divisor = 1 if entry.name == "lr" else scale, 1 << int(level[1]) if level else 1
        batch = samples if entry.name.startswith("noise_") else 1
        return (batch, channels, *(factor * side // divisor for side in size))

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """Its inputs, without the weights that old files list among them."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return [entry for entry in self.model.graph.input if entry.name not in weights]


def read_graph(path: Path, *, precision: str) -> Graph:
    """Read an ONNX file. Raises: ExportError if it cannot be read, or is not an ONNX graph."""
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, onnx.checker.ValidationError) as error:  # the second for weights behind a link
        raise ExportError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); export the checkpoint first"
        ) from error
    except DecodeError as error:
        raise ExportError(f"{path} is not an ONNX graph; export the checkpoint again with srflow-export") from error
    return Graph(name=path.name, precision=precision, content=content, model=rewritten(model))


def _type_name(entry: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes the same: exactly, but for the rounding of summed weights to their type."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Rewriter(result.graph).rewrite()
    return result


def with_h_a(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose FlowStepTails give h_A in half precision too, where a Slice and a Cast make it for a coupling.

    For plugins alone (runtime/tensorrt/ops.h): the operation's function has one output.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
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
        replaced = [node.op_type for node in casts] == ["Cast"] and _settings(casts[0])[
            "to"
        ] == onnx.TensorProto.FLOAT16
        tail.attribute.append(helper.make_attribute("h_a", int(replaced)))
        if replaced:
            tail.output.append(casts[0].output[0])
            for node in (*cuts, *casts):
                nodes.remove(node)
    return result


class _Rewriter:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Cast" and node.input[0] in self._weights:  # weights that are kept in half precision
                type_ = helper.tensor_dtype_to_np_dtype(_settings(node)["to"])
                self._weight(node.output[0], self._array(node.input[0]).astype(type_))
        self._doubled = {node.output[0]: node.input[0] for node in graph.node if self._doubles(node)}

    def rewrite(self) -> None:
        """Replace the graph's nodes, and the weights that they use."""
        nodes = [
            new for node in self._graph.node if node.output[0] not in self._weights for new in self._instead_of(node)
        ]
        used = {name for node in nodes for name in node.input} | {value.name for value in self._graph.output}
        nodes = [node for node in nodes if not used.isdisjoint(node.output)]
        used = {name for node in nodes for name in node.input}
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(tensor for name, tensor in self._weights.items() if name in used)

    def _instead_of(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        if node.op_type != "Conv" or not all(name in self._weights for name in node.input[1:]):
            yield node
            return
        settings, kernel = _settings(node), self._array(node.input[1])
        if settings.get("group", 1) > 1 and kernel.shape[1] > 1:
            yield from self._by_group(node, settings)
        elif node.input[0] in self._doubled and kernel.shape[2:] == (3, 3) and _is_plain(settings):
            summed = np.einsum("ky,oiyx,lx->iokl", _TAPS, kernel.astype(np.float32), _TAPS).astype(kernel.dtype)
            inputs = [self._doubled[node.input[0]], self._weight(f"{node.output[0]}/kernel", summed), *node.input[2:]]
            yield helper.make_node("ConvTranspose", inputs, node.output, node.name, strides=[2, 2], pads=[1] * 4)
        else:
            yield node

    def _by_group(self, node: onnx.NodeProto, settings: dict[str, Any]) -> Iterator[onnx.NodeProto]:
        count, output = settings["group"], node.output[0]
        weights = [np.split(self._array(name), count) for name in node.input[1:]]
        sizes = self._weight(f"{output}/sizes", np.full(count, weights[0][0].shape[1], np.int64))
        parts, results = ([f"{output}/{kind}{index}" for index in range(count)] for kind in ("in", "out"))
        yield helper.make_node("Split", [node.input[0], sizes], parts, f"{node.name}/split", axis=1)
        for index, (part, result) in enumerate(zip(parts, results, strict=True)):
            own = [self._weight(f"{result}/{which}", arrays[index]) for which, arrays in enumerate(weights)]
            yield helper.make_node("Conv", [part, *own], [result], f"{node.name}/{index}", **{**settings, "group": 1})
        yield helper.make_node("Concat", results, [output], f"{node.name}/concat", axis=1)

    def _doubles(self, node: onnx.NodeProto) -> bool:
        """True if it is a Resize that repeats each pixel in a square of 2×2."""
        how = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        if node.op_type != "Resize" or _settings(node) != how or len(node.input) != 3:
            return False
        return node.input[2] in self._weights and self._array(node.input[2]).tolist() == [1, 1, 2, 2]

    def _weight(self, name: str, array: NDArray[Any]) -> str:
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._weights[name])


def _is_plain(settings: dict[str, Any]) -> bool:
    """True for a convolution that keeps the size, of stride 1."""
    strides: Sequence[int] = [*settings.get("strides", [1, 1]), *settings.get("dilations", [1, 1])]
    return settings.get("group", 1) == 1 and set(strides) == {1} and settings.get("pads") == [1] * 4


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
