"""Arrays of latents by level, C×h×w in float32: in memory, their positions, and files to keep.

A kept file has the safetensors layout: eight bytes (the header's length, little-endian), JSON, and
the tensors' values. The safetensors package reads and writes the same files, but holds them in
memory twice, and latents are large.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.plain_text import short
from srflow_sdk.system.interrupts import memory_errors_typed
from srflow_sdk.system.local_files import open_regular, write_atomically, writing_errors

Levels = Mapping[int, Floats]

_CHUNK = 1 << 19  # values computed at a time: 4 MB in float64
_MAX_HEADER_BYTES = 1 << 16
_TENSOR = re.compile(r"level([1-9][0-9]?)")


def allocate(shapes: Mapping[int, tuple[int, ...]]) -> dict[int, Floats]:
    """Writable arrays of zeros. Raises: OutOfMemoryError."""
    with memory_errors_typed("for the latents; close other programs or take a smaller picture"):
        return {level: np.zeros(shape, np.float32) for level, shape in sorted(shapes.items())}


def like(levels: Levels) -> dict[int, Floats]:
    """Writable arrays of zeros of the same shapes, as from :func:`allocate`."""
    return allocate({level: array.shape for level, array in levels.items()})


def read_only(levels: Levels) -> dict[int, Floats]:
    """Views of the same values that cannot be written."""
    views = {level: array.view() for level, array in levels.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def mask_positions(mask: NDArray[np.bool_], level: int) -> NDArray[np.bool_]:
    """The positions of a level, but for the padding, of which any pixel is inside a mask."""
    step = 1 << level
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0)
    return np.asarray(np.logical_or.reduceat(rows, np.arange(0, mask.shape[1], step), axis=1))


def row_chunks(array: Floats, rows: int) -> Iterator[slice]:
    """Cut the first `rows` rows of C×h×w into runs that bound what float64 copies of them take."""
    channels, _, width = array.shape
    step = max(1, _CHUNK // (channels * width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def write_file(path: Path, levels: Levels, about: Mapping[str, str]) -> None:
    """Write arrays and texts at once or not at all.

    Raises: ImageError; an older file is then unchanged.
    """
    header: dict[str, Any] = {
        "__metadata__": {"format": "srflow-latents", "format_version": "1", **about}
    }
    end = 0
    for level, array in levels.items():
        start, end = end, end + array.nbytes
        header[f"level{level}"] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    values = (array.reshape(-1).data for array in levels.values())
    with writing_errors(path):
        write_atomically(path, struct.pack("<Q", len(text)), text, *values)


def read_file(path: Path) -> tuple[dict[int, Floats], dict[str, Any]]:
    """Read arrays and texts that :func:`write_file` or safetensors wrote.

    Raises: ImageError for any other file.
    """
    try:
        with open_regular(path) as file:
            try:
                return _read(file)
            except (
                ValueError,
                TypeError,
                KeyError,
                AttributeError,
                RecursionError,
                struct.error,
            ) as error:
                why = (
                    error if type(error) is ValueError else "its header is not that of safetensors"
                )
                raise ImageError(
                    f"{path} is not a file of latents: {why}; Latents.save writes one"
                ) from error
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _read(file: BinaryIO) -> tuple[dict[int, Floats], dict[str, Any]]:
    """Raises: ValueError, which says why, or what Python raises, for a file that lies."""
    (length,) = struct.unpack("<Q", file.read(8))
    header = dict(json.loads(file.read(length if length <= _MAX_HEADER_BYTES else 0) or b"null"))
    about = header.pop("__metadata__", {})
    if (about.get("format"), about.get("format_version")) != ("srflow-latents", "1"):
        version = f"{short(about.get('format'))} {short(about.get('format_version'))}"
        raise ValueError(f"it holds {version}, not latents of version 1")
    shapes = dict[int, tuple[int, ...]]()
    end = 0
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        named = _TENSOR.fullmatch(name)
        shape = tuple(tensor["shape"])
        place = tensor["data_offsets"]
        if not named or tensor["dtype"] != "F32":
            raise ValueError(f"{short(name)} is no level of float32")
        if place != [end, end + 4 * math.prod(shape)]:
            raise ValueError(f"{name} has another size than its shape, or leaves a gap")
        shapes[int(named[1])], end = shape, place[1]
    size = os.fstat(file.fileno()).st_size - file.tell()
    if end != size:
        raise ValueError(f"its tensors need {end} bytes and it has {size}; perhaps it is cut off")
    levels = allocate(shapes)
    for level in shapes:  # in the order of their values
        file.readinto(levels[level].reshape(-1).data)  # type: ignore[attr-defined]
    return levels, about
