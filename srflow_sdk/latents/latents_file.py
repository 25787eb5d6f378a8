"""Files of latents, in the safetensors format: tensors `level1`, `level2`, … in float32 and a few texts of metadata.

A file is eight bytes (the header's length N, little-endian), N bytes of JSON, and the tensors' values, one after the
other. The safetensors package reads and writes the same files, but holds them in memory twice; this module streams,
because latents are larger than their picture.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError
from srflow_sdk.latents.arrays import Levels, Shape, allocate
from srflow_sdk.system.atomic import write_atomically
from srflow_sdk.system.device_names import BUNDLE, ComputePrecision
from srflow_sdk.system.local_files import open_regular
from srflow_sdk.system.plain_text import short

_FORMAT = "srflow-latents"
_VERSION = "1"
_MAX_HEADER_BYTES = 1 << 16
_CHUNK_VALUES = 1 << 20
_TENSOR = re.compile(r"level([1-9][0-9]?)")
_SIZE = re.compile(r"[1-9][0-9]{0,9}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Described:
    """A file's metadata: size of the picture in pixels, digest of the model, nats, and the encoder's arithmetic."""

    height: int
    width: int
    model_sha256: str
    log_likelihood: float | None
    precision: ComputePrecision = BUNDLE


def write(path: Path, levels: Levels, described: Described) -> None:
    """Write a file at once or not at all. Raises: ImageError; an older file is then unchanged."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} cannot be written: it is a folder; name a file in it")
        values = (chunk.astype("<f4", copy=False).data for chunk in _chunks(levels.values()))
        write_atomically(path, _header(levels, described), *values)
    except FileNotFoundError as error:
        if path.parent.is_dir():  # of a kind that holds no files of users
            why = f"the folder {path.parent} takes no new files; name another"
        else:
            why = f"there is no folder {path.parent}; make it first"
        raise ImageError(f"{path} cannot be written: {why}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def read(path: Path) -> tuple[dict[int, NDArray[np.float32]], Described]:
    """Read a file that :func:`write` or safetensors wrote. Raises: ImageError, also for anything not exactly so."""
    try:
        with open_regular(path) as file:
            try:
                return _read(file)
            except _MalformedError as error:
                raise ImageError(f"{path} is not a file of latents: {error}; Latents.save writes one") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


class _MalformedError(Exception):
    """Why a file is refused."""


def _header(levels: Levels, described: Described) -> bytes:
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "model_sha256": described.model_sha256,
        "height": str(described.height),
        "width": str(described.width),
    }
    if described.log_likelihood is not None:
        metadata["log_likelihood"] = repr(described.log_likelihood)
    if described.precision != BUNDLE:
        metadata["precision"] = described.precision
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for level, array in levels.items():
        start, end = end, end + array.nbytes
        header[f"level{level}"] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    return struct.pack("<Q", len(text)) + text


def _chunks(arrays: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Windows of C-contiguous arrays' values, in order."""
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _CHUNK_VALUES):
            yield flat[start : start + _CHUNK_VALUES]


def _read(file: BinaryIO) -> tuple[dict[int, NDArray[np.float32]], Described]:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if len(prefix) < 8:
        raise _MalformedError(f"it has only {len(prefix)} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise _MalformedError("it does not begin with the length of a safetensors header")
    header = _parsed(file.read(length))
    described = _described(header.pop("__metadata__", None))
    tensors = sorted(_tensor(name, entry) for name, entry in header.items())
    _check_layout(tensors, size - 8 - length)
    levels = allocate({level: shape for _, _, level, shape in tensors})
    for chunk in _chunks(levels[level] for _, _, level, _ in tensors):
        if file.readinto(chunk.view(np.uint8).data) != chunk.nbytes:  # type: ignore[attr-defined]
            raise _MalformedError("it ends too early")
        chunk[...] = chunk.view("<f4")  # in this machine's order of bytes
    return levels, described


def _parsed(text: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise _MalformedError("its header names something twice")
        return result

    try:
        header = json.loads(text.decode(), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _MalformedError("its header is not JSON of safetensors")
    return header


def _described(metadata: object) -> Described:
    """The metadata as texts and numbers; :class:`Latents` checks what they may be."""
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise _MalformedError("it holds something else than latents")
    if metadata.get("format_version") != _VERSION:
        raise _MalformedError(
            f"its format_version is {short(metadata.get('format_version'))}; this SDK reads {_VERSION}"
        )
    has_likelihood = "log_likelihood" in metadata
    return Described(
        height=int(_number(metadata, "height", _SIZE, "pixels")),
        width=int(_number(metadata, "width", _SIZE, "pixels")),
        model_sha256=str(metadata.get("model_sha256")),
        log_likelihood=float(_number(metadata, "log_likelihood", _NUMBER, "nats")) if has_likelihood else None,
        precision=metadata.get("precision", BUNDLE),
    )


def _number(metadata: Mapping[str, object], name: str, pattern: re.Pattern[str], of: str) -> str:
    value = metadata.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _MalformedError(f"its {name} is {short(value)}, not a number of {of}")
    return value


def _tensor(name: str, entry: object) -> tuple[int, int, int, Shape]:
    """Where a tensor's values begin and end, its level and its shape."""
    named = _TENSOR.fullmatch(name)
    if not named:
        raise _MalformedError(f"it has a tensor {short(name)}; they are level1, level2, …")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"} or entry["dtype"] != "F32":
        raise _MalformedError(f"{name} is not a tensor of F32")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_are_integers(shape, 3) and _are_integers(offsets, 2) and min(shape) > 0):
        raise _MalformedError(f"{name} has no shape C×h×w and place in the file")
    if offsets[1] - offsets[0] != 4 * math.prod(shape):
        raise _MalformedError(f"{name} has a place of another size than its shape")
    return offsets[0], offsets[1], int(named[1]), tuple(shape)


def _check_layout(tensors: list[tuple[int, int, int, Shape]], size: int) -> None:
    """Refuse gaps, overlaps and places outside the file, so that reading in order reads everything once."""
    end = 0
    for start, next_start, level, _ in tensors:
        if start != end:
            raise _MalformedError(f"level{level} overlaps another tensor or leaves a gap")
        end = next_start
    if end != size:
        raise _MalformedError(f"its tensors need {end} bytes and it has {size}; perhaps it is cut off")


def _are_integers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(entry) is int and entry >= 0 for entry in value)
