"""Reads JSON values into dataclasses whose fields say what they may hold. Nothing is converted; true is no number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from srflow_sdk.system.plain_text import short

_T = TypeVar("_T")


def read_record(kind: type[_T], raw: object, place: str = "") -> _T:
    """A record from a JSON object. Those of its fields that the dataclass does not have are ignored.

    kind: a dataclass. Its fields with a default may be missing. place: what errors call the object, such as "files".
    Raises: ValueError: one line that names the field; OverflowError for an integer that no float holds.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place} is {short(raw)}, not an object")
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = f"{place}.{field.name}" if place else field.name
        if field.name in raw:
            values[field.name] = _value(hints[field.name], raw[field.name], name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"the field {name} is missing")
    return kind(**values)


def _value(kind: Any, value: Any, name: str) -> Any:
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if dataclasses.is_dataclass(outer):
        return read_record(outer, value, name)  # type: ignore[arg-type]
    if outer is UnionType:  # of something and None
        return None if value is None else _value(inner[0], value, name)
    if outer is Literal:
        if value not in inner:
            raise ValueError(f"{name} is {short(value)}, not one of {', '.join(inner)}")
        return value
    if outer in (tuple, list) and isinstance(value, list):
        kinds = inner if outer is tuple and inner[-1] is not ... else [inner[0]] * len(value)
        if len(kinds) == len(value):
            return outer(_value(*each, f"{name}[{at}]") for at, each in enumerate(zip(kinds, value, strict=True)))
    if outer in (Mapping, dict) and isinstance(value, dict):
        return {key: _value(inner[1], entry, f"{name}[{key!r}]") for key, entry in value.items()}
    if outer is float and type(value) in (int, float):
        return float(value)
    if outer is Any or type(value) is outer:
        return value
    raise ValueError(f"{name} has the wrong type ({type(value).__name__})")
