"""The ONNX files that engines are built from: read once, so that what is hashed is what is built.

Convolutions stay in groups: TensorRT 11.2 may not build those in half precision (NVIDIA/TensorRT
issue 4838), but without groups, TensorRT-RTX 1.7 takes three times as many kernels.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper, helper

from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import LrProfile

PLUGINS_ABI = 4  # of srflow/srflow.h: the plugins that take what convert_for_plugins makes
_LEVEL = re.compile(r"(?:noise_)?level([0-9]{1,2})(?:_[a-z0-9_]+)?", re.ASCII)

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An ONNX graph to build an engine from.

    name: its file's name, for lines of progress and errors. precision: it was exported in "fp32",
    "fp16" or "bf16".
    content: the file's bytes. model: what is in them.
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

    def input_shapes(
        self, profile: LrProfile, *, scale: int
    ) -> dict[str, tuple[Shape, Shape, Shape]]:
        """Return each input's smallest, best and largest shape, of one image and one sample.

        For more samples at once than images, builders fuse less: TensorRT-RTX 1.7 adds a kernel to
            each coupling.
        """
        sizes = profile.min, profile.opt, profile.max
        low, best, high = (
            {entry.name: self._shape(entry, size, scale) for entry in self.model.graph.input}
            for size in sizes
        )
        return {name: (shape, best[name], high[name]) for name, shape in low.items()}

    def _shape(self, entry: onnx.ValueInfoProto, size: tuple[int, int], scale: int) -> Shape:
        """`lr` has LR size, `hr` HR size, `level{ℓ}_…` and `noise_level{ℓ}` HR/2^ℓ."""
        dimensions = entry.type.tensor_type.shape.dim
        level = _LEVEL.fullmatch(entry.name)
        if entry.name == "tau":
            return (1,)
        factor = 1 if entry.name == "lr" else scale
        divisor = 1 << int(level[1]) if level else 1
        return (1, dimensions[1].dim_value, *(factor * side // divisor for side in size))


def read_graph(path: Path, *, precision: str) -> Graph:
    """Read an ONNX file. Raises: ExportError if it cannot be read."""
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (
        OSError,
        onnx.checker.ValidationError,
        DecodeError,
    ) as error:  # the second for weights behind a link
        raise ExportError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); export the "
            "checkpoint again"
        ) from error
    return Graph(name=path.name, precision=precision, content=content, model=model)


def _type_name(entry: onnx.ValueInfoProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))


def convert_for_plugins(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose flow operations read heads as convolutions write them, with channels last.

    They also give h_A so, in half precision, where a Slice and a Cast make it for a coupling. A
    builder makes nothing of the transpositions. For plugins alone (runtime/tensorrt/ops.h): the
    operation's function knows neither.
    """
    result = copy.deepcopy(model)
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    replaced = list[onnx.NodeProto]()
    del result.graph.node[:]
    for node in model.graph.node:
        if node in replaced:
            continue
        own = result.graph.node.add()
        own.CopyFrom(node)
        if node.domain != "srflow":
            continue
        own.input[1] = f"{node.output[0]}/head"
        to_last = helper.make_node(
            "Transpose",
            [node.input[1]],
            [own.input[1]],
            own.input[1],
            perm=[0, 2, 3, 1],
        )
        own.attribute.append(helper.make_attribute("channels_last", 1))
        result.graph.node.insert(len(result.graph.node) - 1, to_last)
        cuts = [reader for reader in readers[node.output[0]] if reader.op_type == "Slice"]
        casts = [reader for cut in cuts for reader in readers[cut.output[0]]]
        if [cast.op_type for cast in casts] == ["Cast"]:
            own.attribute.append(helper.make_attribute("h_a", 1))
            own.output.append(f"{node.output[0]}/h_a")
            result.graph.node.append(
                helper.make_node("Transpose", own.output[1:], casts[0].output, perm=[0, 3, 1, 2])
            )
            replaced += cuts + casts
    return result
