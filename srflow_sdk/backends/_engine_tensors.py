"""The input and output tensors of a deserialised TensorRT or TensorRT-RTX engine, and whether they are as expected.

Works on the library's own objects without importing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8"}


def type_name(dtype: Any) -> str:
    """numpy's name of a `trt.DataType`: "float32", "float16", "bfloat16", "int32" …; others in lower case."""
    return _TYPES.get(dtype.name, str(dtype.name).lower())


def tensor_types(engine: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Types of an engine's inputs and of its outputs, by tensor name."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        types = inputs if engine.get_tensor_mode(name).name == "INPUT" else outputs
        types[name] = type_name(engine.get_tensor_dtype(name))
    return inputs, outputs


def differences(kind: str, actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Say in words where the types of tensors differ from what is expected. kind: "input" or "output"."""
    faults = [f"{kind} {name} is missing" for name in expected if name not in actual]
    faults += [f"it has an unknown {kind} {name}" for name in actual if name not in expected]
    faults += [
        f"{kind} {name} is {actual[name]}, not {type_}"
        for name, type_ in expected.items()
        if name in actual and actual[name] != type_
    ]
    return faults
