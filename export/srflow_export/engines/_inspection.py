"""Read from the inspector of a TensorRT or TensorRT-RTX engine which types its layers compute in.

Works on the library's own objects without importing it: `trt` is the module `tensorrt` or `tensorrt_rtx`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# The inspector describes a tensor in words, such as "Half" or "Row major linear FP16 format"; the first match counts.
_TYPE_WORDS = (
    (re.compile(r"bf16|bfloat16", re.IGNORECASE), "bfloat16"),
    (re.compile(r"fp16|float16|half", re.IGNORECASE), "float16"),
    (re.compile(r"fp8|float8", re.IGNORECASE), "float8"),
    (re.compile(r"fp32|float", re.IGNORECASE), "float32"),
    (re.compile(r"int8", re.IGNORECASE), "int8"),
    (re.compile(r"int32", re.IGNORECASE), "int32"),
    (re.compile(r"int64", re.IGNORECASE), "int64"),
    (re.compile(r"bool", re.IGNORECASE), "bool"),
)

_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8"}

# Layers that move or convert values and compute nothing.
_MOVING = {"reformat", "noop", "cast", "constant", "shuffle", "identity", "copy", "slice"}


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """The contents of an engine.

    inputs, outputs: types of its input and output tensors by name, such as {"lr": "float32"}.
    layers: how many it has. convolutions: how many of its convolutions compute in each type, such as {"float16": 351};
    computing: the same for all layers that compute, by the types of their results. Both are empty if the engine was
    built without detailed profiling verbosity, and so only names its layers. plugins: how many layers of a parsed
    network are plugins.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    layers: int
    convolutions: Mapping[str, int]
    computing: Mapping[str, int]
    plugins: int = 0


def inspect_engine(trt: Any, engine: Any) -> EngineReport:
    """Ask an engine's own inspector what it contains. Needs the GPU that the engine is for, to create a context.

    Shapes are set to the first profile's best ones; without shapes, the inspector leaves out the types of tensors.
    """
    inputs, outputs = tensor_types(engine)
    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context()
    if context is not None:
        for name in inputs:
            context.set_input_shape(name, engine.get_tensor_profile_shape(name, 0)[1])
        inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    convolutions, computing = layer_types(text)
    return EngineReport(
        inputs=inputs, outputs=outputs, layers=engine.num_layers, convolutions=convolutions, computing=computing
    )


def layer_types(information: str) -> tuple[dict[str, int], dict[str, int]]:
    """Count the convolutions, and all computing layers, of each type in an inspector's JSON.

    A layer without a type counts as "unknown". Layers that are only names are not counted.
    """
    convolutions: Counter[str] = Counter()
    computing: Counter[str] = Counter()
    for entry in json.loads(information).get("Layers", []):
        if not isinstance(entry, dict):
            continue  # a name: the engine was built without detailed verbosity
        kind = str(entry.get("LayerType", "")).lower()
        if kind in _MOVING:
            continue
        if "conv" in kind or entry.get("ParameterType") == "Convolution":
            weights = entry.get("Weights")
            said = [weights] if isinstance(weights, dict) else _tensors(entry, "Inputs")
            convolutions[_said_type(said)] += 1
        computing[_said_type(_tensors(entry, "Outputs"))] += 1
    return dict(convolutions), dict(computing)


def _tensors(described: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    entries = described.get(side)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _said_type(entries: Iterable[Mapping[str, Any]]) -> str:
    """The first type named in descriptions of tensors or weights."""
    for entry in entries:
        # Tensors have "Format/Datatype" in 10.x, "DataType" and "Format" in 11; weights have "Type".
        fields = {key.lower(): str(value) for key, value in entry.items()}
        for field in ("type", "datatype", "format/datatype", "format"):
            for words, name in _TYPE_WORDS:
                if words.search(fields.get(field, "")):
                    return name
    return "unknown"


def type_name(dtype: Any) -> str:
    """numpy's name of a `trt.DataType`: "float32", "float16", "bfloat16", "int32" …; others in lower case."""
    return _TYPES.get(dtype.name, str(dtype.name).lower())


def tensor_types(engine: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Types of an engine's inputs and of its outputs, by tensor name."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        types = inputs if engine.get_tensor_mode(name).name == "INPUT" else outputs
        types[name] = type_name(engine.get_tensor_dtype(name))
    return inputs, outputs
